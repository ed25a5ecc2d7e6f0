"""Progress on stderr: a bar where somebody watches, a line now and then where it goes to a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neurochains.cli.console import errors_console, is_watched, tell

if TYPE_CHECKING:
    from neurochains.extraction import Progress

__all__ = ["Follow", "describe", "duration", "extraction_progress"]

_EVERY = 30.0  # seconds between two lines of one stage in a log

Follow = Any  # a callable that takes a `Progress`; or None


@contextmanager
def extraction_progress(*, quiet: bool = False, name: str = "KL") -> Iterator[Callable[[Progress], None] | None]:
    """Return what an extraction reports its progress to; None if nothing shall be shown.

    Args:
        quiet: show nothing.
        name: of the divergence.
    """
    if quiet:
        yield None
    elif is_watched():
        with _bar() as bar:
            yield _BarOf(bar, name)
    else:
        yield _Lines(name)


def describe(progress: Progress, name: str) -> str:
    """Return the numbers of a report as ``"KL 0.034 · 152 filters · 12 s left"``, without those not known."""
    parts = []
    if _is_known(progress.divergence):
        parts.append(f"{name} {progress.divergence:.3g}")
    if progress.filters is not None:
        parts.append(f"{progress.filters:,} filters")
    if _is_known(progress.seconds_left):
        parts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(parts)


def duration(seconds: float | None) -> str:
    """Return a time in words.

    >>> duration(0.4), duration(75), duration(4000)
    ('0.4 s', '1 min 15 s', '1 h 6 min')
    """
    if seconds is None or not math.isfinite(seconds):
        return "unknown"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _is_known(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


class _Lines:
    """Writes a line when a stage begins, and one every half minute."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._clock = clock
        self._stage = ""
        self._next = 0.0

    def __call__(self, progress: Progress) -> None:
        now = self._clock()
        if progress.stage == self._stage and now < self._next:
            return
        self._stage, self._next = progress.stage, now + _EVERY
        numbers = describe(progress, self._name)
        tell(f"{progress.stage} {progress.step}/{progress.steps}{f': {numbers}' if numbers else ''}")


class _BarOf:
    """Moves one bar along."""

    def __init__(self, bar: Any, name: str) -> None:
        self._bar = bar
        self._name = name
        self._task = bar.add_task("starting", total=None, numbers="")

    def __call__(self, progress: Progress) -> None:
        self._bar.update(
            self._task,
            description=progress.stage,
            completed=progress.step,
            total=progress.steps,
            numbers=describe(progress, self._name),
        )


def _bar() -> Any:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    return Progress(*columns, console=errors_console(), transient=True)
