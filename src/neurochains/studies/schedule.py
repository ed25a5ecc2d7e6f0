"""Which case comes next: each once, those that take the size of another behind it, nothing that is finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from neurochains.studies.cases import Case
from neurochains.studies.engine import Job, Result
from neurochains.studies.results import Results

__all__ = ["Schedule"]


class Schedule:
    """Hands out the jobs of a study; cases are made as they are needed, so that few are held at a time.

    Args:
        cases: in an order in which the one whose size another takes comes first.
        results: those there are; cases that are finished or failed are passed over.
    """

    def __init__(self, cases: Iterator[Case], results: Results) -> None:
        self._cases = cases
        self._results = results
        self._ready: deque[Case] = deque()
        self._waiting: dict[str, list[Case]] = {}
        self._running: dict[str, Case] = {}

    @property
    def running(self) -> int:
        """How many cases were handed out and are not back."""
        return len(self._running)

    def next(self) -> tuple[Case, Job | Result] | None:
        """Return the next case with its job, or with the result that it has without being run; None if there is none.

        A case has a result at once where the case whose size it takes has failed.
        """
        case = self._next()
        if case is None:
            return None
        if case.like is not None and case.like in self._results.failed:
            reason = f"The case whose size it takes, {case.like}, failed: {self._results.error(case.like)}"
            return case, {"id": case.id, "status": "failed", "error_type": "BaseFailed", "error": reason}
        base = None if case.like is None else self._results.base(case.like)
        self._running[case.id] = case
        return case, {"id": case.id, "spec": case.spec, "base": base}

    def running_case(self, identifier: str) -> Case | None:
        """Return a case that was handed out and is not back; None for any other."""
        return self._running.get(identifier)

    def back(self, result: Result) -> Case | None:
        """Return the case that a result is of; None if it came already. Cases that waited for it are next."""
        case = self._running.pop(result["id"], None)
        if case is not None:
            self.release(case)
        return case

    def release(self, case: Case) -> None:
        """Let the cases go that wait for one."""
        self._ready.extend(self._waiting.pop(case.id, ()))

    def _next(self) -> Case | None:
        if self._ready:
            return self._ready.popleft()
        known: Any = (self._results.finished, self._results.failed)
        for case in self._cases:
            if case.id in known[0] or case.id in known[1]:
                continue
            if case.like is None or case.like in known[0] or case.like in known[1]:
                return case
            self._waiting.setdefault(case.like, []).append(case)
        return None
