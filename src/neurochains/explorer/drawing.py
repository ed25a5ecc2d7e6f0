"""Figures: a store holds each, the browser draws it (`assets/drawing.js`) and tells what of it was clicked.

Dash's own figures are drawn when they are placed, empty or not, and then measured and drawn again. These are drawn once
they have something to show, and only once, which is about a third of what opening the page cost.
"""

from __future__ import annotations

import json
from typing import Any

from dash import Dash, Input, Output, State, dcc, html

from neurochains.explorer import ids
from neurochains.explorer.walking import in_browser
from neurochains.explorer.widgets import aria

__all__ = ["callbacks", "clicked", "figure", "picked", "place"]

_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "toImageButtonOptions": {"format": "svg", "filename": "neurochains", "scale": 1},
    "modeBarButtonsToRemove": ["lasso2d", "autoScale2d", "hoverClosestCartesian", "hoverCompareCartesian"],
}


def figure(name: str) -> str:
    """Return the id of the store that holds a figure."""
    return f"{name}-figure"


def clicked(name: str) -> str:
    """Return the id of the store of what was clicked: ``{"points": [...]}`` as plotly numbers them."""
    return f"{name}-click"


def picked(name: str) -> str:
    """Return the id of the store of what a box was drawn around; None once it is gone."""
    return f"{name}-picked"


def place(
    name: str, label: str, shown: Any = None, *, height: int | None = None, slow: bool = False, **config: Any
) -> Any:
    """Return where a figure is, with its stores.

    Args:
        name: its id, one of `ids.FIGURES`.
        label: what a screen reader is told.
        shown: the figure, None where there is none yet.
        height: in pixels; that of what is around it if None.
        slow: whether it waits for the panel that is being filled.
        config: plotly's, beside what all figures have.
    """
    known: dict[str, Any] = {"data-config": json.dumps(_CONFIG | config), **({"data-slow": "yes"} if slow else {})}
    tall: dict[str, Any] = {"height": "100%" if height is None else height}
    inner = html.Div(style={"height": "100%"})
    inside = html.Div(inner, id=name, role="group", style=tall, **known, **aria(label=label))
    stores = [dcc.Store(id=store) for store in (clicked(name), picked(name), _turn(name))]
    return html.Div([inside, dcc.Store(id=figure(name), data=shown), *stores], style=tall)


def callbacks(app: Dash) -> None:
    """Let each figure be drawn whenever its store changes."""
    for name in ids.FIGURES:
        given = Input(figure(name), "data"), State(name, "id")
        in_browser(app, "drawn", Output(_turn(name), "data"), *given, first=True)


def _turn(name: str) -> str:
    return f"{name}-turn"
