"""Baselines (E4): chains beside sub-networks of the same size, by magnitude and at random, with the same refit.

The paper's Figure 3 counts the samples with ``KL <= .8`` and with ``KL >= 1.5``; here both samples and sub-networks (by
their mean KL) are counted, on the images given and on those held out. The baselines are those of
`neurochains.measures.controls`: by layer (as many as the chain keeps there) and over all layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.errors import DataError
from neurochains.measures.cases import Case, Chains, Model, cases_of, measure
from neurochains.measures.controls import measure_controls
from neurochains.measures.intervals import Interval, bootstrap, interval_of_mean
from neurochains.measures.tasks import TaskFidelity, compare_tasks, run_scores, run_task

__all__ = ["Baselines", "measure_baselines"]

CHAIN = "chain"
LOW, HIGH = 0.8, 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Baselines:
    """The KL of each image for each method, ``"chain"`` first: `given` and `held_out`, one ``(N,)`` a sub-network.

    `held_out` is empty where a task holds none out.
    """

    given: Mapping[str, tuple[Tensor, ...]]
    held_out: Mapping[str, tuple[Tensor, ...]]

    def mean(self, method: str, *, held_out: bool = False) -> Interval:
        """Return the mean over sub-networks of their mean KL."""
        return interval_of_mean([float(kl.mean()) for kl in self._values(method, held_out)])

    def share(self, method: str, low: float, high: float, *, held_out: bool = False) -> Interval:
        """Return the share of sub-networks whose mean KL lies in [low, high]."""
        means = [float(kl.mean()) for kl in self._values(method, held_out)]
        return interval_of_mean([float(low <= mean <= high) for mean in means])

    def share_of_images(self, method: str, low: float, high: float, *, held_out: bool = False) -> Interval:
        """Return the share of images whose KL lies in [low, high], with its interval over sub-networks."""

        def inside(groups: Sequence[Tensor]) -> float:
            joined = torch.cat(list(groups))
            return float(((joined >= low) & (joined <= high)).double().mean())

        return bootstrap(self._values(method, held_out), inside, draws=500)

    def _values(self, method: str, held_out: bool) -> tuple[Tensor, ...]:
        return (self.held_out if held_out else self.given)[method]

    def to_json(self) -> dict[str, Any]:
        """Return, for each method, the mean KL and the shares of the paper's figure, with their intervals."""
        parts = {"given": self.given, **({"held_out": self.held_out} if self.held_out else {})}
        return plain({part: {name: self._summary(name, part == "held_out") for name in parts[part]} for part in parts})

    def _summary(self, method: str, held_out: bool) -> dict[str, Any]:
        infinite = float("inf")
        return {
            "kl": self.mean(method, held_out=held_out).to_json(),
            "share_low": self.share(method, 0, LOW, held_out=held_out).to_json(),
            "share_high": self.share(method, HIGH, infinite, held_out=held_out).to_json(),
            "images_low": self.share_of_images(method, 0, LOW, held_out=held_out).to_json(),
            "images_high": self.share_of_images(method, HIGH, infinite, held_out=held_out).to_json(),
        }


@measure("baselines")
def measure_baselines(
    model: Model,
    chain: Chains,
    task: Task | None = None,
    *,
    names: Sequence[str] = ("random", "random_global", "activation", "activation_global"),
    steps: int = 60,
    seed: int = 0,
) -> Baselines:
    """Return the KL of chains and of their baselines; see `neurochains.measures.cases.cases_of`.

    Args:
        model: the model of the chains, or None.
        chain: one or several.
        task: what is measured and refitted on; None for each chain's own.
        names: which controls; see `neurochains.measures.CONTROLS`.
        steps: of their refit.
        seed: what is drawn at random; each chain draws by its own.

    Raises:
        SettingsError: there is no such control.
        DataError: the outputs are no classes.
    """
    found = [_measured(case, names, steps, seed + number) for number, case in enumerate(cases_of(model, chain, task))]
    methods = (CHAIN, *names)
    given = {name: tuple(_kl(one[name]) for one in found) for name in methods}
    if any(one[CHAIN].held_out is None for one in found):
        return Baselines(given, {})
    return Baselines(given, {name: tuple(_kl(one[name], held_out=True) for one in found) for name in methods})


def _measured(case: Case, names: Sequence[str], steps: int, seed: int) -> dict[str, TaskFidelity]:
    original = run_task(case.network, case.task)
    own = compare_tasks(original, run_scores(case.network, case.task, case.scores), case.task)
    others = measure_controls(
        case.network, case.task, case.scores, steps=steps, seed=seed, names=names, original=original
    )
    return {CHAIN: own, **others}


def _kl(found: TaskFidelity, *, held_out: bool = False) -> Tensor:
    part = found.held_out if held_out else found.given
    if part is None or part.per_image.kl is None:
        raise DataError("Baselines compare the KL of classifiers, but the outputs of this model are no classes.")
    return part.per_image.kl
