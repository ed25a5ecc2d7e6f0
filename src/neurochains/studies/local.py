"""The local engine: processes on this machine, one thread each.

They are started afresh, not forked, and spoken to in lines of JSON, so that a study runs the same from a script, a
notebook and a terminal. A worker that dies, of too little memory for instance, is replaced and its job tried once more.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path

from neurochains.errors import SettingsError
from neurochains.studies.engine import Job, Result, lost

__all__ = ["LocalEngine"]

ATTEMPTS = 2
_CODE = "from neurochains.studies.worker import main; main()"
_ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
_SHOWN = 3  # lines of what a dead worker said


class LocalEngine:
    """Runs jobs in processes of this machine.

    Args:
        root: the folder that relative paths in a plan start from.
        workers: how many processes; as many as there are processors for this one if None.
        device: where networks run.

    Raises:
        SettingsError: there would be no worker.
    """

    def __init__(self, root: Path, *, workers: int | None = None, device: str | None = None) -> None:
        if workers is not None and workers < 1:
            raise SettingsError(f"A study needs at least one worker; got workers={workers}.")
        self.capacity = workers or _processors()
        self._arguments = (str(root.absolute()), device or "")
        self._said: queue.SimpleQueue[tuple[_Worker, str | None]] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []

    def submit(self, job: Job) -> None:
        """Give a job to an idle worker, or to one more."""
        worker = self._idle.pop() if self._idle else self._started()
        worker.give(job)

    def collect(self, timeout: float) -> list[Result]:
        """Return results, as soon as there is one, or none after so many seconds."""
        found: list[Result] = []
        try:
            found += self._heard(*self._said.get(timeout=timeout))
            while True:
                found += self._heard(*self._said.get_nowait())
        except queue.Empty:
            return found

    def stop(self) -> None:
        """Kill the workers."""
        for worker in self._workers:
            worker.end()
        self._workers, self._idle = [], []

    def _started(self) -> _Worker:
        worker = _Worker(self._arguments, self._said)
        self._workers.append(worker)
        return worker

    def _heard(self, worker: _Worker, line: str | None) -> list[Result]:
        """Return the results that a line of a worker, or its end, means."""
        if worker not in self._workers:
            return []
        if line is not None:
            worker.job = None
            self._idle.append(worker)
            return [json.loads(line)]
        return self._died(worker)

    def _died(self, worker: _Worker) -> list[Result]:
        job, attempt, reason = worker.job, worker.attempt, worker.end()
        self._workers.remove(worker)
        self._idle = [one for one in self._idle if one is not worker]
        if job is None:
            return []
        if attempt >= ATTEMPTS:
            return [lost(job, reason)]
        self._started().give(job, attempt=attempt + 1)
        return []


class _Worker:
    """One process, with a thread that passes on what it says."""

    def __init__(self, arguments: tuple[str, str], said: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        self.job: Job | None = None
        self.attempt = 0
        self._last: deque[str] = deque(maxlen=_SHOWN)
        self._process = subprocess.Popen(  # noqa: S603 - this Python, with code of this package
            [sys.executable, "-c", _CODE, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **_ALONE},
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        self._threads = [threading.Thread(target=self._pass_on, args=(said,), daemon=True)]
        self._threads.append(threading.Thread(target=self._remember, daemon=True))
        for thread in self._threads:
            thread.start()

    def give(self, job: Job, *, attempt: int = 1) -> None:
        """Send a job; if the process is gone, its end says so later."""
        self.job, self.attempt = job, attempt
        stream = self._process.stdin
        if stream is not None:
            try:
                stream.write(json.dumps(job) + "\n")
                stream.flush()
            except OSError:
                return

    def end(self) -> str:
        """End the process if it still runs; return in words how it ended."""
        code = self._process.poll()
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # it still holds what the process did not read
                    continue
        return self._words(self._process.returncode if code is None else code)

    def _words(self, code: int) -> str:
        how = f"by signal {-code}" if code < 0 else f"with code {code}"
        why = ": perhaps the memory did not suffice; use fewer workers" if code == -9 else ""
        said = f"; it said: {' | '.join(self._last)}" if self._last else ""
        return f"The worker ended {how}{why}{said}."

    def _pass_on(self, said: queue.SimpleQueue[tuple[_Worker, str | None]]) -> None:
        for line in self._process.stdout or ():
            said.put((self, line))
        said.put((self, None))

    def _remember(self) -> None:
        for line in self._process.stderr or ():
            self._last.append(line.strip())


def _processors() -> int:
    """Return how many processors this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
