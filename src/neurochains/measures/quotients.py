"""Quotients (E3): how decided a sub-network is for the original's classes, relative to the original (Eq. 9).

``Q = (q[y] - max_{z != y} q[z]) / (p[y] - max_{z != y} p[z])``; 1 is as decided, below 0 the prediction has changed.
The mean of Q means little, since its denominator may be small; what is reported is the share below 0 and the
quartiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.measures.cases import Chains, Model, cases_of, measure
from neurochains.measures.fidelity import quotient
from neurochains.measures.intervals import Interval, bootstrap
from neurochains.measures.tasks import run_scores, run_task

__all__ = ["ChainQuotients", "measure_quotients"]


@dataclass(frozen=True, slots=True, eq=False)
class ChainQuotients:
    """The quotients of each sub-network's images, ``(N,)`` each, NaN where the original is undecided."""

    values: tuple[Tensor, ...]

    @property
    def negative(self) -> Interval:
        """The share of images with Q below 0, over those where the original is decided."""
        return self._over(lambda known: float((known < 0).double().mean()))

    def quantile(self, share: float) -> Interval:
        """Return a quantile of Q, such as the median at 0.5."""
        return self._over(lambda known: float(known.quantile(share)))

    def _over(self, statistic: Any) -> Interval:
        def pooled(groups: Sequence[Tensor]) -> float | None:
            joined = torch.cat(list(groups))
            known = joined[~joined.isnan()]
            return statistic(known) if len(known) else None

        return bootstrap(self.values, pooled, draws=500)

    def to_json(self) -> dict[str, Any]:
        """Return the share below 0 and the quartiles with intervals, and how many images were passed over."""
        quartiles = {
            name: self.quantile(q).to_json() for name, q in (("lower", 0.25), ("median", 0.5), ("upper", 0.75))
        }
        skipped = sum(int(each.isnan().sum()) for each in self.values)
        images = sum(len(each) for each in self.values)
        return plain({"negative": self.negative.to_json(), **quartiles, "images": images, "skipped": skipped})


@measure("quotients")
def measure_quotients(model: Model, chain: Chains, task: Task | None = None) -> ChainQuotients:
    """Return the quotients of each sub-network; see `neurochains.measures.cases.cases_of`."""
    found = []
    for case in cases_of(model, chain, task):
        original, sub = run_task(case.network, case.task), run_scores(case.network, case.task, case.scores)
        found.append(quotient(original.given.double(), sub.given.double()))
    return ChainQuotients(tuple(found))
