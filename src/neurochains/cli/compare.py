"""`neurochains compare`: saved chains of one network beside each other, read from their folders without the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neurochains.cli.console import results_console, working, write_json
from neurochains.cli.drawing import save_figures
from neurochains.cli.options import AsJson, Force, Quiet
from neurochains.cli.places import check_file

if TYPE_CHECKING:
    from neurochains.measures import Comparison

__all__ = ["compare"]

_LISTED = 12
_FILE = "compare.json"


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders that extract wrote, two or more.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Save the comparison and its figures here.")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs of one network: which filters they share, which are alike, what is one's own."""
    if out is not None:
        check_file(out / _FILE, force=force)
    with working("nothing was written."):
        from neurochains.measures import compare as compare_chains

        comparison = compare_chains(runs)
        document = comparison.to_json()
        if out is not None:
            _save(comparison, document, out)
    if as_json:
        write_json(document)
    elif not quiet:
        console = results_console()
        console.print(_chains_table(comparison))
        console.print(_answers(document))
        if out is not None:
            console.print(f"\nSaved in {out}", soft_wrap=True)


def _save(comparison: Comparison, document: Mapping[str, Any], out: Path) -> None:
    """Write the figures and the numbers; each file appears whole or not at all."""
    from neurochains.errors import ArtifactError
    from neurochains.pictures import comparison_figures

    save_figures(comparison_figures(comparison), out)
    try:
        part = out / f".{_FILE}.part"
        part.write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        part.replace(out / _FILE)
    except OSError as error:
        raise ArtifactError(f"{out} cannot be written: {error.strerror or error}. Choose another --out.") from error


def _chains_table(comparison: Comparison) -> Table:
    table = Table(box=None, pad_edge=False, title="Chains", title_justify="left")
    for name in ("", "filters", "its own", "KL"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for chain, size, own in zip(comparison.chains, comparison.sizes, comparison.own, strict=True):
        kl = chain.metrics.get("kl")
        table.add_row(chain.name, f"{size:,}", f"{len(own):,}", "" if kl is None else f"{kl:.4f}")
    return table


def _answers(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, title="\nWhat they have in common", title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    table.add_row("filters of a chain", _interval(document["filters"], ".1f"))
    table.add_row("mean overlap of two", _interval(document["mean_overlap"], ".1%"))
    table.add_row("  with a class in common", _interval(document["mean_overlap_class_in_common"], ".1%"))
    table.add_row("  with none", _interval(document["mean_overlap_no_class_in_common"], ".1%"))
    table.add_row("  by chance", _interval(document["mean_overlap_by_chance"], ".1%"))
    table.add_row("kept by all", _listed(document["shared"]))
    for name, units in document["of_class"].items():
        table.add_row(f"of {name} alone", _listed(units))
    return table


def _interval(found: Mapping[str, Any], form: str) -> str:
    if found["value"] is None:
        return "no such pair"
    ends = "" if found["low"] is None else f"  (95 %: {found['low']:{form}} to {found['high']:{form}})"
    return f"{found['value']:{form}}{ends}"


def _listed(units: list[str]) -> str:
    more = f", and {len(units) - _LISTED} more" if len(units) > _LISTED else ""
    return f"{len(units)}: {', '.join(units[:_LISTED])}{more}" if units else "none"
