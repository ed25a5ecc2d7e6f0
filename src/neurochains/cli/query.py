"""`neurochains query`: which filters or kernels matter for what an expression over images and classes says."""

from __future__ import annotations

import csv
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from neurochains.cli import options as o
from neurochains.cli import question as q
from neurochains.cli.console import results_console, working, write_json
from neurochains.cli.models import ModelChoice, check_device
from neurochains.cli.values import given
from neurochains.errors import SettingsError

if TYPE_CHECKING:
    from neurochains.circuits import QueryResult
    from neurochains.circuits.query import Source

__all__ = ["query"]

_COLUMNS = ("rank", "label", "name", "layer", "filter", "channel", "score", "share")


class Normalisation(str, Enum):
    """What brings the values of each layer to one scale."""

    none = "none"
    minmax = "layer-minmax"
    sum = "layer-sum"


_Expression = Annotated[
    str, typer.Argument(metavar="EXPRESSION", help="Such as: 'tiger - 0.5 * (\"Border Collie\" + photo.jpg)'.")
]
_Bundle = Annotated[
    Path | None, typer.Option("--bundle", "-b", metavar="DIR", help="What prepare wrote: answers at once.")
]
_Model = Annotated[
    str | None, typer.Option("--model", "-m", metavar="NAME", help="As in extract; measures what no bundle holds.")
]
_Images = Annotated[
    Path | None, typer.Option("--images", "-i", metavar="FOLDER", help="FOLDER/SET/FILE or FOLDER/FILE.")
]
_Kernels = Annotated[bool, typer.Option("--kernels", help="Rank kernels instead of filters.")]
_Normalise = Annotated[
    Normalisation, typer.Option(metavar="HOW", help="Of each layer first: layer-minmax, layer-sum or none.")
]
_Top = Annotated[int, typer.Option(metavar="N", min=1, help="How many to show.")]
_AsCsv = Annotated[bool, typer.Option("--csv", help="Print the result as CSV.")]


def query(
    expression: _Expression,
    bundle: _Bundle = None,
    model: _Model = None,
    images: _Images = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    random_weights: o.RandomWeights = False,
    input_size: o.InputSize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    device: o.Device = None,
    classes: o.Classes = None,
    per_class: o.PerClass = None,
    target: q.Targets = None,
    criterion: q.Criteria = None,
    reduce: q.Reduces = None,
    layers: q.Layers = None,
    kernels: _Kernels = False,
    normalise: _Normalise = Normalisation.none,
    top: _Top = 20,
    seed: o.Seed = 0,
    as_json: o.AsJson = False,
    as_csv: _AsCsv = False,
) -> None:
    """Rank the filters or kernels that matter for an expression over images, classes and sets of images."""
    choice = None if model is None else ModelChoice(model, weights, trust_pickle, random_weights, input_size, mean, std)
    asked = given(target=target, criterion=criterion, reduce=reduce)
    drawn = given(classes=classes, per_class=per_class, seed=seed, device=device)
    _check(bundle, choice, images, as_json=as_json, as_csv=as_csv)
    with working("nothing was written."):
        from neurochains.circuits import query as ask

        source = _source(bundle, choice, images, asked, drawn)
        result = ask(expression, source, kernels=kernels, layers=layers, normalise=normalise.value)
    _answer(result, top, as_json=as_json, as_csv=as_csv)


def _answer(result: QueryResult, top: int, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        write_json(result.to_json(top))
    elif as_csv:
        _write_csv(result, top)
    else:
        _show(result, top)


def _check(
    bundle: Path | None, choice: ModelChoice | None, images: Path | None, *, as_json: bool, as_csv: bool
) -> None:
    """Check that the options name something to ask, and one form of answer."""
    if (choice is None) != (images is None) or (bundle is None and choice is None):
        raise SettingsError(
            "A query needs --bundle DIR, or --model NAME with --images FOLDER, or all three: then what the bundle does "
            "not hold is measured."
        )
    if as_json and as_csv:
        raise SettingsError("--json and --csv cannot be had at once. Give one of them.")


def _source(
    bundle: Path | None, choice: ModelChoice | None, images: Path | None, asked: dict[str, Any], drawn: dict[str, Any]
) -> Source:
    """Return what is asked: a bundle, or images with a model."""
    from neurochains.circuits import Bundle, Measured

    opened = None if bundle is None else Bundle.open(bundle)
    if choice is None or images is None:
        assert opened is not None
        return _of_bundle(opened, asked)
    check_device(drawn.get("device"))
    model = choice.load()
    return Measured(model, images, bundle=opened, preprocess=choice.preprocess(model), **asked, **drawn)


def _of_bundle(bundle: Any, asked: dict[str, Any]) -> Source:
    """Return the bundle, if it was prepared for what is asked."""
    for name, value in asked.items():
        if bundle.settings[name] != value:
            raise SettingsError(
                f"The bundle was prepared with --{name} {bundle.settings[name]}, not {value}. Leave the option out, or "
                "give --model and --images without the bundle."
            )
    return bundle


def _show(result: QueryResult, top: int) -> None:
    console = results_console()
    settings = ", ".join(str(value) for key, value in result.settings.items() if (key, value) != ("normalise", "none"))
    console.print(Text(f"{result.expression}   ({settings})\n"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for name, where in (("", "right"), (result.kind[:-1], "left"), ("name", "left"), ("score", "right")):
        table.add_column(name, justify=where, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("share", justify="right", no_wrap=True)
    rows = result.rows(top)
    for rank, row in enumerate(rows, 1):
        cells = (str(rank), row.label, row.name, f"{row.score:.4g}", f"{row.share:.2%}")
        table.add_row(*map(Text, cells))
    if rows:
        console.print(table)
    shown = f"; the first {len(rows)} are shown" if len(rows) < result.positive else ""
    console.print(
        Text(f"\n{result.positive:,} of {result.of:,} {result.kind} have a score above 0{shown}."), soft_wrap=True
    )


def _write_csv(result: QueryResult, top: int) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for rank, row in enumerate(result.rows(top), 1):
        channel = "" if row.channel is None else row.channel
        writer.writerow((rank, row.label, row.name, row.layer, row.filter, channel, repr(row.score), repr(row.share)))
