"""Which entries of the view each part of the page depends on: only what changed for it is drawn again.

The browser splits the address into these parts (`assets/explorer.js`); each has a store, which holds the text of its
entries, as `View.parse` reads it. A panel that is closed keeps its text until it is opened. The controls that show an
entry are set in the same step, so that one change of the address is one change of the page.
"""

from __future__ import annotations

from typing import Any

from dash import Dash, Input, Output, State, dcc

from neurochains.explorer import ids
from neurochains.explorer.view import PANELS
from neurochains.explorer.walking import in_browser

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
_FILLED = (
    (ids.EXPRESSION, "value", "expression"),
    (ids.TARGET, "value", "target"),
    (ids.CRITERION, "value", "criterion"),
    (ids.LAYERS, "value", "layers"),
    (ids.PROJECTION, "value", "projection"),
    (ids.NORMALISE, "value", "normalise"),
    (ids.FILTER_SHARE, "value", "filters"),
    (ids.FILTER_NUMBER, "value", "filters"),
    (ids.KERNEL_SHARE, "value", "kernels"),
    (ids.KERNEL_NUMBER, "value", "kernels"),
    (ids.GRAPH_KIND, "value", "graph"),
    (ids.NODE_SIZE, "value", "size"),
    (ids.KERNEL_SIZE, "value", "width"),
    (ids.PANEL, "value", "panel"),
    (ids.OBJECTIVE, "value", "objective"),
    (ids.FILTER_RELU, "checked", "relu"),
    (ids.IMAGE_SET, "value", "image"),
)
"""The controls that show an entry of the view, by the entry's name."""
_OF_PANEL = {"filter": "filter", "cell": "filter", "visual": "filter"} | {name: name for name in PANELS}


def part(name: str) -> str:
    """Return the id of the store of a part."""
    return f"part-{name}"


def layout(followers: list[str]) -> list[Any]:
    """Return the stores, and where the address is.

    Args:
        followers: the numbers of runs that depend on the chosen image; where one is shown, so does what shows it.
    """
    known = {name: {"fields": fields, "panel": _OF_PANEL.get(name)} for name, fields in PARTS.items()}
    wanted = {"parts": known, "filled": [entry for _, _, entry in _FILLED]} | {"followers": followers}
    stores = [dcc.Store(id=part(name)) for name in PARTS]
    return [dcc.Location(id=ids.URL, refresh=False), dcc.Store(id=ids.PARTS, data=wanted), *stores]


def callbacks(app: Dash) -> None:
    """Register what splits the address, and what the tabs of the panels do."""
    controls = (Output(name, field) for name, field, _ in _FILLED)
    stores = tuple(part(name) for name in PARTS)
    old = (State(name, "data") for name in stores)
    address = (Input(ids.URL, "search"), State(ids.PARTS, "data"))
    in_browser(app, "split", *(Output(name, "data") for name in stores), *controls, *address, *old, first=True)
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    in_browser(app, "open", url, Input(ids.PANEL, "value"), search)
