"""Removal: what each filter's absence does, against its score (E2, E2b, E3b of the papers' analyses).

Each kept filter is left out in turn, exactly. With p of the original, q of the sub-network and r of what is left
without the filter, all on the same images and y the original's class:

- drop: mean of ``q[y] - r[y]`` (E2);
- change: mean of ``KL(q || r)``, before and after (E2b); it is compared as log10;
- negative: share of images with a quotient Q (Eq. 9) of r below 0, the prediction having changed (E3b).

A point is a filter of a sub-network. Intervals are over sub-networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.ablation import Variants, leave_one_out_outputs
from neurochains.chains.objectives import OBJECTIVES
from neurochains.chains.parity import in_batches
from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.errors import DataError
from neurochains.measures.cases import Case, Chains, Model, cases_of, measure
from neurochains.measures.faithfulness import Correlation, correlate
from neurochains.measures.fidelity import quotient
from neurochains.measures.intervals import Interval, bootstrap
from neurochains.network.layers import Filter

__all__ = ["Bin", "Removal", "Removed", "measure_removal"]

LEAST_CHANGE = 1e-9
QUANTITIES = ("drop", "change", "negative")


@dataclass(frozen=True, slots=True, eq=False)
class Removed:
    """The filters of one sub-network, ``(n,)`` each."""

    filters: tuple[Filter, ...]
    score: Tensor
    drop: Tensor
    change: Tensor
    negative: Tensor

    def values(self, name: str) -> Tensor:
        """Return one of the quantities as it is compared with the score: the change as log10."""
        found: Tensor = getattr(self, name)
        return found.clamp_min(LEAST_CHANGE).log10() if name == "change" else found


@dataclass(frozen=True, slots=True)
class Bin:
    """The filters with scores from `low` up to `high`: how many, and their mean with its interval."""

    low: float
    high: float
    filters: int
    mean: Interval


@dataclass(frozen=True, slots=True, eq=False)
class Removal:
    """What the absence of filters does, sub-network by sub-network."""

    removed: tuple[Removed, ...]

    def correlation(self, name: str) -> Correlation:
        """Return how a quantity goes with the score over the filters of all sub-networks."""
        return _correlation(self.removed, name)

    def interval(self, name: str, kind: str = "pearson") -> Interval:
        """Return Pearson's or Spearman's correlation, or the slope, with its interval over the sub-networks."""
        return bootstrap(self.removed, lambda drawn: getattr(_correlation(drawn, name), kind), draws=300)

    def bins(self, name: str, *, count: int = 8) -> list[Bin]:
        """Return the means of a quantity by score, in bins of equally many filters, as in the paper's Figure 2."""
        scores = torch.cat([part.score for part in self.removed]).double()
        edges = torch.unique(torch.quantile(scores, torch.linspace(0, 1, count + 1, dtype=torch.float64)))
        pairs = list(zip(edges.tolist(), edges.tolist()[1:])) or [(float(edges[0]), float(edges[0]))]
        return [self._bin(name, low, high, last=high == pairs[-1][1]) for low, high in pairs]

    def _bin(self, name: str, low: float, high: float, *, last: bool) -> Bin:
        inside = [
            (part.score >= low) & ((part.score <= high) if last else (part.score < high)) for part in self.removed
        ]
        groups = [part.values(name)[chosen] for part, chosen in zip(self.removed, inside) if chosen.any()]
        mean = bootstrap(groups, lambda drawn: float(torch.cat(list(drawn)).mean()), draws=300)
        return Bin(low, high, sum(len(group) for group in groups), mean)

    def to_json(self) -> dict[str, Any]:
        """Return the correlations of each quantity with the score, with intervals, and its means by score."""
        kinds = ("pearson", "spearman", "slope")
        found: dict[str, Any] = {"subnetworks": len(self.removed), "points": sum(len(p.score) for p in self.removed)}
        for name in QUANTITIES:
            bins = [{"low": b.low, "high": b.high, "filters": b.filters, **b.mean.to_json()} for b in self.bins(name)]
            found[name] = {**{kind: self.interval(name, kind).to_json() for kind in kinds}, "bins": bins}
        return plain(found)


@measure("removal")
def measure_removal(model: Model, chain: Chains, task: Task | None = None) -> Removal:
    """Return what leaving out each filter does; see `neurochains.measures.cases.cases_of`.

    Raises:
        DataError: the outputs are no classes.
    """
    return Removal(tuple(_removed(case) for case in cases_of(model, chain, task)))


def _removed(case: Case) -> Removed:
    network, images = case.network, case.task.images
    if network.outputs < 2:
        raise DataError(f"Removal compares probabilities of classes, but this model has {network.outputs} output.")
    original, small = in_batches(network, images), case.scores.compact(network)
    before = in_batches(lambda batch: small(network.check(batch)), images)
    units: list[Filter] = []
    rows: list[Tensor] = []
    with torch.no_grad():
        for some in leave_one_out_outputs(network, images, case.scores):
            units += [Filter(some.layer, int(index)) for index in some.units]
            rows.append(_quantities(some, original, before))
    drop, change, negative = torch.cat(rows).unbind(1) if rows else torch.zeros(3, 0)
    score = torch.tensor([float(case.scores.units[unit.layer][unit.index]) for unit in units])
    return Removed(tuple(units), score, drop, change, negative)


def _quantities(some: Variants, original: Tensor, before: Tensor) -> Tensor:
    """Return drop, change and share of changed predictions ``(V, 3)`` for some filters of a layer."""
    first = original.argmax(-1, keepdim=True)
    sure = before.softmax(-1).gather(-1, first).mean()
    found = []
    for outputs in some.outputs.cpu():
        left = outputs.softmax(-1).gather(-1, first).mean()
        quotients = quotient(original, outputs)
        known = quotients[~quotients.isnan()]
        share = (known < 0).float().mean() if len(known) else torch.tensor(torch.nan)
        found.append(torch.stack([sure - left, OBJECTIVES["kl"](outputs, before).mean(), share]))
    return torch.stack(found)


def _correlation(removed: Sequence[Removed], name: str) -> Correlation:
    scores = torch.cat([part.score for part in removed])
    return correlate(scores, torch.cat([part.values(name) for part in removed]))
