"""What runs the cases of a study: engines take jobs and give results, in any order.

A job and a result are JSON values, see `neurochains.studies.runner.Runner.run`. `ENGINES` names those that there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Engine", "Job", "Result", "lost"]

Job = Mapping[str, Any]
Result = dict[str, Any]


class Engine(Protocol):
    """Runs jobs somewhere."""

    @property
    def capacity(self) -> int:
        """How many jobs it can have at a time, as things stand."""
        ...

    def submit(self, job: Job) -> None:
        """Take one more job."""
        ...

    def collect(self, timeout: float) -> list[Result]:
        """Return results, as soon as there is one, or none after so many seconds."""
        ...

    def stop(self) -> None:
        """Stop at once what still runs, and give everything back."""
        ...


def lost(job: Job, reason: str) -> Result:
    """Return the result of a job that its worker did not survive."""
    return {"id": job["id"], "status": "failed", "error_type": "WorkerLost", "error": reason, "seconds_case": 0.0}
