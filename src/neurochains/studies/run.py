"""Running a study: its cases handed to an engine, each result written as it comes.

1. The plan is expanded once to count what is left, and what is in the folder must be of it.
2. As many jobs are with the engine as it can have; the next is made when one comes back.
3. Each result is written before the next is looked at. So whenever the process ends, by Ctrl-C, a full disk or a kill,
   what came back is kept, and the same call goes on with the rest.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import neurochains
from neurochains.chains.plain import plain
from neurochains.errors import ArtifactError, SettingsError, did_you_mean
from neurochains.studies.cases import Case, count_cases, expand
from neurochains.studies.engine import Engine, Result
from neurochains.studies.libraries import import_extra
from neurochains.studies.local import LocalEngine
from neurochains.studies.plan import Plan
from neurochains.studies.progress import Pace, StudyProgress
from neurochains.studies.results import Results
from neurochains.studies.schedule import Schedule
from neurochains.studies.store import VERSION, lock, publish, read_study_file

__all__ = ["ENGINES", "MANY", "StudyRun", "run_study"]

ENGINES = ("local", "ray")
MANY = 100_000
"""Cases from which on a study is refused unless it is confirmed."""

_WAIT = 5.0  # seconds between two reports while nothing comes back


@dataclass(frozen=True, slots=True)
class StudyRun:
    """What a run of a study came to: where it is, its cases, and how many of them are done and failed.

    `before` counts those that were finished or failed when it began.
    """

    folder: Path
    cases: int
    done: int
    failed: int
    before: int
    seconds: float


def run_study(
    plan: Plan | Mapping[str, Any] | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    engine: Literal["local", "ray"] = "local",
    workers: int | None = None,
    device: str | None = None,
    address: str | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    yes: bool = False,
    retry: bool = False,
    progress: Callable[[StudyProgress], None] | None = None,
) -> StudyRun:
    """Run the cases of a plan that have no result yet; the results are read with `read_study`.

    Args:
        plan: a TOML file, a mapping of the same form, or a `Plan`; see `neurochains.studies.plan`.
        out: the folder of the study; what is there of the same plan is kept and not run again.
        engine: ``"local"`` for processes on this machine, ``"ray"`` for a cluster.
        workers: of the local engine: how many processes; by default as many as there are processors.
        device: where networks run, such as ``"cuda"``; by default on the CPU, with `gpus` on the GPU.
        address: of the Ray cluster; by default the one at hand, or a new one on this machine.
        cpus: of Ray: processors for each case.
        gpus: of Ray: GPUs for each case, such as 0.25.
        yes: run even more than 100,000 cases.
        retry: run the cases again that failed.
        progress: called when a case is finished, and every few seconds.

    Raises:
        SettingsError: the plan or an option has a value that cannot be, the plan is very large, or a library missing.
        DataError: a folder of images that the plan needs for its pairs cannot be read.
        ArtifactError: the folder holds something else or another plan's results, another process is at work there, a
            model has other weights than before, or the disk is full.
    """
    began = time.perf_counter()
    chosen = Plan.of(plan)
    _check_engine(engine, workers, address)
    _check_size(count_cases(chosen), yes)
    import_extra("pyarrow.parquet", purpose="The tables of a study need")
    folder = Path(out)
    _check_folder(folder)
    with lock(folder):
        job = _Work(chosen, folder, retry=retry, progress=progress)
        if job.left:
            runner = _engine(engine, chosen.root, workers, device, address, cpus, gpus)
            try:
                job.run(runner)
            finally:
                runner.stop()
        job.results.compact()
    return StudyRun(folder, job.cases, len(job.results.finished), len(job.results.failed), job.before, _since(began))


class _Work:
    """One run of a study: what is left of it, and the loop that does it."""

    def __init__(
        self, plan: Plan, folder: Path, *, retry: bool, progress: Callable[[StudyProgress], None] | None
    ) -> None:
        self.results = Results(folder)
        ids: set[str] = set()
        kinds = []
        failed = set() if retry else set(self.results.failed)
        for case in expand(plan):
            ids.add(case.id)
            if case.id not in self.results.finished and case.id not in failed:
                kinds.append(case.kind)
        self.results.check_plan(ids)
        self.results.failed &= failed
        self.cases, self.left = len(ids), len(kinds)
        self.before = self.cases - self.left
        self._pace = Pace(kinds)
        self._schedule = Schedule(expand(plan), self.results)
        self._progress = progress
        self._last = ""
        self._document = _document(plan, folder, self.cases)
        self._folder = folder
        self._write()

    def run(self, engine: Engine) -> None:
        """Hand out jobs and take in results until there are none."""
        self._report(engine)
        while self._hand_out(engine):
            for result in engine.collect(_WAIT):
                self._take(result)
            self._report(engine)

    def _hand_out(self, engine: Engine) -> bool:
        """Give the engine what it can have; return whether anything is still to come back."""
        while self._schedule.running < engine.capacity:
            found = self._schedule.next()
            if found is None:
                break
            case, job = found
            if "status" in job:
                self._keep(case, dict(job))
                self._schedule.release(case)
            else:
                engine.submit(job)
        return self._schedule.running > 0

    def _take(self, result: Result) -> None:
        """Write a result, before the cases that wait for it can be handed out; one that came before is left out."""
        case = self._schedule.running_case(result["id"])
        if case is not None:
            self._check_digest(case, result.get("digest"))
            self._keep(case, result)
            self._schedule.back(result)

    def _keep(self, case: Case, result: Result) -> None:
        self.results.add({**result, "spec": case.spec})
        self._pace.add(case.kind, result.get("seconds_case") or 0.0)
        self._last = f"{case.spec['method']['name']} on {case.spec['task']['name']} of {case.spec['model']['name']}"

    def _report(self, engine: Engine) -> None:
        if self._progress is not None:
            done, failed, running = len(self.results.finished), len(self.results.failed), self._schedule.running
            left = self._pace.seconds_left(engine.capacity)
            self._progress(StudyProgress(done, failed, self.cases, running, left, self._last))

    def _check_digest(self, case: Case, digest: str | None) -> None:
        """Refuse results of a model whose weights changed since the study began."""
        models, name = self._document["models"], case.spec["model"]["name"]
        if digest is None:
            return
        if models.setdefault(name, digest) != digest:
            raise ArtifactError(
                f"The model {name} has other weights now than when the results in {self._folder} were made. Put "
                "the old weights back, or choose another folder."
            )
        if name not in self._written:
            self._write()

    def _write(self) -> None:
        self._written = set(self._document["models"])
        text = json.dumps(plain(self._document), indent=1, ensure_ascii=False, allow_nan=False)
        publish(self._folder / "study.json", text.encode())


def _document(plan: Plan, folder: Path, cases: int) -> dict[str, Any]:
    """Return what ``study.json`` is to say; the weights of models that are known already stay."""
    before = read_study_file(folder)
    made = {"created": datetime.now(timezone.utc).isoformat(timespec="seconds"), "models": {}}
    kept = {key: before[key] for key in made if before and key in before}
    version = {"format": "neurochains.study", "version": VERSION, "neurochains": neurochains.__version__}
    return {**version, **made, **kept, "name": plan.name, "cases": cases, "plan": plan.to_json()}


def _engine(
    name: str, root: Path, workers: int | None, device: str | None, address: str | None, cpus: float, gpus: float
) -> Engine:
    if name == "local":
        return LocalEngine(root, workers=workers, device=device)
    from neurochains.studies.cluster import RayEngine

    return RayEngine(root, address=address, cpus=cpus, gpus=gpus, device=device)


def _check_engine(engine: str, workers: int | None, address: str | None) -> None:
    if engine not in ENGINES:
        raise SettingsError(
            f"engine must be one of {', '.join(ENGINES)}; got {engine!r}. {did_you_mean(engine, ENGINES)}"
        )
    if engine == "local" and address is not None:
        raise SettingsError("An address is that of a Ray cluster. Give engine='ray' (--engine ray) as well.")
    if engine == "ray" and workers is not None:
        raise SettingsError("Ray runs as many cases as its processors allow; leave workers out, or give cpus for each.")


def _check_size(cases: int, yes: bool) -> None:
    if cases > MANY and not yes:
        raise SettingsError(
            f"The plan has {cases:,} cases, more than {MANY:,}. If that is meant, say so with yes=True (--yes); "
            'otherwise draw some of the pairs: pairs = 200 instead of pairs = "all".'
        )


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ArtifactError(f"{folder} is a file; a study needs a folder. Choose another place.")
    ours = ("study.json", "study.lock", "pending", "cases", "failed", "filters")
    if folder.is_dir() and any(folder.iterdir()) and not any((folder / name).exists() for name in ours):
        raise ArtifactError(f"{folder} holds something else than a study and is left alone. Choose another folder.")


def _since(began: float) -> float:
    return time.perf_counter() - began
