"""Faithfulness: does the score of a filter say how much the sub-network loses without it?

Each kept filter is left out in turn (E2 of the NeuroChains paper's analyses): by how much does the probability that
the sub-network gives to the original class fall, and how far is the rest from the original? A faithful score goes with
both.

Shapes: N images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.ablation import leave_one_out_outputs
from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.parity import in_batches
from neurochains.chains.scores import Scores
from neurochains.measures.fidelity import has_classes
from neurochains.network.network import Network

__all__ = ["Correlation", "LeaveOneOut", "correlate", "leave_one_out"]


@dataclass(frozen=True, slots=True)
class Correlation:
    """How two measures of `points` filters go together; None where one of them does not vary.

    `slope` is that of the least-squares line, in units of the second per unit of the first.
    """

    pearson: float | None
    spearman: float | None
    slope: float | None
    points: int

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class LeaveOneOut:
    """What the sub-network loses without each kept filter: ``(units,)`` by layer, NaN where nothing was kept to lose.

    `divergence` is the mean divergence from the original that is left, `drop` the mean decrease of the probability
    that the sub-network gives to the original class: above 0 the filter spoke for the class; None where the outputs
    are no classes. `score` is the filter's.
    """

    divergence: Mapping[str, Tensor]
    drop: Mapping[str, Tensor] | None
    score: Mapping[str, Tensor]

    @property
    def drop_by_score(self) -> Correlation:
        """How the drop goes with the score, filter by filter; all None where there is no drop."""
        score = _kept(self.score, self.score)
        return correlate(score, torch.full_like(score, math.nan) if self.drop is None else _kept(self.drop, self.score))

    @property
    def divergence_by_score(self) -> Correlation:
        """How the divergence goes with the score, filter by filter."""
        return correlate(_kept(self.score, self.score), _kept(self.divergence, self.score))

    def to_json(self) -> dict[str, Any]:
        """Return the correlation of the drop with the score, and that of the divergence under its name."""
        return {**self.drop_by_score.to_json(), "divergence": self.divergence_by_score.to_json()}


def leave_one_out(
    network: Network,
    images: Tensor,
    scores: Scores,
    *,
    objective: str | Objective = "kl",
    original: Tensor | None = None,
) -> LeaveOneOut:
    """Return what a sub-network loses without each of its filters, exactly.

    Args:
        network: the whole network.
        images: ``(N, C, H, W)``.
        scores: the sub-network.
        objective: what the divergence is: a name in `OBJECTIVES`, or a callable.
        original: the whole network's outputs ``(N, K)``; computed if None.

    Raises:
        SettingsError: there is no such objective.
    """
    diverge = find_objective(objective)
    divergence = {name: torch.full((len(values),), math.nan) for name, values in scores.units.items()}
    drop = {name: values.clone() for name, values in divergence.items()}
    original, small = (in_batches(network, images) if original is None else original), scores.compact(network)
    original = original.to(network.device)
    with torch.no_grad():
        first = original.argmax(-1)
        before = _certainty(in_batches(lambda batch: small(network.check(batch)), images).to(network.device), first)
        for some in leave_one_out_outputs(network, images, scores):
            left = torch.stack([diverge(outputs, original).mean() for outputs in some.outputs])
            divergence[some.layer][some.units] = left.float().cpu()
            drop[some.layer][some.units] = (before - _certainty(some.outputs, first)).float().cpu()
    return LeaveOneOut(divergence, drop if has_classes(original, objective) else None, dict(scores.units))


def _certainty(outputs: Tensor, first: Tensor) -> Tensor:
    """Return the probability of one class for each image, averaged: ``(..., N, K)`` and ``(N,)`` to ``(...)``."""
    return outputs.softmax(-1)[..., torch.arange(len(first), device=first.device), first].mean(-1)


def correlate(first: Tensor, second: Tensor) -> Correlation:
    """Return Pearson's and Spearman's correlation of two ``(n,)`` measures and the slope of the least-squares line.

    Points where one of them is not finite are left out. Spearman's is Pearson's of the ranks, ties sharing their mean.
    """
    fine = first.isfinite() & second.isfinite()
    x, y = first[fine].double(), second[fine].double()
    variance = _covariance(x, x)
    slope = _covariance(x, y) / variance if variance > 0 else None
    return Correlation(_pearson(x, y), _pearson(_ranks(x), _ranks(y)), slope, len(x))


def _pearson(x: Tensor, y: Tensor) -> float | None:
    spread = math.sqrt(_covariance(x, x) * _covariance(y, y))
    return max(-1.0, min(1.0, _covariance(x, y) / spread)) if spread > 0 else None


def _covariance(x: Tensor, y: Tensor) -> float:
    """Return the sum of the products of the deviations; exactly 0 where a measure is constant."""
    if not len(x) or bool((x == x[0]).all()) or bool((y == y[0]).all()):
        return 0.0
    return float(((x - x.mean()) * (y - y.mean())).sum())


def _ranks(values: Tensor) -> Tensor:
    """Return the rank of each value, from 0; equal values share the mean of their ranks."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double() - 1
    return (last - (counts - 1) / 2)[places]


def _kept(values: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> Tensor:
    parts = [values[name][some != 0] for name, some in scores.items()]
    return torch.cat(parts) if parts else torch.zeros(0)
