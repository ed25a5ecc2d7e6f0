"""Refit: the scores of the surviving units tuned on the divergence alone; the best state is kept.

First Adam, which copes with any start, then damped Gauss-Newton steps, which go the last way in a few.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from neurochains.chains.budget import BudgetSettings, Search
from neurochains.chains.goal import Goal
from neurochains.chains.live import LiveNetwork
from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.scores import Scores
from neurochains.network.network import Network

__all__ = ["refit", "refit_live"]

ROWS = 12  # of the curvature of the last steps, which are few and should go all the way


def refit(
    network: Network,
    images: Tensor,
    scores: Scores,
    *,
    objective: str | Objective = "kl",
    steps: int = 60,
    lr: float = 0.02,
    high: float = float("inf"),
    polish: int | None = None,
) -> Scores:
    """Return the scores of a sub-network, tuned so that its outputs come closer to the original's.

    No unit is added or removed; the result is never worse than what was given. This is what a chain and every control
    of its size get alike.

    Args:
        network: the whole network.
        images: ``(B, C, H, W)``.
        scores: the sub-network; its kept scores are where the tuning starts.
        objective: a name in `OBJECTIVES`, or a callable.
        steps: Adam steps; 0 leaves the scores as they are.
        lr: their learning rate.
        high: the largest score allowed.
        polish: Gauss-Newton steps behind them; by default a sixth of the Adam steps.
    """
    if not scores.kept or not steps:
        return scores
    layers = [network.layer(name) for name in scores.units]
    live = LiveNetwork(network, images, find_objective(objective), layers=layers, scores=scores)
    refit_live(live, steps=steps, lr=lr, high=high, polish=polish)
    return live.result()


def refit_live(
    live: LiveNetwork, *, steps: int, lr: float = 0.02, high: float = float("inf"), polish: int | None = None
) -> float:
    """Tune a live network's scores in place; returns the best divergence met."""
    best = _adam(live, steps, lr, high)
    further = steps // 6 if polish is None else polish
    if further and math.isfinite(best):
        best = Search(live, Goal(), BudgetSettings(ROWS, ROWS, chords=3, high=high)).polish(further)
    return best


def _adam(live: LiveNetwork, steps: int, lr: float, high: float) -> float:
    scores = live.scores.clone().requires_grad_(True)
    adam = torch.optim.Adam([scores], lr=lr)
    best, kept = float("inf"), live.scores
    for step in range(steps + 1):
        divergence = live.divergence(scores)
        if float(divergence.detach()) < best:
            best, kept = float(divergence.detach()), scores.detach().clone()
        if step == steps or not torch.isfinite(divergence) or not divergence.requires_grad:
            break
        adam.zero_grad()
        divergence.backward()
        adam.step()
        with torch.no_grad():
            scores.clamp_(1e-3, high)
    live.scores = kept
    return best
