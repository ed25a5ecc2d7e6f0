"""What was selected with a box on the circuit in the plane: its filters, their share of the score, and a switch."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, no_update

from neurochains.errors import NeuroChainsError
from neurochains.explorer import drawing, ids
from neurochains.explorer.asking import NotMeasured, answer
from neurochains.explorer.desk import Desk
from neurochains.explorer.graph import Drawn, draw
from neurochains.explorer.view import View
from neurochains.explorer.widgets import button, chips, hint
from neurochains.network import Filter

__all__ = ["boxed", "callbacks", "chosen", "switched_off"]

_MOST = 24


def chosen(drawn: Drawn, data: Any) -> tuple[Filter, ...]:
    """Return the filters inside a box, as the graph reports it."""
    nodes = [point.get("customdata") for point in (data or {}).get("points", []) if isinstance(point, dict)]
    known = [node for node in nodes if isinstance(node, int) and 0 <= node < len(drawn.units)]
    return tuple(drawn.units[node] for node in dict.fromkeys(known) if drawn.units[node].layer != "input")


def boxed(desk: Desk, view: View, units: tuple[Filter, ...]) -> Any:
    """Return what there is to say about some filters, and what can be done with them."""
    if not units:
        return None
    found = answer(desk, view)
    score = sum(float(found.filters[unit.layer][unit.index]) for unit in units if unit.layer in found.filters)
    words = f"{len(units)} filters in the box carry {score / (found.result.total or 1):.1%} of the score:"
    named = [(str(unit), desk.label(unit)) for unit in units]
    return dmc.Group([hint(words), *chips(named, _MOST), button("Switch them off", ids.BOXED_OFF)], gap=4)


def switched_off(view: View, units: tuple[Filter, ...]) -> View:
    """Return the view with some filters switched off."""
    return view.having(off=tuple(dict.fromkeys([*view.off, *map(str, units)])), panel="ablation")


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the box."""

    @app.callback(
        Output(ids.BOXED, "children"),
        Input(drawing.picked(ids.GRAPH), "data"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def show(data: Any, search: str | None) -> Any:
        view = View.parse(search)
        try:
            return boxed(desk, view, chosen(draw(desk, view), data))
        except (NotMeasured, NeuroChainsError, OSError):
            return None

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Input(ids.BOXED_OFF, "n_clicks"),
        State(drawing.picked(ids.GRAPH), "data"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def press(clicks: int | None, data: Any, search: str | None) -> Any:
        view = View.parse(search)
        try:
            units = chosen(draw(desk, view), data) if clicks else ()
        except (NotMeasured, NeuroChainsError, OSError):
            return no_update
        return View.parse(switched_off(view, units).search()).search() if units else no_update
