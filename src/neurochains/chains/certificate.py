"""The certificate of 1-minimality: each unit left out in turn, exactly, and what the goal can spare dropped.

Units are tried by growing divergence, each really left out on top of the earlier ones, then all are measured anew,
until nothing fits; the last table is the certificate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from neurochains.chains.ablation import leave_one_out_divergence
from neurochains.chains.goal import Goal
from neurochains.chains.live import LiveNetwork
from neurochains.chains.scores import Scores

__all__ = ["certify"]

PATIENCE = 24  # units in turn that cannot be spared
FEW = 0.01  # of the units: where no more go without a change of prediction, others go as well
NEAR = 1.1  # times the divergence allowed: what a unit may cost to be tried, though it is too much now


def certify(
    live: LiveNetwork,
    goal: Goal,
    *,
    settle: Callable[[], object] | None = None,
    regain: Callable[[Tensor], bool] | None = None,
    most: int = 4,
) -> dict[str, Tensor]:
    """Return each kept unit's leave-one-out divergence, after dropping those that the goal can spare.

    Units are tried by growing divergence, each really left out on top of the earlier ones; after a round that dropped
    something `settle` is called, to tune what is left, and all are measured anew, so that the table that comes back
    holds for the sub-network that is kept: none of its units can be left out alone. Those that cost a prediction wait
    while there are others. Where predictions are lost in the end, `regain` is called with the places of their images,
    `most` times at most and as long as it says that it helped.
    """
    table = _certify(live, goal, settle)
    for _ in range(most):
        lost = live.lost(live.outputs).nonzero().flatten()
        if not len(lost) or regain is None or not regain(lost):
            break
        table = _certify(live, goal, settle)
    return table


def _certify(live: LiveNetwork, goal: Goal, settle: Callable[[], object] | None) -> dict[str, Tensor]:
    while True:
        table = _leave_one_out(live, live.result())
        alive = live.alive
        costs = torch.cat([table[layer.name] for layer in live.layers])[alive]
        before = len(live)
        _drop_spare(live, goal, costs, predictions=True)
        if before - len(live) <= FEW * before:
            _drop_spare(live, goal, costs[torch.isin(alive, live.alive)], predictions=False)
        if len(live) == before:
            return table
        if settle:
            settle()


def _leave_one_out(live: LiveNetwork, scores: Scores) -> dict[str, Tensor]:
    return leave_one_out_divergence(live.network, live.images, scores, objective=live.objective, original=live.original)


def _drop_spare(live: LiveNetwork, goal: Goal, costs: Tensor, *, predictions: bool) -> None:
    """Drop what the goal can spare, in the order of costs ``(n,)``, until nothing goes.

    With `predictions` no unit goes that changes one. Each unit that goes shifts what the others cost, so that those
    which cost a little too much are tried as well; to try a few dozen takes less than to measure all anew.
    """
    order = costs.argsort(stable=True).cpu()
    near = torch.tensor([goal.could_spare(cost / NEAR) for cost in costs[order].tolist()], dtype=torch.bool)
    units, before = live.alive[order][near], len(live) + 1
    while len(live) < before:
        before = len(live)
        units = units[torch.isin(units, live.alive)]
        _drop_in_turn(live, goal, units, predictions)


def _drop_in_turn(live: LiveNetwork, goal: Goal, units: Tensor, predictions: bool) -> None:
    """Drop one unit behind the other, as many at a time as go, until `PATIENCE` in turn could not.

    Where what a unit costs says nothing of the goal, as for an agreement, all are tried.
    """
    patience = PATIENCE if math.isfinite(goal.divergence) else math.inf
    place, some, failed = 0, 1, 0
    allowed = int(live.lost(live.outputs).sum()) if predictions else len(live.images)
    while place < len(units) and failed < patience and (room := len(live) - goal.least):
        some = min(some, room)
        lost = _try_without(live, goal, units[place : place + some], allowed)
        if lost is not None:
            allowed = lost if predictions else allowed
            place, some, failed = place + some, 2 * some, 0
        elif some > 1:
            some //= 2
        else:
            place, failed = place + 1, failed + 1


def _try_without(live: LiveNetwork, goal: Goal, units: Tensor, allowed: int) -> int | None:
    """Drop units if the goal can spare them and at most so many predictions are lost; returns how many then are."""
    before = live.save()
    live.drop(torch.isin(live.alive, units).to(live.device))
    outputs = live.outputs
    lost, divergence = int(live.lost(outputs).sum()), float(live.objective(outputs, live.original).mean())
    if lost <= allowed and goal.fits(divergence, live):
        return lost
    live.restore(before)
    return None
