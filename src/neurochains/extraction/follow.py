"""How far an extraction is, for a progress bar."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from neurochains.chains.budget import Round

__all__ = ["Follower", "Progress"]

USUAL_END = 0.04  # the share of units at which searches often end: only for the estimate of the time left


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an extraction is: the stage, a step of about so many, and what is known of the sub-network by then."""

    stage: str
    step: int
    steps: int
    divergence: float | None = None
    filters: int | None = None
    seconds_left: float | None = None


class Follower:
    """Turns the rounds of a search into reports, with an estimate of the time left.

    The elimination is followed by the logarithm of the size, since each round removes a share of what is left; a round
    that failed, and was taken back, is no way gone.
    """

    def __init__(
        self, progress: Callable[[Progress], None] | None, *, total: int, least: int, steps: int | None
    ) -> None:
        self._progress = progress
        self._total = total
        self._least = max(least, math.ceil(USUAL_END * total))
        self._steps = steps
        self._furthest = 0

    def __call__(self, stage: str, entry: Round) -> None:
        """Report one round of a search."""
        if self._progress is None:
            return
        step, steps = (entry.step, self._steps) if self._steps else (self._percent(entry), 100)
        share = step / max(steps, 1)
        left = entry.seconds * (1 - share) / share if share > 0 and entry.seconds > 0 else None
        divergence = entry.divergence if math.isfinite(entry.divergence) else None
        self._progress(Progress(stage, step, steps, divergence, entry.filters, left))

    def stage(self, name: str) -> None:
        """Report that a stage begins whose length is not known."""
        if self._progress is not None:
            self._progress(Progress(name, 100, 100))

    def _percent(self, entry: Round) -> int:
        if entry.kept:
            self._least = min(self._least, max(1, round(0.7 * entry.filters)))
            way = math.log(self._total / self._least) or 1.0
            percent = round(100 * math.log(self._total / max(entry.filters, 1)) / way)
            self._furthest = min(99, max(self._furthest, percent))
        return self._furthest
