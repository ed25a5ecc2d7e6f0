"""How the shares of filter states answer to the weight of one loss: the same training, once for each value (Fig. E)."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from neurochains.decoupling.costs import path_costs
from neurochains.decoupling.decoupled import Decoupled
from neurochains.decoupling.losses import LossWeights
from neurochains.decoupling.training import train_decoupled
from neurochains.errors import SettingsError, did_you_mean

__all__ = ["Response", "lambda_response"]

Lambda = Literal["mi", "kl", "sparse"]
_NAMES = ("mi", "kl", "sparse")


@dataclass(frozen=True, slots=True)
class Response:
    """What one training came to.

    Attributes:
        name, value: the weight that was changed, and to what.
        accuracy: on the images for evaluation.
        on: the mean share of filters that an image uses.
        shares: of ``dynamic``, ``silent`` and ``energetic`` filters.
        macs: the mean multiply-accumulates of an image as a share of the original's.
    """

    name: str
    value: float
    accuracy: float
    on: float
    shares: dict[str, float]
    macs: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


def lambda_response(
    decoupled: Decoupled,
    train: Any,
    evaluation: tuple[Tensor, Tensor],
    name: Lambda,
    values: Sequence[float],
    *,
    loss: LossWeights | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[Response], None] | None = None,
    **training: Any,
) -> list[Response]:
    """Return what trainings come to that differ in the weight of one loss, in the order of its values.

    Each starts from the same network, which is not changed.

    Args:
        decoupled: where all start.
        train: the training images, as `train_decoupled` takes them.
        evaluation: images ``(N, C, H, W)`` as the network takes them, and labels ``(N,)``, to measure on.
        name: which weight: ``"mi"``, ``"kl"`` or ``"sparse"``.
        values: its values.
        loss: the other weights.
        out: a folder, in which each value has one of its own for checkpoint and logs; trainings that are there go on,
            and those that are finished are only measured. Nothing is written if None.
        progress: is called with each `Response`.
        training: what else `train_decoupled` takes, such as `val`, `settings` and `augment`.

    Raises:
        SettingsError: there is no such weight, no value, or a value is out of range.
    """
    if name not in _NAMES:
        raise SettingsError(
            f"Wanted a weight of {', '.join(_NAMES)}; got {name!r}. {did_you_mean(name, _NAMES)}".rstrip()
        )
    if not values:
        raise SettingsError(f"Wanted at least one value of {name}; got none.")
    weights = [replace(loss or LossWeights(), **{name: value}) for value in values]
    answers = []
    for value, chosen in zip(values, weights, strict=True):
        place = {} if out is None else {"out": Path(out) / f"{name}={value:g}", "resume": True}
        trained = train_decoupled(copy.deepcopy(decoupled), train, loss=chosen, **place, **training)
        answers.append(_measured(trained, evaluation, name, value))
        if progress is not None:
            progress(answers[-1])
    return answers


def _measured(trained: Decoupled, evaluation: tuple[Tensor, Tensor], name: str, value: float) -> Response:
    images, labels = evaluation
    states, costs = trained.states(images), path_costs(trained, trained.codes(images))
    accuracy = float((trained.predict(images).argmax(1) == labels.cpu()).double().mean())
    return Response(name, value, accuracy, states.mean_on, states.shares, costs.mean / costs.original)
