"""The panel of one kernel: both ends, its weights, the maps that go in and come out, whether it excites or inhibits."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
import numpy as np
from dash import Dash, Input, Output, State, html

from neurochains.explorer import drawing, ids
from neurochains.explorer.asking import answer
from neurochains.explorer.desk import Desk
from neurochains.explorer.live import kernel_map
from neurochains.explorer.neighbours import Link, link, parse_kernel
from neurochains.explorer.parts import part
from neurochains.explorer.thumbs import map_picture, thumbnail
from neurochains.explorer.view import View
from neurochains.explorer.widgets import card, hint, picture, switch, table, tile, told
from neurochains.pictures.explorer_figures_maps import kernel_figure

__all__ = ["callbacks", "layout", "shown"]


def layout() -> Any:
    """Return the panel."""
    return html.Div(id=ids.KERNEL_SHOWN)


def shown(desk: Desk, view: View, uploaded: str | None) -> Any:
    """Return all there is to say about the selected kernel."""
    known = parse_kernel(desk, view.kernel)
    if known is None:
        return hint("Click a kernel of the circuit, or one in the panel of a filter.")
    unit, column = known
    one = link(desk, answer(desk, view), unit, column)
    weights = desk.weights(unit.layer)[unit.index, column].astype(np.float32)
    button = switch(one.text, "Switch on" if one.text in view.off else "Switch off")
    return [
        dmc.Group([dmc.Title(_title(desk, one), order=2, size="h5"), button], mt="xs", gap="xs"),
        card("Ends", dmc.Group([_end(desk, source, "from") for source in one.sources[:4]] + [_end(desk, unit, "to")])),
        card("Weights", _matrix(weights)),
        _balance(one, weights),
        card("Maps on the chosen image", told(lambda: _maps(desk, view, uploaded, one))),
    ]


def _matrix(weights: Any) -> Any:
    tall = 200 if weights.size > 1 else 90
    return drawing.place(ids.KERNEL_MATRIX, "The weights of the kernel", kernel_figure(weights), height=tall)


def _title(desk: Desk, one: Link) -> str:
    names = [desk.label(unit) for unit in one.sources[:3]]
    more = " + ..." if len(one.sources) > 3 else ""
    return f"{' + '.join(names) or 'nothing'}{more} to {desk.label(one.target)}"


def _end(desk: Desk, unit: Any, side: str) -> Any:
    label = desk.label(unit)
    source, shown = thumbnail(desk, unit)
    if unit.layer == "input":
        return html.Div([picture(source, shown, 64), hint(f"{side} {label}")])
    return tile(str(unit), source, f"Go to {label}", 64, words=f"{side} {label}")


def _balance(one: Link, weights: Any) -> Any:
    more, less = float(weights[weights > 0].sum()), float(weights[weights < 0].sum())
    word = "excites" if one.tone > 0.1 else "inhibits" if one.tone < -0.1 else "is even"
    rows = [
        ("balance", f"{one.tone:+.3f}: it {word}"),
        ("weights above 0", f"{more:.4g}"),
        ("weights below 0", f"{less:.4g}"),
        ("score", f"{one.score:.4g}"),
        ("share of what comes in", f"{one.share:.1%}"),
    ]
    return card("Balance", table(("", ""), rows))


def _maps(desk: Desk, view: View, uploaded: str | None, one: Link) -> Any:
    seen, layer = desk.seen(view, uploaded, ablated=True), desk.bundle.layer(one.target.layer)
    channel = one.target.index // (layer.units // layer.groups) * layer.shape[1] + one.column
    read = seen.inputs[layer.name]
    into = read[channel] if channel < len(read) else None
    out, whole = kernel_map(desk.network, seen, one.target, one.column), seen.maps[layer.name][one.target.index]
    said = (("goes in", into), ("kernel's own map", out), ("all kernels together", whole))
    return dmc.Group([_map(name, values) for name, values in said], gap="sm", align="flex-start")


def _map(name: str, values: Any) -> Any:
    if values is None:
        return html.Div([picture(None, name, 108), hint(name)])
    grid = values if values.ndim == 2 else values.reshape(1, -1)
    scale = f"{float(grid.min()):.3g} to {float(grid.max()):.3g}"
    return html.Div([picture(map_picture(grid), name, 108, sharp=True), hint(name), hint(scale)])


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""

    @app.callback(
        Output(ids.KERNEL_SHOWN, "children"),
        Input(part("kernel"), "data"),
        State(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def show(search: str | None, uploaded: str | None) -> Any:
        return told(lambda: shown(desk, View.parse(search), uploaded))
