"""Which entries of the view each part of the page depends on: only what changed for it is drawn again.

The browser splits the address into these parts (`assets/explorer.js`); each has a store, which holds the text of its
entries, as `View.parse` reads it. A panel that is closed keeps its text until it is opened.
"""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc

from neurochains.explorer import ids
from neurochains.explorer.view import PANELS

__all__ = ["PARTS", "callbacks", "layout", "part"]

_QUERY = ("expression", "target", "criterion", "normalise", "layers")
_DRAWN = (*_QUERY, "filters", "kernels", "projection")
PARTS: dict[str, tuple[str, ...]] = {
    "query": _QUERY,
    "fields": _DRAWN,
    "graph": (*_DRAWN, "graph", "chains", "size", "width"),
    "select": ("unit", "off", "graph"),
    "panel": ("panel",),
    "filter": (*_DRAWN, "unit", "image", "off"),
    "cell": ("unit", "image", "cell", "off", "relu"),
    "visual": ("unit", "objective"),
    "kernel": (*_DRAWN, "kernel", "image", "off"),
    "image": ("image", "off", "chains"),
    "ablation": ("off", "image", "chains", "target", "criterion"),
    "chains": ("chains",),
    "subfeatures": ("unit",),
}
_OF_PANEL = {"filter": "filter", "cell": "filter", "visual": "filter"} | {name: name for name in PANELS}


def part(name: str) -> str:
    """Return the id of the store of a part."""
    return f"part-{name}"


def layout() -> list[Any]:
    """Return the stores, and where the address is."""
    wanted = {name: {"fields": fields, "panel": _OF_PANEL.get(name)} for name, fields in PARTS.items()}
    return [dcc.Location(id=ids.URL, refresh=False), dcc.Store(id="parts", data=wanted)] + [
        dcc.Store(id=part(name)) for name in PARTS
    ]


def callbacks(app: Dash) -> None:
    """Register what splits the address."""
    app.clientside_callback(
        "window.dash_clientside.explorer.split",
        *(Output(part(name), "data") for name in PARTS),
        Input(ids.URL, "search"),
        State("parts", "data"),
        *(State(part(name), "data") for name in PARTS),
    )
