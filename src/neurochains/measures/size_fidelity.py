"""Fidelity against size (E1, E1b of the papers' analyses): how small sub-networks are, and what that costs.

For each sub-network: how many filters and layers it keeps; image by image the decrease ``p[y] - q[y]`` of the
probability of the original's class ``y``; the mean KL. Figure 1 of the paper draws a point for each image, its
appendix ``log KL``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.measures.cases import Case, Chains, Model, cases_of, measure
from neurochains.measures.faithfulness import Correlation, correlate
from neurochains.measures.intervals import Interval, interval_of_mean
from neurochains.measures.tasks import measure_fidelity

__all__ = ["SizeFidelity", "SizeRow", "measure_size_fidelity"]


@dataclass(frozen=True, slots=True)
class SizeRow:
    """One sub-network: sizes, and means over its images; None where outputs are no classes. `drops` are by image."""

    filters: int
    of: int
    layers: int
    divergence: float
    kl: float | None
    drop: float | None
    agreement: float | None
    held_out_agreement: float | None
    drops: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SizeFidelity:
    """The sub-networks, and the means over them with their intervals."""

    rows: tuple[SizeRow, ...]

    def mean(self, name: str) -> Interval:
        """Return the mean of a column of `rows`, or of ``"share"``, filters of all; over the sub-networks."""
        return interval_of_mean([row.filters / row.of if name == "share" else getattr(row, name) for row in self.rows])

    @property
    def kl_by_size(self) -> Correlation:
        """How log10 of the mean KL goes with the number of filters, sub-network by sub-network."""
        return correlate(self._column("filters"), self._column("kl").clamp_min(1e-12).log10())

    @property
    def drop_by_size(self) -> Correlation:
        """How the mean decrease of probability goes with the number of filters."""
        return correlate(self._column("filters"), self._column("drop"))

    def _column(self, name: str) -> torch.Tensor:
        values = [getattr(row, name) for row in self.rows]
        return torch.tensor([math.nan if value is None else float(value) for value in values], dtype=torch.float64)

    def to_json(self) -> dict[str, Any]:
        """Return the rows, the means with their intervals, and the correlations with size."""
        names = ("filters", "share", "layers", "divergence", "kl", "drop", "agreement", "held_out_agreement")
        means = {name: self.mean(name).to_json() for name in names}
        correlations = {"kl_by_size": self.kl_by_size.to_json(), "drop_by_size": self.drop_by_size.to_json()}
        rows = [{name: getattr(row, name) for name in SizeRow.__dataclass_fields__} for row in self.rows]
        return plain({"rows": rows, **means, **correlations})


@measure("size_fidelity")
def measure_size_fidelity(model: Model, chain: Chains, task: Task | None = None) -> SizeFidelity:
    """Return the size and the fidelity of each sub-network; see `neurochains.measures.cases.cases_of`."""
    return SizeFidelity(tuple(_row(case) for case in cases_of(model, chain, task)))


def _row(case: Case) -> SizeRow:
    found = measure_fidelity(case.network, case.task, case.scores)
    given, held = found.given, found.held_out
    drops: Sequence[float] = () if given.per_image.drop is None else given.per_image.drop.tolist()
    return SizeRow(
        filters=case.scores.kept,
        of=case.scores.total,
        layers=len(case.scores.filters),
        divergence=given.divergence,
        kl=given.kl,
        drop=given.drop,
        agreement=given.agreement,
        held_out_agreement=None if held is None else held.agreement,
        drops=tuple(drops),
    )
