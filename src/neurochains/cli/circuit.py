"""`neurochains circuit`: the kernels that give a filter, a logit or a pair of classes its map, found and saved."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from neurochains.cli import options as o
from neurochains.cli.console import results_console, tell, working, write_json
from neurochains.cli.extract import command_line
from neurochains.cli.models import ModelChoice, check_device
from neurochains.cli.places import check_folder
from neurochains.errors import SettingsError

if TYPE_CHECKING:
    from neurochains.circuits import Circuit, Comparison
    from neurochains.data import Task
    from neurochains.network import Network

__all__ = ["circuit"]

_CIRCUIT = "The circuit"
_FIGURES = "The figures"


def circuit(
    model: o.Model,
    images: o.Images,
    out: o.OutFolder,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="TARGET",
            help='"features.10[9]", L4B1C2_48, logit:3, or logit:3-logit:5.',
            rich_help_panel=_CIRCUIT,
        ),
    ],
    keep: Annotated[
        float | None,
        typer.Option(metavar="F", help="Fraction of the kernels; 1: all that lead there.", rich_help_panel=_CIRCUIT),
    ] = None,
    correlation: Annotated[
        float | None,
        typer.Option(metavar="R", help="Instead: the smallest that gives the map so well.", rich_help_panel=_CIRCUIT),
    ] = None,
    thresholds: Annotated[
        list[float] | None,
        typer.Option(
            metavar="F K", help="Instead, hierarchical: shares of filters, kernels.", rich_help_panel=_CIRCUIT
        ),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            metavar="METHOD", help="budget, topk, hierarchical, snip, random, worst, ...", rich_help_panel=_CIRCUIT
        ),
    ] = "budget",
    binary: Annotated[
        bool, typer.Option("--binary", help="Budget: kernels as they are, none tuned.", rich_help_panel=_CIRCUIT)
    ] = False,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    random_weights: o.RandomWeights = False,
    input_size: o.InputSize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    device: o.Device = None,
    classes: o.Classes = None,
    per_class: o.PerClass = None,
    held_out: o.HeldOut = 0,
    figure: Annotated[
        bool, typer.Option("--figure/--no-figure", help="Draw the circuit.", rich_help_panel=_FIGURES)
    ] = True,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="All methods and sizes on the held-out images.", rich_help_panel=_FIGURES),
    ] = False,
    visualise: Annotated[
        bool,
        typer.Option(
            "--visualise", help="What the target answers to, in circuits of several sizes.", rich_help_panel=_FIGURES
        ),
    ] = False,
    seed: o.Seed = 0,
    force: o.Force = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Find the kernels and filters that give a target its map, and say how well they do on other images."""
    size = _size(keep, correlation, thresholds)
    if compare and not held_out:
        raise SettingsError("--compare measures on images that no circuit was found on: add --held-out 10.")
    choice = ModelChoice(model, weights, trust_pickle, random_weights, input_size, mean, std)
    drawn = {"classes": classes, "per_class": per_class, "held_out": held_out, "seed": seed}
    check_folder(out, force=force, kind="circuit")
    with working(f"nothing was written to {out}."):
        check_device(device)
        work = _Work(*_prepared(choice, images, drawn, device), target, seed, out, quiet)
        options = {"binary": True} if binary else {}
        found = work.find(method=method, **size, **options)
        found.check_parity()
        found.provenance["command"] = command_line()
        found.save(out, force=force)
    with working(f"the circuit is saved in {out}; its figures are not all written."):
        table = work.draw(found, figure=figure, compare=compare, visualise=visualise)
    if as_json:
        write_json(found.metrics if table is None else {**found.metrics, "methods": [row.as_row() for row in table]})
    elif not quiet:
        _show(found, table, out)


def _size(keep: float | None, correlation: float | None, thresholds: list[float] | None) -> dict[str, Any]:
    """Return how large the circuit shall be, as the one keyword of `circuit`; a tenth of the kernels by default."""
    if thresholds is not None and len(thresholds) != 2:
        raise SettingsError(f"--thresholds takes two numbers, for filters and for kernels; got {len(thresholds)}.")
    pair = None if thresholds is None else tuple(thresholds)
    given = {"keep": keep, "correlation": correlation, "thresholds": pair}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        raise SettingsError(f"{' and '.join(f'--{name}' for name in chosen)} cannot be had at once. Give one of them.")
    return chosen or {"keep": 0.1}


def _prepared(choice: ModelChoice, images: Path, drawn: dict[str, Any], device: str | None) -> tuple[Network, Task]:
    from neurochains.data import Task
    from neurochains.network import Network

    model = choice.load()
    task = Task.from_folder(images, model=model, preprocess=choice.preprocess(model), **drawn)
    return Network.trace(model, task.images[:1], device=device), task


@dataclass(frozen=True, slots=True)
class _Work:
    """A target of a network on some images, and where the results go."""

    network: Network
    task: Task
    target: str
    seed: int
    out: Path
    quiet: bool

    def find(self, **size: Any) -> Circuit:
        """Return the circuit of a size."""
        from neurochains.circuits import circuit as find

        progress = None if self.quiet else _say
        return find(self.network, self.task, target=self.target, seed=self.seed, progress=progress, **size)

    def draw(self, found: Circuit, *, figure: bool, compare: bool, visualise: bool) -> list[Comparison] | None:
        """Write the figures that are wanted; return the comparison of methods, if it is."""
        from neurochains.pictures import circuit_figure, save_figure

        if figure:
            save_figure(circuit_figure(found), self.out / "circuit.svg")
        if visualise:
            self._visualise()
        return self._compare() if compare else None

    def _compare(self) -> list[Comparison]:
        from neurochains.circuits import compare_methods
        from neurochains.pictures import correlation_figure, save_figure

        tell_method = None if self.quiet else lambda method: tell(f"comparing: {method}")
        rows = compare_methods(self.network, self.task, target=self.target, seed=self.seed, progress=tell_method)
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            value = float("nan") if row.unseen is None else row.unseen.pearson
            curves.setdefault(row.method, []).append((row.keep, value))
        count = 0 if self.task.held_out is None else len(self.task.held_out)
        save_figure(correlation_figure(curves, title=f"{self.target}: {count} unseen images"), self.out / "methods.svg")
        text = json.dumps([row.as_row() for row in rows], indent=2)
        (self.out / "methods.json").write_text(text + "\n", encoding="utf-8")
        return rows

    def _visualise(self) -> None:
        from neurochains.pictures import revisualisation_figure, revisualise, save_figure

        whole, rows = revisualise(self.network, self.task, target=self.target, seed=self.seed)
        made = revisualisation_figure(whole, rows, title=f"{self.target} seen again in its circuits")
        save_figure(made, self.out / "seen_again.svg")


def _say(kernels: int, correlation: float) -> None:
    tell(f"{kernels:,} kernels, correlation {correlation:.3f}")


def _show(found: Circuit, table: list[Comparison] | None, out: Path) -> None:
    console, metrics = results_console(), found.metrics
    shown = Table(box=None, pad_edge=False)
    for name in ("", "kernels", "of", "filters", "layers", "Pearson", "Spearman", "error"):
        shown.add_column(name, justify="left" if not name else "right", no_wrap=True)
    sizes = (f"{metrics['kernels']:,}", f"{metrics['of']:,}", f"{metrics['filters']:,}", f"{metrics['layers']}")
    for name, values in (("images", metrics), ("held out", metrics.get("held_out"))):
        if values is not None:
            shown.add_row(name, *sizes, *(f"{values[key]:.3f}" for key in ("pearson", "spearman", "error")))
    console.print(Text(f"{found.target}, {found.settings['method']}\n"), soft_wrap=True)
    console.print(shown)
    if metrics["tuned"]:
        console.print("\nThe scores of the kept kernels are tuned; --binary leaves the kernels as they are.")
    if table is not None:
        console.print(_methods(table))
    console.print(f"\nSaved in {out}.", soft_wrap=True)


def _methods(rows: list[Comparison]) -> Table:
    """Return the correlations on unseen images: a row for each method, a column for each size."""
    sizes = sorted({row.keep for row in rows})
    shown = Table(box=None, pad_edge=False, title="\nPearson correlation on the held-out images", title_justify="left")
    shown.add_column("kernels kept")
    for size in sizes:
        shown.add_column(f"{size:.0%}", justify="right")
    cells = {(row.method, row.keep): "collapse" if row.unseen is None else f"{row.unseen.pearson:.3f}" for row in rows}
    for method in dict.fromkeys(row.method for row in rows):
        shown.add_row(method, *(cells[method, size] for size in sizes))
    return shown
