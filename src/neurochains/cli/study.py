"""`neurochains study run | show | plot`: many cases after one plan, what came of them, and their figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neurochains.cli import options as o
from neurochains.cli.console import errors_console, is_watched, results_console, tell, working, write_json
from neurochains.cli.progress import duration
from neurochains.cli.values import ManyValues

if TYPE_CHECKING:
    from neurochains.studies import Estimate, Plan, StudyProgress

__all__ = ["study"]

_EVERY = 30.0  # seconds between two lines in a log

study = typer.Typer(
    name="study",
    no_args_is_help=True,
    add_completion=False,
    help="Run a plan of many cases, and show and draw what came of it.",
)


class EngineName(str, Enum):
    """What runs the cases."""

    local = "local"
    ray = "ray"


PlanFile = Annotated[Path, typer.Argument(metavar="PLAN.toml", help="The plan: models, tasks, methods, seeds.")]
StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="A folder that study run wrote to.")]
PlanOrStudy = Annotated[Path, typer.Argument(metavar="PLAN.toml|STUDY", help="A plan, or a folder of a study.")]
Workers = Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes here.", show_default="all cores")]
Engines = Annotated[EngineName, typer.Option(metavar="ENGINE", help="local, or on a cluster: ray.")]
Address = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Of the Ray cluster: auto, or ray://HOST:10001.")]
Cpus = Annotated[float, typer.Option(metavar="N", min=0, help="Of Ray: processors for each case.")]
Gpus = Annotated[float, typer.Option(metavar="N", min=0, help="Of Ray: GPUs for each case, such as 0.25.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Run even a very large plan.")]
Retry = Annotated[bool, typer.Option("--retry", help="Run the cases again that failed.")]
Probe = Annotated[bool, typer.Option("--probe/--no-probe", help="Load each model once to estimate the time.")]
Figures = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="For the figures.", show_default="STUDY/figures")
]


@study.command(cls=ManyValues)
def run(
    plan: PlanFile,
    out: o.OutFolder,
    workers: Workers = None,
    engine: Engines = EngineName.local,
    address: Address = None,
    cpus: Cpus = 1.0,
    gpus: Gpus = 0.0,
    device: o.Device = None,
    yes: Yes = False,
    retry: Retry = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Run the cases of a plan that have no result yet. After Ctrl-C the same command goes on."""
    kept = f"what is finished is kept in {out}; the same command goes on with the rest."
    with working(kept):
        from neurochains.studies import count_cases, read_plan, run_study

        read = read_plan(plan)
        yes = yes or _confirmed(count_cases(read))
        if not quiet:
            tell(f"{count_cases(read):,} cases, at most; results go to {out}")
        chosen = {"engine": engine.value, "workers": workers, "address": address, "cpus": cpus, "gpus": gpus}
        with _progress(quiet) as progress:
            done = run_study(read, out, device=device, yes=yes, retry=retry, progress=progress, **chosen)
    if as_json:
        write_json({**asdict(done), "folder": str(done.folder)})
    elif not quiet:
        new = done.done + done.failed - done.before
        console = results_console()
        console.print(
            f"{done.done:,} of {done.cases:,} cases done, {done.failed:,} failed; {new:,} of them now, in "
            f"{duration(done.seconds)}.",
            soft_wrap=True,
        )
        console.print(f"See them with: neurochains study show {out}, and draw them: study plot {out}", soft_wrap=True)


@study.command(cls=ManyValues)
def show(place: PlanOrStudy, probe: Probe = True, as_json: o.AsJson = False) -> None:
    """Print what a plan comes to and about how long it takes, or what came of a study so far."""
    with working("nothing was written."):
        answer = _outcomes(place) if place.is_dir() else _estimated(place, probe)
    if isinstance(answer, list):
        write_json(answer) if as_json else _print_outcomes(answer)
    elif as_json:
        write_json({**asdict(answer[1]), "plan": answer[0].to_json()})
    else:
        _print_estimate(*answer)


@study.command(cls=ManyValues)
def plot(folder: StudyFolder, out: Figures = None, as_json: o.AsJson = False, quiet: o.Quiet = False) -> None:
    """Draw every figure that a study's tables allow, as SVG and PNG, and one HTML page with all of them."""
    with working("figures that were written stay."):
        from neurochains.studies import plot_study

        page = plot_study(folder, out)
    files = sorted(str(path) for path in page.parent.iterdir() if path.suffix in (".svg", ".png", ".html"))
    if as_json:
        write_json({"page": str(page), "files": files})
    elif not quiet:
        results_console().print(f"{len(files) - 1} files and the page {page}", soft_wrap=True)


def _confirmed(cases: int) -> bool:
    """Return whether somebody at a terminal says yes to a plan so large that it is asked for."""
    from neurochains.studies import MANY

    return cases > MANY and is_watched() and typer.confirm(f"The plan has {cases:,} cases. Run them all?", err=True)


def _outcomes(folder: Path) -> list[dict[str, Any]]:
    """Return one row for each model and method: how many cases, how many failed, and medians."""
    from neurochains.studies import summarise

    return summarise(folder)


def _estimated(path: Path, probe: bool) -> tuple[Plan, Estimate]:
    """Return a plan and what it costs."""
    from neurochains.studies import estimate, read_plan

    plan = read_plan(path)
    return plan, estimate(plan, probe=probe)


def _print_outcomes(rows: list[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    words = {"model": "model", "method": "method", "settings": "settings", "done": "done", "failed": "failed"}
    measured = {"filters": ",.0f", "share": ".1%", "kl": ".3g", "agreement": ".1%", "seconds": ".1f"}
    for name in words.values():
        table.add_column(name, no_wrap=True)
    for name in measured:
        table.add_column(f"{name}*", justify="right", no_wrap=True)
    for row in rows:
        numbers = ["" if row[name] is None else f"{row[name]:{form}}" for name, form in measured.items()]
        table.add_row(*(str(row[name]) for name in words), *numbers)
    console = results_console()
    console.print(table)
    console.print("* medians over the cases that are done")


def _print_estimate(plan: Plan, found: Estimate) -> None:
    console = results_console()
    parts = (("models", plan.models), ("methods", plan.methods), ("settings", plan.settings))
    for word, entries in parts:
        names = [entry.name for entry in entries if entry.name]
        if names:
            console.print(f"{word}: {', '.join(names)}", soft_wrap=True)
    console.print(f"seeds: {', '.join(map(str, plan.seeds))}")
    each = f" ({_listed(found.by_method)})" if found.by_method else ""
    console.print(f"cases: {found.cases:,}{each}", soft_wrap=True)
    if found.seconds is not None:
        steps = {name: duration(seconds) for name, seconds in found.steps.items()}
        console.print(f"one step: {_listed(steps)}", soft_wrap=True)
        console.print(f"about {duration(found.seconds)} of one processor, {duration(found.seconds_with(2))} of two")


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _words(progress: StudyProgress) -> str:
    """Return a report as one line."""
    parts = [f"{progress.done + progress.failed:,}/{progress.cases:,} cases"]
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    if progress.seconds_left is not None:
        parts.append(f"{duration(progress.seconds_left)} left")
    return " · ".join(parts)


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[StudyProgress], None] | None]:
    """Yield what a study reports its progress to: a bar where somebody watches, else a line now and then."""
    if quiet:
        yield None
    elif is_watched():
        with _bar() as bar:
            task = bar.add_task("study", total=None, words="")
            yield lambda report: bar.update(
                task, completed=report.done + report.failed, total=report.cases, words=_words(report)
            )
    else:
        yield _Lines()


class _Lines:
    """Writes a line at once when something is finished first, and then one every half minute."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, report: StudyProgress) -> None:
        import time

        now = time.monotonic()
        finished = report.done + report.failed
        if report.last and (now >= self._next or finished == report.cases):
            self._next = now + _EVERY
            tell(f"{_words(report)}; last: {report.last}")


def _bar() -> Any:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[words]}"),
    )
    return Progress(*columns, console=errors_console(), transient=True)
