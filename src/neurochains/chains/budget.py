"""The budget method: the smallest sub-network that keeps a fidelity, found by second-order elimination.

Near the optimum the gradient of the divergence vanishes, so first-order scores are noise there; and whatever is removed
must be made up for by what stays, or deep narrow networks break at once. So:

1. Let the units fade that matter least, as fast as the others can make up for them (`neurochains.chains.shrink`).
2. From what is left, remove in rounds the units that cost least, to second order: a share `rate` of them. Shrink them
   to 0 in two steps; in each, move the other scores by the least amount that keeps the outputs, by the quadratic model
   (`neurochains.chains.curvature`), with the damping that does best of a few when really run.
3. While the divergence is above a part of the budget, take further damped Gauss-Newton steps on the scores alone.
4. Inside the budget: go on, faster. Outside: go back to the last good state and try fewer. One unit too many: stop.
5. Tune the scores of what is left on the divergence (`neurochains.chains.refit`).
6. Trim what one curvature finds to spare, many at once, then one at a time.
7. Leave each unit out in turn, exactly; drop what fits into the budget, until nothing does. The table of these
   divergences is the certificate of 1-minimality (`neurochains.chains.certificate`).

The network is compacted again whenever a quarter of it has gone, so that each round costs less than the one before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.cheapest import MANY, cheapest
from neurochains.chains.curvature import Curvature, measure_curvature, output_slope
from neurochains.chains.goal import Goal
from neurochains.chains.live import LiveNetwork

__all__ = ["BudgetSettings", "Round", "Search"]

TRIES = 3  # least important units of which one may be trimmed


@dataclass(frozen=True, slots=True)
class BudgetSettings:
    """What the elimination may be told.

    Attributes:
        rows: backward passes for each measure of curvature, while many units are left; then `few_rows`.
        rate: share of the living units that the first round removes; `rate_limit` what later rounds may reach.
        growth: by what factor the rate grows after a round that kept the goal, at least and at most.
        retreat: by what factor it falls after one that did not, at most and at least.
        polish: further Gauss-Newton steps in a round, at most.
        chords: corrections by one curvature, at most, each for the price of a forward pass.
        reserve: the part of the budget at which a round stops polishing.
        low, high: the range of a score.
        seconds: after which the search ends with what it has.
    """

    rows: int = 6
    few_rows: int = 3
    rate: float = 0.1
    rate_limit: float = 0.5
    growth: tuple[float, float] = (1.1, 2.0)
    retreat: tuple[float, float] = (0.25, 0.75)
    polish: int = 5
    chords: int = 2
    reserve: float = 0.6
    low: float = 1e-3
    high: float = float("inf")
    seconds: float = float("inf")


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the search, for the history and the progress bar."""

    step: int
    filters: int
    divergence: float
    kept: bool
    seconds: float


@dataclass
class Search:
    """The elimination of units from a live network, down to a goal."""

    live: LiveNetwork
    goal: Goal
    settings: BudgetSettings
    seed: int = 0
    report: Callable[[Round], None] | None = None
    history: list[Round] = field(default_factory=list)
    runs: dict[str, int] = field(default_factory=lambda: {"curvature": 0, "forward": 0})

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.seed)
        self._damping = 1e-2
        self._began = time.perf_counter()

    def run(self) -> None:
        """Eliminate until one unit more would miss the goal, or the asked-for size is reached."""
        rate = self.settings.rate
        curvature = self.measure(self.live.scores)
        while len(self.live) > self.goal.least and not self.out_of_time():
            before = self.live.save()
            count = self._count(rate)
            divergence = self._round(curvature, count)
            kept = self.goal.fits(divergence, self.live)
            self.note(divergence, kept)
            if kept:
                rate = min(rate * self._change(divergence, self.settings.growth), self.settings.rate_limit)
                curvature = self.measure(self.live.scores)
                continue
            self.live.restore(before)
            if count == 1:
                break
            rate *= self._change(divergence, self.settings.retreat)

    def trim(self, *, least: float = 0.01) -> None:
        """Remove units as long as one curvature can tell how the others make up for it, at no prediction's cost.

        Each round is cheaper than one of `run`. It ends when less than a share `least` of the units goes at once.
        """
        count = max(1, len(self.live) // 50)
        while count > least * len(self.live) and self.room() and not self.out_of_time():
            count = self._trim(self.measure(self.live.scores), min(2 * count, self.room()))

    def _trim(self, curvature: Curvature, most: int) -> int:
        """Remove the `most` least important units, half as many and so on, or one of the next; returns how many."""
        live, before, lost = self.live, self.live.save(), self._losses()
        order = cheapest(curvature, live.scores, min(len(live), max(most, TRIES)), together=self.tunable)
        count, first = most, 0
        while count and first < min(TRIES, len(order)):
            gone = torch.zeros(len(live), dtype=torch.bool, device=live.device)
            gone[order[first : first + count]] = True
            divergence, live.scores = self._without(curvature, gone)
            live.drop(gone)
            if self.goal.fits(divergence, live) and self._losses() <= lost:
                self.note(divergence, kept=True)
                return count
            live.restore(before)
            count, first = (count // 2, first) if count > 1 else (1, first + 1)
        return 0

    def _without(self, curvature: Curvature, gone: Tensor) -> tuple[float, Tensor]:
        """Return the divergence and the scores without some units: as the rest are, or making up for it if better."""
        bare = self.live.scores.masked_fill(gone, 0.0)
        plain = (self.run_with(bare), bare)
        if not self.tunable:
            return plain
        fixed = torch.where(gone, -self.live.scores, 0.0)
        return min(plain, self.compensate(curvature, fixed, ~gone, self._damping), key=_first)

    def _losses(self) -> int:
        """Return on how many images the prediction is not the original's."""
        return int(self.live.lost(self.live.outputs).sum())

    def polish(self, steps: int) -> float:
        """Tune the surviving scores by damped Gauss-Newton steps, as long as one gains more than next to nothing.

        Returns the divergence, never worse than before.
        """
        live = self.live
        divergence = self.run_with(live.scores)
        for _ in range(steps if self.tunable else 0):
            better, scores = self._tuned(self.measure(live.scores))
            if not better < divergence:
                break
            last, divergence, live.scores = divergence, better, scores
            if divergence > 0.99 * last:
                break
        return divergence

    def regain(self, lost: Tensor, *, steps: int = 5, weights: Sequence[int] = (2, 8, 32)) -> bool:
        """Tune the scores with some images weighing more; returns whether that won back predictions within the goal.

        Args:
            lost: the places of the images.
            steps: Gauss-Newton steps with each of the weights, at most.
            weights: how many times these images count, tried in turn.
        """
        live, before = self.live, self.live.scores
        for weight in weights if self.tunable else ():
            with live.repeating(lost, weight):
                self.polish(steps)
            divergence, outputs = self._run(live.scores)
            if int(live.lost(outputs).sum()) < len(lost) and self.goal.fits(divergence, live):
                return True
            live.scores = before
        return False

    @property
    def tunable(self) -> bool:
        """Whether scores may take other values than 0 and 1."""
        return self.settings.low < self.settings.high

    def _round(self, curvature: Curvature, count: int) -> float:
        """Remove some units and make up for them; returns the divergence, with the live network in the new state."""
        gone = torch.zeros(len(self.live), dtype=torch.bool, device=self.live.device)
        gone[cheapest(curvature, self.live.scores, count, together=self.tunable)] = True
        divergence = self._remove(curvature, gone)
        for step in range(self.settings.polish if self.tunable else 0):
            if self.goal.comfortable(divergence, self.settings.reserve, self.live):
                break
            found, scores = self._tuned(self.measure(self.live.scores))
            if not found < 0.97 * divergence:
                break
            last, divergence, self.live.scores = divergence, found, scores
            if step and self.goal.hopeless(last, divergence, self.settings.polish - 1 - step):
                break
        return divergence

    def _remove(self, curvature: Curvature, gone: Tensor) -> float:
        """Move some scores to 0, half-way first, and drop them; the others make up for it at each step."""
        start = self.live.scores
        if not self.tunable:
            self.live.drop(gone)
            return self.run_with(self.live.scores)
        if int(gone.sum()) > 3:
            _, self.live.scores = self._search(curvature, torch.where(gone, -0.5 * start, 0.0), ~gone)
            curvature = self.measure(self.live.scores)
        curvature = curvature.without(gone, self.live.scores)
        self.live.drop(gone)
        divergence, self.live.scores = self._tuned(curvature)
        return divergence

    def _tuned(self, curvature: Curvature) -> tuple[float, Tensor]:
        """Return what one damped Gauss-Newton step on all scores gives: the divergence, and the scores."""
        everything = torch.ones(len(self.live), dtype=torch.bool, device=self.live.device)
        return self._search(curvature, torch.zeros_like(self.live.scores), everything, beat=curvature.divergence)

    def _search(
        self, curvature: Curvature, fixed: Tensor, free: Tensor, *, beat: float = math.inf
    ) -> tuple[float, Tensor]:
        """Return the divergence and the scores of the best compensation over a ladder of dampings, each really run.

        Where none is better than `beat`, far larger dampings are tried: the model may hold for small steps only.
        """

        def trial(damping: float) -> tuple[float, float, Tensor]:
            divergence, moved = self.compensate(curvature, fixed, free, damping)
            return divergence, damping, moved

        best, self._damping, moved = _ladder(trial, self._damping, beat)
        return best, moved

    def compensate(
        self, curvature: Curvature, fixed: Tensor, free: Tensor, damping: float, enough: float = 0.0
    ) -> tuple[float, Tensor]:
        """Return the divergence, really run, and the scores after a change of some that the free ones make up for.

        What the quadratic model missed is corrected with the same curvature (chord steps), as long as each correction
        gains a tenth and the divergence is above `enough`.
        """
        live, limit = self.live, self.goal.limit
        moved = self._clamped(live.scores + curvature.compensate(fixed, free, damping), free)
        divergence, outputs = self._run(moved)
        still = torch.zeros_like(fixed)
        for _ in range(self.settings.chords):
            if not max(enough, 0.3 * limit) < divergence < 20 * limit:
                break
            slope = curvature.slope(output_slope(live.objective, outputs, live.original))
            further = self._clamped(moved + curvature.compensate(still, free, damping, slope=slope), free)
            found, outputs = self._run(further)
            if found >= divergence:
                break
            gained, divergence, moved = divergence - found, found, further
            if gained < 0.1 * divergence:
                break
        return divergence, moved

    def _clamped(self, scores: Tensor, free: Tensor) -> Tensor:
        """Return scores with the free ones in their range."""
        return torch.where(free, scores.clamp(self.settings.low, self.settings.high), scores)

    def measure(self, scores: Tensor) -> Curvature:
        """Return the curvature around some scores ``(n,)``."""
        self.runs["curvature"] += 1
        rows = self.settings.rows if len(self.live) > MANY else self.settings.few_rows
        return measure_curvature(self.live, scores, rows=rows, generator=self._generator)

    def run_with(self, scores: Tensor) -> float:
        """Return the divergence with some scores ``(n,)``, really run; infinite where it is not a number."""
        return self._run(scores)[0]

    def _run(self, scores: Tensor) -> tuple[float, Tensor]:
        """Return the divergence and the outputs ``(B, K)`` with some scores ``(n,)``."""
        self.runs["forward"] += 1
        with torch.no_grad():
            outputs = self.live.logits(scores)
            divergence = float(self.live.objective(outputs, self.live.original).mean())
        return divergence if math.isfinite(divergence) else math.inf, outputs

    def room(self) -> int:
        """Return how many units may still leave."""
        return len(self.live) - self.goal.least

    def _count(self, rate: float) -> int:
        return max(1, min(int(rate * len(self.live)), self.room()))

    def _change(self, divergence: float, bounds: tuple[float, float]) -> float:
        """Return by what to change the rate: much when the divergence is far from where it should be."""
        wanted = self.settings.reserve * self.goal.limit
        return min(max(math.sqrt(wanted / max(divergence, 1e-12)), bounds[0]), bounds[1])

    def out_of_time(self) -> bool:
        """Return whether the time that was allowed is over."""
        return time.perf_counter() - self._began > self.settings.seconds

    def note(self, divergence: float, kept: bool) -> None:
        """Add a round to the history, and report it."""
        entry = Round(len(self.history) + 1, len(self.live), divergence, kept, time.perf_counter() - self._began)
        self.history.append(entry)
        if self.report:
            self.report(entry)


def _ladder(
    trial: Callable[[float], tuple[float, float, Tensor]], damping: float, beat: float
) -> tuple[float, float, Tensor]:
    """Return the best of three dampings a factor 8 apart, following the better end while it gets better."""
    tried = [trial(damping * factor) for factor in (0.125, 1.0, 8.0)]
    best = min(tried, key=_first)
    for _ in range(4):
        dampings = [entry[1] for entry in tried]
        if best[1] == min(dampings) and best[1] > 1e-9:
            tried.append(trial(best[1] / 8))
        elif best[1] == max(dampings) and best[1] < 1e9:
            tried.append(trial(best[1] * 8))
        else:
            break
        if not tried[-1][0] < best[0]:
            break
        best = tried[-1]
    for factor in (64.0, 512.0, 4096.0):
        if best[0] < beat:
            break
        best = min(best, trial(damping * factor), key=_first)
    return best


def _first(entry: Sequence[Any]) -> float:
    return entry[0]
