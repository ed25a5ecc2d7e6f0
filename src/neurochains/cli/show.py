"""`neurochains show`: what a saved chain is worth, read from its folder alone, without the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from neurochains.cli.console import results_console, working, write_json
from neurochains.cli.options import AsJson, Run
from neurochains.cli.summary import metrics_tables, verdict

__all__ = ["show"]

_PARTS = ("provenance", "settings", "metrics", "filters", "skipped")


def show(run: Run, as_json: AsJson = False) -> None:
    """Print the summary of a run that extract saved."""
    from neurochains.chains.storage import read_result

    with working("nothing was written."):
        document = read_result(run)[0]
    if as_json:
        write_json({part: document[part] for part in _PARTS if part in document})
        return
    console = results_console()
    console.print(_origin(document))
    units = document["settings"].get("units", ("filters",))
    console.print(metrics_tables(document["metrics"], units))
    console.print(f"\n{verdict(document['metrics'], units)}", soft_wrap=True)


def _origin(document: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in _lines(document["provenance"], document["settings"]):
        if value:
            table.add_row(name, value)
    return table


def _lines(provenance: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    model, held = provenance["model"], provenance.get("held_out")
    images = f"{len(provenance['images']['names'])}"
    yield "model", f"{model['name'] or 'without a name'}, weights: {model['weights'] or 'unknown'}"
    yield "classes", ", ".join(provenance.get("classes", {}).values())
    yield "images", images + (f" and {len(held['names'])} held out" if held else "")
    yield "settings", ", ".join(f"{name} {_words(value)}" for name, value in settings.items() if _is_short(value))
    yield "made", f"{provenance['created']} with neurochains {provenance['packages']['neurochains']}\n"


def _is_short(value: Any) -> bool:
    return value is not None and not isinstance(value, Mapping)


def _words(value: Any) -> str:
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)
