"""Fidelity: how much of what the original network says about some images its sub-network still says.

1. Divergence: the objective, image by image; for classifiers also ``KL(p || q)`` in nats (Eq. 5).
2. Drop: ``p[y] - q[y]``, the decrease of the probability of the original class ``y = argmax p``.
3. Agreement: the share of images with ``argmax q = y``.
4. Quotient: ``Q = (q[y] - max_{z != y} q[z]) / (p[y] - max_{z != y} p[z])`` (Eq. 9); below 0 the prediction has
   changed. It explodes when the denominator is near 0: such images are passed over and counted.
5. Accuracy of both networks, where labels are known.

Only outputs are compared, so any two networks will do. Equations are those of the NeuroChains paper.

Shapes: N images, K outputs; p and q are the probabilities that original and sub-network give.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.objectives import OBJECTIVES, Objective, find_objective
from neurochains.chains.plain import plain
from neurochains.errors import DataError

__all__ = ["Fidelity", "PerImage", "Quotients", "has_classes", "measure_outputs", "quotient"]

LEAST_MARGIN = 1e-6
"""Least margin of the original, the denominator of the quotient, for which the quotient is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class PerImage:
    """The measures of each image, ``(N,)`` on the CPU; all but the divergence are None where outputs are no classes.

    `quotient` is NaN where the original is undecided, and `agree` is boolean.
    """

    divergence: Tensor
    kl: Tensor | None = None
    drop: Tensor | None = None
    agree: Tensor | None = None
    quotient: Tensor | None = None

    def to_json(self) -> dict[str, list[Any] | None]:
        """Return one list for each measure, with None for NaN."""
        return plain(asdict(self))


@dataclass(frozen=True, slots=True)
class Quotients:
    """The quotients of Eq. 9 over the images: share below 0, quartiles; `skipped` images were undecided.

    The share and the quartiles are None when all were.
    """

    negative: float | None
    lower: float | None
    median: float | None
    upper: float | None
    skipped: int

    @property
    def spread(self) -> float | None:
        """The interquartile range."""
        return None if self.upper is None or self.lower is None else self.upper - self.lower

    def to_json(self) -> dict[str, float | None]:
        """Return the share below 0, median, interquartile range and the number of images passed over."""
        return {"negative": self.negative, "median": self.median, "iqr": self.spread, "skipped": self.skipped}


@dataclass(frozen=True, slots=True, eq=False)
class Fidelity:
    """How faithful a sub-network is on `images` images: means over them, unless the name says otherwise.

    All but the divergence is None where the outputs are no classes; accuracies also where no label is known.
    """

    images: int
    divergence: float
    divergence_median: float
    per_image: PerImage
    kl: float | None = None
    kl_median: float | None = None
    drop: float | None = None
    agreement: float | None = None
    quotients: Quotients | None = None
    accuracy: float | None = None
    accuracy_original: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, without those of each image."""
        quotients = self.quotients or Quotients(None, None, None, None, 0)
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("per_image", "quotients")}
        return plain({**numbers, **{f"quotient_{name}": value for name, value in quotients.to_json().items()}})


def measure_outputs(
    original: Tensor, sub: Tensor, labels: Tensor | None = None, *, objective: str | Objective = "kl"
) -> Fidelity:
    """Return how faithful the outputs of a sub-network are to those of the original.

    The outputs count as logits of classes unless the objective is ``"mse"`` or ``"cosine"``, or there is but one.

    Args:
        original: ``(N, K)``, the original's outputs.
        sub: ``(N, K)``, the sub-network's.
        labels: ``(N,)``, the true classes, -1 where unknown.
        objective: what the divergence is: a name in `OBJECTIVES`, or a callable.

    Raises:
        DataError: the shapes do not fit.
        SettingsError: there is no such objective.
    """
    _check(original, sub, labels)
    diverge, classes = find_objective(objective), has_classes(original, objective)
    original, sub = (outputs.detach().cpu().double() for outputs in (original, sub))
    divergence = diverge(sub, original).detach()
    means = (float(divergence.mean()), float(divergence.quantile(0.5)))
    if not classes:
        return Fidelity(len(original), *means, PerImage(divergence))
    each = _class_measures(original, sub)
    numbers: dict[str, Any] = {
        "kl": float(each["kl"].mean()),
        "kl_median": float(each["kl"].quantile(0.5)),
        "drop": float(each["drop"].mean()),
        "agreement": float(each["agree"].double().mean()),
        "quotients": _quotients(each["quotient"]),
        "accuracy": _accuracy(sub, labels),
        "accuracy_original": _accuracy(original, labels),
    }
    return Fidelity(len(original), *means, PerImage(divergence, **each), **numbers)


def has_classes(outputs: Tensor, objective: str | Objective) -> bool:
    """Return whether outputs ``(N, K)`` count as logits of classes."""
    return outputs.shape[-1] > 1 and find_objective(objective) not in (OBJECTIVES["mse"], OBJECTIVES["cosine"])


def quotient(original: Tensor, sub: Tensor) -> Tensor:
    """Return Q of Eq. 9 for logits ``(N, K)``: ``(N,)``, NaN where the original's margin is below 1e-6."""
    p, q = original.softmax(-1), sub.softmax(-1)
    first = p.argmax(-1, keepdim=True)
    margin = _margin(p, first)
    return torch.where(margin < LEAST_MARGIN, math.nan, _margin(q, first) / margin)


def _margin(probabilities: Tensor, first: Tensor) -> Tensor:
    """Return by how much the probability of one class exceeds the largest of the others."""
    others = probabilities.scatter(-1, first, -math.inf)
    return probabilities.gather(-1, first).squeeze(-1) - others.amax(-1)


def _class_measures(original: Tensor, sub: Tensor) -> dict[str, Tensor]:
    """Return the measures of `PerImage` that take classes."""
    p, q = original.softmax(-1), sub.softmax(-1)
    first = p.argmax(-1, keepdim=True)
    return {
        "kl": OBJECTIVES["kl"](sub, original),
        "drop": (p.gather(-1, first) - q.gather(-1, first)).squeeze(-1),
        "agree": q.argmax(-1) == first.squeeze(-1),
        "quotient": quotient(original, sub),
    }


def _quotients(values: Tensor) -> Quotients:
    taken = values[~values.isnan()]
    skipped = len(values) - len(taken)
    if not len(taken):
        return Quotients(None, None, None, None, skipped)
    lower, median, upper = taken.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=taken.dtype)).tolist()
    return Quotients(float((taken < 0).double().mean()), lower, median, upper, skipped)


def _accuracy(outputs: Tensor, labels: Tensor | None) -> float | None:
    known = [] if labels is None else [row for row, label in enumerate(labels.tolist()) if label >= 0]
    if labels is None or not known:
        return None
    return float((outputs[known].argmax(-1) == labels.cpu()[known]).double().mean())


def _check(original: Tensor, sub: Tensor, labels: Tensor | None) -> None:
    if original.ndim != 2 or sub.shape != original.shape or not len(original):
        raise DataError(
            "Wanted the outputs (N, K) of both networks on the same images, at least one, "
            f"but got {tuple(original.shape)} and {tuple(sub.shape)}."
        )
    if labels is not None and labels.shape != original.shape[:1]:
        raise DataError(f"Wanted one label for each of {len(original)} images, but got {tuple(labels.shape)}.")
