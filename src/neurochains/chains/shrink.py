"""Shrinkage: the units that matter least fade together, as fast as the others can make up for them.

1. Measure the curvature around the scores of now.
2. Take the share `p` of the living units whose removal would cost least, to second order.
3. Multiply their scores by ``1 - f`` and let the other scores make up for it, by the quadratic model and a few chord
   steps. The factor `f` is the largest of a ladder for which the divergence, really run, stays under the target; the
   damping is followed along.
4. Units that have faded to almost nothing leave.
5. Where only small factors work, fewer units fade at once; where large ones do, more.

This goes in stages. In each, the divergence may overshoot the goal, since the way there is much shorter; when a part of
the units has gone, Gauss-Newton steps bring it back. The first stage that they cannot bring back is undone, and the
last bit is done under the goal all the time.

Nothing is ever removed abruptly, so that deep narrow networks (MobileNet) follow; and since importance falls with the
square of a score, units that began to fade go on to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.budget import Search
from neurochains.chains.curvature import Curvature
from neurochains.chains.live import State

__all__ = ["ShrinkSettings", "shrink"]

FACTORS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1, 0.05, 0.0)


@dataclass(frozen=True, slots=True)
class ShrinkSettings:
    """What the shrinkage may be told.

    Attributes:
        share: of the living units that fade at first; `share_limit` at most.
        share_end: where the shrinkage ends; it also does when fewer than `fewest` units would fade.
        reserve: the part of the budget that the divergence stays under at the end of a stage, and all the time in the
            last.
        overshoot: how many times the budget the divergence may reach within the first stage; a stage leaves one part
            in the square root of it.
        overshoot_end: where it ends.
        growth: by what factor the overshoot grows after a stage that took at most `easy` steps to bring back.
        retreat: by what factor it falls after one that could not be brought back.
        recovery: Gauss-Newton steps to bring the divergence back after a stage, at most.
        content: the part of all units below which the first stage that could not be brought back ends the shrinkage.
        faded: the score below which a unit leaves.
    """

    share: float = 0.35
    share_limit: float = 0.5
    share_end: float = 0.02
    fewest: int = 4
    reserve: float = 0.95
    overshoot: float = 3.0
    overshoot_end: float = 1.2
    growth: float = 1.7
    retreat: float = 2.5
    easy: int = 2
    recovery: int = 12
    content: float = 0.0
    faded: float = 0.03


@dataclass(frozen=True, slots=True)
class _Step:
    """One way to go on from a curvature: the factor's place on the ladder, the damping, and where it leads."""

    place: int
    damping: float
    divergence: float
    scores: Tensor


class _Ladder:
    """The steps that can be taken from one curvature, each run at most once."""

    def __init__(self, search: Search, curvature: Curvature, fading: Tensor, target: float) -> None:
        self._search = search
        self._target = target
        self._curvature = curvature
        self._fading = fading
        self._known: dict[tuple[int, float], _Step] = {}

    def step(self, place: int, damping: float) -> _Step:
        if (place, damping) not in self._known:
            live, fading = self._search.live, self._fading
            fixed = torch.where(fading, -FACTORS[place] * live.scores, 0.0)
            found = self._search.compensate(self._curvature, fixed, ~fading, damping, 0.5 * self._target)
            self._known[place, damping] = _Step(place, damping, *found)
        return self._known[place, damping]

    def best(self, place: int, damping: float) -> _Step:
        """Return the step with the largest factor found to stay under the target, from a place on the ladder on."""
        step, target = self.step(place, damping), self._target
        if step.divergence > target:
            step = self._better(step, 5.0)
        while step.divergence <= target and step.place > 0:
            further = self.step(step.place - 1, step.damping)
            if further.divergence > target:
                break
            step = further
        while step.divergence > target and step.place < len(FACTORS) - 1:
            step = self.step(step.place + 1, step.damping)
        return self._better(step, 3.0) if step.divergence > 0.5 * target else step

    def _better(self, step: _Step, factor: float) -> _Step:
        others = [self.step(step.place, step.damping * by) for by in (factor, 1 / factor)]
        return min((step, *others), key=lambda one: one.divergence)


def shrink(search: Search, settings: ShrinkSettings) -> None:
    """Let units fade from a search's live network until only a few at a time could, or the goal's size is near."""
    live, limit = search.live, search.goal.limit
    shrinkage, overshoot = _Shrinkage(search, settings), settings.overshoot
    while overshoot > settings.overshoot_end:
        trail = shrinkage.descend(overshoot * limit, to=int(len(live) / math.sqrt(overshoot)))
        if len(trail) == 1:  # nothing has gone; but some have faded
            live.restore(trail[0])
            break
        steps, whole = _recover(search, settings, trail)
        if not whole and len(live) <= settings.content * live.total:
            return
        overshoot *= 1 / settings.retreat if not whole else settings.growth if steps <= settings.easy else 1.0
    shrinkage.descend(settings.reserve * limit, to=search.goal.least, strict=True)


def _recover(search: Search, settings: ShrinkSettings, trail: Sequence[State]) -> tuple[int, bool]:
    """Bring the divergence back under the goal at the end of a trail, or half-way, or else go back to its start.

    Returns the number of Gauss-Newton steps that it took, and whether it was brought back at the end.
    """
    began = search.runs["curvature"]
    for place in dict.fromkeys((len(trail) - 1, len(trail) // 2, 0)):
        search.live.restore(trail[place])
        if not place:
            break
        divergence = search.polish(settings.recovery, enough=settings.reserve * search.goal.limit)
        if search.goal.fits(divergence, search.live):
            break
    return search.runs["curvature"] - began, place == len(trail) - 1


class _Shrinkage:
    """The share of the units that fade together, the place on the ladder and the damping, from step to step."""

    def __init__(self, search: Search, settings: ShrinkSettings) -> None:
        self._search = search
        self._settings = settings
        self._share = settings.share
        self._place = 3
        self._damping = 0.05

    def descend(self, target: float, *, to: int, strict: bool = False) -> list[State]:
        """Let units fade under a target until `to` are left or too few would; returns the states on the way.

        Those are the first, and one whenever a tenth of the units has gone. `strict` takes back what misses the goal.
        """
        search, live, settings = self._search, self._search.live, self._settings
        trail = [live.save()]
        self._share = max(self._share, settings.share / 3)
        while len(live) > to and search.room() and not search.out_of_time():
            if self._share <= max(settings.share_end, settings.fewest / len(live)):
                break
            self._step(target, strict)
            if len(live) < 0.9 * len(trail[-1].alive):
                trail.append(live.save())
        if len(live) < len(trail[-1].alive):
            trail.append(live.save())
        return trail

    def _step(self, target: float, strict: bool) -> None:
        search, live = self._search, self._search.live
        curvature = search.measure(live.scores)
        count = max(1, min(int(self._share * len(live)), search.room()))
        fading = torch.zeros(len(live), dtype=torch.bool, device=live.device)
        fading[curvature.importance(live.scores).argsort(stable=True)[:count]] = True
        step = _Ladder(search, curvature, fading, target).best(self._place, self._damping)
        if step.divergence > max(target, 0.999 * curvature.divergence):
            self._share *= 0.6
            return
        before = live.save()
        live.scores, self._place, self._damping = step.scores, step.place, step.damping
        divergence = _leave(search, fading, self._settings.faded, step.divergence)
        if strict and not search.goal.fits(divergence, live):
            live.restore(before)
            self._share *= 0.6
            return
        search.note(divergence, kept=True)
        self._share = _next_share(self._share, FACTORS[step.place], self._settings)


def _leave(search: Search, fading: Tensor, faded: float, divergence: float) -> float:
    """Drop the units that have faded; returns the divergence without them."""
    gone = fading & (search.live.scores < faded)
    if not gone.any():
        return divergence
    search.live.drop(gone)
    return search.run_with(search.live.scores)


def _next_share(share: float, factor: float, settings: ShrinkSettings) -> float:
    if factor < 0.15:
        return share * 0.75
    return min(share * 1.15, settings.share_limit) if factor >= 0.5 else share
