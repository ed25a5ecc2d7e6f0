"""How far a study is, and about how long it will take."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Pace", "StudyProgress"]

Kind = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """Where a study is: how many of its cases are done or failed, how many run, and about how many seconds are left.

    `last` is what was finished last, in words.
    """

    done: int
    failed: int
    cases: int
    running: int
    seconds_left: float | None = None
    last: str = ""


class Pace:
    """Estimates the time left from the time that cases of each kind took, kind by kind."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._left = Counter(kinds)
        self._count: Counter[Kind] = Counter()
        self._seconds: dict[Kind, float] = {}

    def add(self, kind: Kind, seconds: float) -> None:
        """Take in that a case was finished."""
        self._left[kind] -= 1
        self._count[kind] += 1
        self._seconds[kind] = self._seconds.get(kind, 0.0) + seconds

    def seconds_left(self, workers: int) -> float | None:
        """Return about how many seconds so many workers need for what is left; None before anything is known."""
        total = sum(self._count.values())
        if not total:
            return None
        usual = sum(self._seconds.values()) / total
        means = {kind: self._seconds[kind] / count for kind, count in self._count.items()}
        work = sum(max(count, 0) * means.get(kind, usual) for kind, count in self._left.items())
        return work / max(workers, 1)
