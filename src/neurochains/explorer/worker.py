"""The worker: what takes longer than a click may runs beside the page, with progress, and can be stopped.

Dash keeps the results of its background callbacks in a diskcache; here it is a folder of this process alone, holds JSON
only, and is removed in the end. The work itself runs in a few threads, so that all of it shares the one network that
is loaded: torch computes outside Python's lock, and the page goes on answering. A job is stopped where it reports its
progress.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import Any

from neurochains.errors import ModelError

__all__ = ["Stopped", "stop_point", "wish", "worker"]

_JOB: ContextVar[_Job | None] = ContextVar("_JOB", default=None)
_THREADS = 2


class Stopped(Exception):  # noqa: N818 - nothing went wrong
    """The job that this thread works on is not wanted any more."""


class _Job:
    """One job: its work, and whether it shall stop."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.future: Future[None] | None = None


class _Jobs:
    """The jobs that run or wait, by name."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="explorer")
        self._known: dict[str, _Job] = {}

    def start(self, work: Callable[..., None], *args: Any) -> str:
        """Return the name of a new job."""
        name, job = secrets.token_hex(8), _Job()
        self._known[name] = job
        surroundings = copy_context()
        surroundings.run(_JOB.set, job)
        job.future = self._pool.submit(surroundings.run, work, *args)
        job.future.add_done_callback(lambda _: self._known.pop(name, None))
        return name

    def stop(self, name: str) -> None:
        """Let a job end at its next stop point; one that waits is not begun."""
        found = self._known.get(name)
        if found is not None and found.future is not None:
            found.stop.set()
            found.future.cancel()

    def has(self, name: str) -> bool:
        """Return whether a job runs or waits."""
        return name in self._known

    def close(self) -> None:
        """Stop all jobs."""
        for name in list(self._known):
            self.stop(name)
        self._pool.shutdown(wait=False, cancel_futures=True)


def stop_point() -> None:
    """End the job that this thread works on if it is not wanted any more; nothing happens outside a job.

    Raises:
        Stopped: it is not wanted.
    """
    job = _JOB.get()
    if job is not None and job.stop.is_set():
        raise Stopped


def wish(search: str | None) -> dict[str, Any]:
    """Return what a job is asked for with: two that ask the same are still two, and do not read each other's result."""
    return {"search": search, "number": secrets.token_hex(4)}


def worker(folder: str) -> Any:
    """Return the manager of background callbacks for a Dash application.

    Args:
        folder: where results wait until the page fetches them.

    Raises:
        ModelError: a package of the extra "explorer" is missing.
    """
    try:
        import diskcache
        from dash import DiskcacheManager

        cache = diskcache.Cache(folder, disk=diskcache.JSONDisk)
        return _threaded(DiskcacheManager)(cache)
    except ImportError as error:
        raise ModelError(f"{error.name} is missing: pip install 'neurochains[explorer]'.") from error


def _threaded(base: type) -> type:
    """Return Dash's manager with threads in place of processes."""

    class ThreadWorker(base):
        """Runs jobs in threads of this process."""

        def __init__(self, cache: Any) -> None:
            super().__init__(cache)
            self._jobs, self._secret = _Jobs(), b""

        def call_job_fn(self, key: str, job_fn: Callable[..., None], args: Any, context: Any) -> str:
            return self._jobs.start(job_fn, key, self._make_progress_key(key), args, context)

        def terminate_job(self, job: str | None) -> None:
            self._jobs.stop(str(job))

        def terminate_unhealthy_job(self, job: str) -> bool:  # noqa: ARG002 - a thread that failed has ended
            return False

        def job_running(self, job: str) -> bool:
            return self._jobs.has(str(job))

        def get_or_create_signing_secret(self, generate: Callable[[], bytes]) -> bytes:
            self._secret = self._secret or generate()
            return self._secret

        def close(self) -> None:
            """Stop all jobs, and forget their results."""
            self._jobs.close()
            self.handle.close()

    return ThreadWorker
