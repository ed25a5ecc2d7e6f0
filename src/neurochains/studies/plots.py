"""Every figure that a study's tables allow, as SVG and PNG, and one page that holds them with the plan."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from neurochains.errors import ArtifactError
from neurochains.pictures import save_figure, svg
from neurochains.studies.figures import FIGURES, Drawing
from neurochains.studies.frames import frame_of
from neurochains.studies.store import publish
from neurochains.studies.summary import summarise
from neurochains.studies.tables import Tables, read_tables

__all__ = ["plot_study"]

PAGE = "study.html"


@dataclass(frozen=True, slots=True)
class _Shown:
    """A figure on the page."""

    element: Markup
    caption: str
    file: str


def plot_study(folder: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Write every figure that a study's tables allow, and a page with all of them; return the page.

    The page is one HTML file that opens anywhere without a network. What is there already is replaced.

    Args:
        folder: what `run_study` wrote to; it may still be running.
        out: the folder for the figures; ``figures`` in the study's if None.

    Raises:
        ArtifactError: no study is there, a file of it is damaged, no case of it is done, or figures cannot be written.
        SettingsError: pyarrow is not installed.
    """
    tables = read_tables(folder)
    place = Path(folder) / "figures" if out is None else Path(out)
    if not any(status == "done" for status in tables.cases.column("status").to_pylist()):
        raise ArtifactError(f"No case of the study in {folder} is done, so there is nothing to draw. Run it first.")
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"The figures cannot be written to {place}: {error.strerror}.") from error
    sections: dict[str, list[_Shown]] = {}
    for model, drawing in _drawings(tables):
        name = _file_name(f"{drawing.name}-{model}")
        for ending in (".svg", ".png"):
            save_figure(drawing.made, place / f"{name}{ending}")
        element = Markup(svg(drawing.made, name=name))  # noqa: S704 - made here; names in it are escaped
        sections.setdefault(model, []).append(_Shown(element, drawing.caption, name))
    publish(place / PAGE, _page(tables, sections, summarise(folder)).encode())
    return place / PAGE


def _drawings(tables: Tables) -> Iterator[tuple[str, Drawing]]:
    """Yield the figures of each model."""
    for model, frame in frame_of(tables).models():
        for draw in FIGURES.values():
            for drawing in draw(model, frame):
                yield model, drawing


def _page(tables: Tables, sections: dict[str, list[_Shown]], rows: list[dict[str, Any]]) -> str:
    template = resources.files("neurochains.studies").joinpath("templates").joinpath("study.html")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    status = tables.cases.column("status").to_pylist()
    names = tables.cases.column_names
    failures = [row for row in tables.cases.select([n for n in _FAILED if n in names]).to_pylist() if row.get("error")]
    return environment.from_string(template.read_text(encoding="utf-8")).render(
        document=tables.document,
        plan=list(_lines(tables.document["plan"])),
        sections=sections,
        rows=rows,
        done=status.count("done"),
        failed=status.count("failed"),
        failures=failures[:MOST_FAILURES],
    )


_FAILED = ("model", "task", "method", "settings", "seed", "error")
MOST_FAILURES = 50


def _lines(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield a plan as (key, value) lines, without what is not given."""
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _lines(entry, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
        for number, entry in enumerate(value):
            yield from _lines(entry, f"{name}[{number}]")
    elif value not in (None, "", [], False):
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _file_name(text: str) -> str:
    """Return a text as the name of a file and an identifier: letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
