"""Studies: how much two workers do beside one, and the papers' comparison on real networks.

- ``--speed``: one small study with one worker and with two, and the ratio of their times after both began; the results
  must be the same.
- ``--table``: 10,000 made-up cases: the time to open their tables.
- ``--plan NAME``: a plan of ``benchmarks/plans`` on the CIFAR-10 networks of the shared data, its tables and figures
  written to ``--out``; what was stopped goes on where it was. ``--cases N`` takes only the first pairs.

``python -m benchmarks studies [--speed] [--table] [--plan NAME] [--cases N] [--workers N] [--out FOLDER]``
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neurochains.studies import Plan, StudyProgress, StudyRun, expand, plot_study, read_plan, read_study, run_study
from neurochains.studies.results import Results

PLANS = Path(__file__).with_name("plans")
DATA = Path(__file__).parents[1] / "runs" / "data"
CIFAR = Path(__file__).parents[2] / "shared" / "data" / "cifar10.zip"
SMALL: dict[str, Any] = {
    "models": ["shapes:vgg"],
    "tasks": [{"shapes": True, "pairs": 6, "per_class": 4}],
    "methods": [{"method": "paper", "steps": 12, "refit": 4}, {"method": "random", "like": "paper", "refit": 10}],
}


def main(arguments: Sequence[str] = ()) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks studies", description=__doc__)
    parser.add_argument("--speed", action="store_true", help="two workers beside one")
    parser.add_argument("--table", action="store_true", help="open the tables of 10,000 cases")
    parser.add_argument("--plan", choices=sorted(path.stem for path in PLANS.glob("*.toml")))
    parser.add_argument("--cases", type=int, default=None, help="only the first pairs of the plan")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs"))
    chosen = parser.parse_args(arguments)
    if chosen.speed:
        print(speed())
    if chosen.table:
        print(table())
    if chosen.plan:
        print(real(chosen.plan, chosen.cases, chosen.workers, chosen.out))
    return 0


def speed() -> str:
    """Return how much more two workers do than one, and whether they give the same."""
    with tempfile.TemporaryDirectory() as folder:
        times = [_steady(Path(folder) / f"{workers}", workers) for workers in (1, 2)]
        one, other = (_numbers(Path(folder) / f"{workers}") for workers in (1, 2))
    same = "the same" if one == other else "NOT the same"
    return f"two workers: {times[0] / times[1]:.2f} times the throughput of one ({times[0]:.1f} s); results {same}"


def _steady(out: Path, workers: int) -> float:
    """Return the seconds from the first results of all workers to the last, for all cases; starting is left out."""
    began: list[tuple[float, int]] = []

    def note(progress: StudyProgress) -> None:
        if progress.done >= workers:
            began.append((time.perf_counter(), progress.done))

    done = run_study(SMALL, out, workers=workers, progress=note)
    (first, counted), (last, cases) = began[0], began[-1]
    return (last - first) / (cases - counted) * done.cases


def _numbers(folder: Path) -> list[Any]:
    study = read_study(folder)
    cases = study.cases.sort_values("case")
    filters = study.filters.astype({"case": str}).sort_values(["case", "layer", "index"])
    return [cases.case.tolist(), cases.kl.tolist(), filters.score.tolist(), filters["index"].tolist()]


def table(cases: int = 10_000, filters: int = 60) -> str:
    """Return how long the tables of many made-up cases take to open."""
    plan = Plan.of({**SMALL, "tasks": [{"shapes": True, "pairs": 100}], "seeds": list(range(cases // 200))})
    row = {"filters": filters, "of": 2032, "kl": 0.04, "agreement": 1.0, "image_kl": [0.04] * 20, "skipped": []}
    columns = {"layer": [f"layer{i % 30}" for i in range(filters)], "label": [f"L_{i}" for i in range(filters)]}
    numbers = {name: [i / 7 for i in range(filters)] for name in ("score", "divergence", "drop")}
    made = {"status": "done", "row": row, "filters": {**columns, "index": list(range(filters)), **numbers}}
    with tempfile.TemporaryDirectory() as folder:
        results = Results(Path(folder))
        for case in expand(plan):
            results.add({"id": case.id, "spec": case.spec, **made})
        results.compact()
        document = '{"version": 1, "plan": {}, "models": {}, "cases": 0, "created": "", "neurochains": ""}'
        (Path(folder) / "study.json").write_text(document)
        read_study(folder)
        began = time.perf_counter()
        study = read_study(folder)
        seconds = time.perf_counter() - began
    return f"{len(study.cases):,} cases and {len(study.filters):,} filters opened in {seconds:.2f} s"


def real(name: str, cases: int | None, workers: int | None, out: Path) -> str:
    """Run a plan on the shared data, draw it, and return what came of it."""
    if not CIFAR.exists():
        return f"the shared data is not at {CIFAR}"
    _unpack(DATA)
    plan = read_plan(PLANS / f"{name}.toml")
    if cases is not None:
        plan = dataclasses.replace(plan, tasks=tuple(_first(entry, cases) for entry in plan.tasks))
    done: StudyRun = run_study(plan, out / name, workers=workers, progress=_say)
    return f"{done.done} of {done.cases} cases done, {done.failed} failed; {plot_study(out / name)}"


def _first(entry: Any, cases: int) -> Any:
    """Return an entry of a plan with so many pairs of one draw."""
    return dataclasses.replace(entry, pairs=cases, seed=entry.draws[0])


def _say(progress: StudyProgress) -> None:
    left = "" if progress.seconds_left is None else f", {progress.seconds_left:.0f} s left"
    print(f"{progress.done}/{progress.cases} done, {progress.failed} failed{left}; {progress.last}", flush=True)


def _unpack(folder: Path) -> None:
    """Put CIFAR-10's test images where the plans expect them."""
    if not (folder / "cifar10" / "test").is_dir():
        part = folder / "cifar10.part"
        shutil.rmtree(part, ignore_errors=True)
        with zipfile.ZipFile(CIFAR) as archive:
            archive.extractall(part, [name for name in archive.namelist() if name.startswith("test/")])
        part.rename(folder / "cifar10")


if __name__ == "__main__":
    raise SystemExit(main())
