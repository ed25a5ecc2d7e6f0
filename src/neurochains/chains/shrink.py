"""Shrinkage: the units that matter least fade together, as fast as the others can make up for them.

1. Measure the curvature around the scores of now.
2. Take the share `p` of the living units whose removal would cost least, to second order (`cheapest`).
3. Multiply their scores by ``1 - f w``, where `w` is larger the cheaper a unit is, and let the other scores make up for
   it, by the quadratic model and a few chord steps. The factor `f` is one of a ladder, as large as safely keeps the
   divergence, really run, under the target; the damping is followed along.
4. Units that have faded to almost nothing leave.
5. Where only small factors work, fewer units fade at once; where large ones do, more.

Nothing is ever removed abruptly, so that deep narrow networks (MobileNet) follow; and since importance falls with the
square of a score, units that began to fade go on to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.budget import Search
from neurochains.chains.cheapest import MANY, cheapest
from neurochains.chains.curvature import Curvature

__all__ = ["ShrinkSettings", "shrink"]

SPEEDS = (3.0, 0.2)  # how fast the cheapest of the fading units fades, and the dearest
STUCK = 0.05  # of the units: where no larger share can fade, it ends, though nothing has left yet
RUNG = 2.5  # by what the divergence grows at least, from one factor of the ladder to the next
FACTORS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.17, 0.1, 0.05, 0.0)


@dataclass(frozen=True, slots=True)
class ShrinkSettings:
    """What the shrinkage may be told.

    Attributes:
        share: of the living units that fade at first; `share_limit` at most.
        share_end: where the shrinkage ends; it also does when fewer than `fewest` units would fade.
        reserve: the part of the budget that the divergence stays under.
        faded: the score below which a unit leaves.
    """

    share: float = 0.35
    share_limit: float = 0.5
    share_end: float = 0.02
    fewest: int = 4
    reserve: float = 0.95
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

    def __init__(self, search: Search, curvature: Curvature, speeds: Tensor, target: float) -> None:
        self._search = search
        self._target = target
        self._curvature = curvature
        self._speeds = speeds
        self._known: dict[tuple[int, float], _Step] = {}

    def step(self, place: int, damping: float) -> _Step:
        if (place, damping) not in self._known:
            fixed = -(FACTORS[place] * self._speeds).clamp(max=1.0) * self._search.live.scores
            found = self._search.compensate(self._curvature, fixed, self._speeds == 0, damping, 0.5 * self._target)
            self._known[place, damping] = _Step(place, damping, *found)
        return self._known[place, damping]

    def best(self, place: int, damping: float) -> _Step:
        """Return a step that stays under the target, from a place on the ladder on, with a factor as large as is safe.

        A larger factor is tried where the divergence has room for what a rung adds at least: a step that uses up all
        that is allowed leaves little for the next.
        """
        step, target = self.step(place, damping), self._target
        if step.divergence > target:
            step = self._lower(step)
        while step.divergence > target and step.place < len(FACTORS) - 1:
            step = self.step(step.place + 1, step.damping)
        while step.place > 0 and step.divergence * RUNG < target:
            further = self.step(step.place - 1, step.damping)
            if further.divergence > target:
                break
            step = further
        return step if step.divergence <= target else self._careful(step)

    def _lower(self, step: _Step) -> _Step:
        """Return the best of three dampings, further down the ladder where the divergence is far too large."""
        excess = min(step.divergence / self._target, RUNG ** (2 * len(FACTORS)))  # where it is infinite, to the end
        rungs = int(math.log(excess, RUNG**2))
        if rungs:
            step = self.step(min(step.place + rungs, len(FACTORS) - 1), step.damping)
        return step if step.divergence <= self._target else self._better(step)

    def _better(self, step: _Step) -> _Step:
        """Return the best of three dampings for a step."""
        others = [self.step(step.place, step.damping * by) for by in (5.0, 0.2)]
        return min((step, *others), key=_divergence)

    def _careful(self, step: _Step) -> _Step:
        """Return the best step with larger dampings: the model may hold for small steps only."""
        return min((step, *(self.step(step.place, step.damping * by) for by in (25.0, 625.0))), key=_divergence)


def _divergence(step: _Step) -> float:
    return step.divergence


def shrink(search: Search, settings: ShrinkSettings) -> None:
    """Let units fade from a search's live network until only a few at a time could, or the goal's size is near."""
    live, shrinkage = search.live, _Shrinkage(search, settings)
    while search.room() and not search.out_of_time() and not shrinkage.over(len(live)):
        shrinkage.step()


class _Shrinkage:
    """The share of the units that fade together, the place on the ladder and the damping, from step to step."""

    def __init__(self, search: Search, settings: ShrinkSettings) -> None:
        self._search = search
        self._settings = settings
        self._share = settings.share
        self._first = len(search.live)
        self._place = 3
        self._damping = 0.05

    def over(self, units: int) -> bool:
        """Return whether too few of the living units could fade at once."""
        end = self._settings.share_end * min(1.0, MANY / units)  # of many units, a small share is worth a step
        end = end if units < self._first else min(STUCK, end)
        return self._share <= max(end, self._settings.fewest / units)

    def step(self) -> None:
        """Let some units fade as far as the others can make up for; fewer the next time where they cannot."""
        search, live, target = self._search, self._search.live, self._settings.reserve * self._search.goal.limit
        curvature = search.measure(live.scores)
        count = max(1, min(int(self._share * len(live)), search.room()))
        speeds = torch.zeros_like(live.scores)
        speeds[cheapest(curvature, live.scores, count)] = torch.linspace(*SPEEDS, count).to(speeds)
        step = _Ladder(search, curvature, speeds, target).best(self._place, self._damping)
        if step.divergence > max(target, 0.999 * curvature.divergence):
            self._share *= 0.6
            return
        before = live.save()
        live.scores, self._place, self._damping = step.scores, step.place, step.damping
        divergence = _leave(search, speeds > 0, self._settings.faded, step.divergence)
        if not search.goal.fits(divergence, live):
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
