"""The panel of one filter: what it is, what it answers to, its map on the chosen image, the kernels around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
import torch
from dash import Dash, Input, Output, State, ctx, html, no_update

from neurochains.errors import LayerError, NeuroChainsError
from neurochains.explorer import drawing, ids, visual_panel
from neurochains.explorer.asking import answer, rank
from neurochains.explorer.desk import Desk
from neurochains.explorer.live import Seen, kernel_map
from neurochains.explorer.neighbours import Link, incoming, outgoing
from neurochains.explorer.parts import part
from neurochains.explorer.thumbs import kernel_picture, map_picture, thumbnail
from neurochains.explorer.view import View
from neurochains.explorer.walking import in_browser
from neurochains.explorer.widgets import aria, card, hint, picture, said, switch, tile, told
from neurochains.network import Filter
from neurochains.pictures import crop_around, data_uri, outline
from neurochains.pictures.explorer_figures_maps import map_figure

__all__ = ["callbacks", "crops", "head", "kernels", "layout", "map_of", "mapped", "seen_cell"]

_CROPS = 6
_EMPTY: Any = {"data": [], "layout": {"xaxis": {"visible": False}, "yaxis": {"visible": False}}}
NOTHING = "Click a filter of the graph, or type its name above."


def layout() -> Any:
    """Return the panel, without the part of its feature visualisation (`visual_panel`)."""
    return [
        dmc.TextInput(
            id=ids.FILTER_FIND, placeholder="L3_5 or features.3[5]", size="xs", debounce=True,
            **aria(label="Go to a filter by its name"),
        ),
        html.Div(id=ids.FILTER_HEAD),
    ]  # fmt: skip


def lower_layout() -> Any:
    """Return what stands below the feature visualisation."""
    return [
        html.Div(id=ids.FILTER_CROPS),
        card(
            "Map on the chosen image",
            html.Div(
                [
                    drawing.place(ids.FILTER_MAP, "Map of the filter: click a cell", height=190),
                    html.Div(id=ids.FILTER_IMAGE),
                ],
                className="map-side",
            ),
            dmc.Group(
                [
                    dmc.Switch(id=ids.FILTER_RELU, label="ReLU", size="xs", checked=False),
                    html.Div(id=ids.FILTER_CELL, role="status"),
                ]
            ),
        ),
        html.Div(id=ids.FILTER_KERNELS),
    ]


def head(desk: Desk, view: View) -> Any:
    """Return the name, score and rank of the selected filter, and what its maps are like."""
    unit = desk.unit(view.unit)
    if unit is None:
        return hint(NOTHING)
    layer = desk.bundle.layer(unit.layer)
    name = [dmc.Title(desk.label(unit), order=2, size="h4"), dmc.Code(str(unit))]
    words = "Switch on" if str(unit) in view.off else "Switch off"
    top = dmc.Group([*name, switch(str(unit), words)], gap="xs", mt="xs")
    if not layer.scored:
        return [top, hint(f"{layer.kind}, {layer.units} units; the bundle holds no numbers of this layer.")]
    return [top, hint(_score_in_words(desk, view, unit)), hint(_maps_in_words(desk, unit))]


def _score_in_words(desk: Desk, view: View, unit: Filter) -> str:
    found = answer(desk, view)
    if unit.layer not in found.filters:
        return "Its layer is not among those asked for."
    place, inside, score = rank(found.filters, unit)
    total, units = found.result.of, desk.bundle.layer(unit.layer).units
    return f"Score {score:.4g}: number {place:,} of {total:,}, {inside:,} of {units:,} in its layer."


def _maps_in_words(desk: Desk, unit: Filter) -> str:
    layer, values = desk.bundle.layer(unit.layer), desk.bundle.summary()[unit.layer]
    mean, low, high, active = (float(values[key][unit.index]) for key in ("mean", "lowest", "highest", "active"))
    size = "" if layer.map_size is None else f"{layer.map_size[0]} x {layer.map_size[1]} map, "
    field = "" if layer.field is None else f"sees {layer.field.size[0]} x {layer.field.size[1]} pixels, "
    return f"{size}{field}mean {mean:.3g}, from {low:.3g} to {high:.3g}, above 0 at {active:.0%} of positions."


def crops(desk: Desk, unit: Filter) -> Any:
    """Return the parts of the data that a filter answers to most."""
    patches = desk.bundle.patches(unit)[:_CROPS]
    if not patches:
        return card("Strongest in the data", hint("It answers to no image of the bundle."))
    tiles = []
    for patch in patches:
        pixels = torch.from_numpy(desk.bundle.picture(patch.set, patch.image).copy())
        source = data_uri(crop_around(pixels, patch.box), photo=True)
        shown = f"{patch.name} ({desk.bundle.names.short[patch.set]}): {patch.value:.3g}"
        tiles.append(tile(f"{patch.set}.{patch.image}", source, shown, 56, kind="image"))
    return card("Strongest in the data", html.Div(tiles, className="row"))


def map_of(desk: Desk, view: View, uploaded: str | None) -> torch.Tensor | None:
    """Return the selected filter's map ``(h, w)`` on the chosen image, without what is off; a number as (1, 1)."""
    unit = desk.unit(view.unit)
    if unit is None:
        return None
    values = desk.seen(view, uploaded, ablated=True).maps[unit.layer]
    found = values[unit.index]
    return found if found.ndim == 2 else found.reshape(1, -1)


def seen_cell(desk: Desk, view: View, uploaded: str | None, values: torch.Tensor) -> tuple[Any, str]:
    """Return the chosen image with what a cell of the map sees outlined, and the cell's value in words."""
    unit = desk.unit(view.unit)
    pixels = desk.pixels(view, uploaded)
    cell = cell_of(view, values)
    text = "Click a cell: what it sees is outlined."
    if unit is not None and cell is not None:
        field = desk.bundle.layer(unit.layer).field
        box = (0, 0, pixels.shape[1], pixels.shape[2]) if field is None else field.box(*cell)
        pixels = outline(pixels, box, thickness=max(1, pixels.shape[-1] // 64))
        seen = f"sees rows {box[0]} to {box[2] - 1}, columns {box[1]} to {box[3] - 1}"
        text = f"Row {cell[0]}, column {cell[1]}: {float(values[cell]):.4g}; {seen}."
    return picture(data_uri(pixels), "The chosen image", 150, sharp=pixels.shape[-1] < 150), text


def mapped(desk: Desk, view: View, uploaded: str | None) -> tuple[Any, Any, Any]:
    """Return the figure of the selected filter's map, the image beside it, and the chosen cell in words."""
    values = map_of(desk, view, uploaded)
    if values is None:
        return _EMPTY, None, None
    image, text = seen_cell(desk, view, uploaded, values)
    figure = map_figure(values.numpy(), relu=view.relu == "on", cell=cell_of(view, values))
    return figure, image, hint(text)


def cell_of(view: View, values: torch.Tensor) -> tuple[int, int] | None:
    """Return the chosen cell of a map, None where there is none."""
    if not view.cell:
        return None
    row, column = (int(number) for number in view.cell.split("."))
    return (row, column) if row < values.shape[0] and column < values.shape[1] else None


def kernels(desk: Desk, view: View, uploaded: str | None) -> Any:
    """Return the kernels that come into the selected filter and go out of it."""
    unit = desk.unit(view.unit)
    if unit is None or not desk.bundle.layer(unit.layer).scored:
        return None
    found = answer(desk, view)
    try:
        seen = desk.seen(view, uploaded, ablated=True)
    except NeuroChainsError:
        seen = None
    rows = {"Kernels in": incoming(desk, found, unit), "Kernels out": outgoing(desk, found, unit)}
    parts = []
    for title, links in rows.items():
        shown = [_row(desk, one, seen, out=title == "Kernels out") for one in links]
        parts.append(card(title, *(shown or [hint("None among the layers asked for.")])))
    return parts


def _row(desk: Desk, one: Link, seen: Seen | None, *, out: bool) -> Any:
    """Return one kernel: the filter at its other end, its matrix, the map it gives, words."""
    weights = desk.weights(one.target.layer)[one.target.index, one.column]
    values = None if seen is None else kernel_map(desk.network, seen, one.target, one.column)
    given = picture(None if values is None else map_picture(values), "the map that the kernel gives", 56, sharp=True)
    effect = "excites" if one.tone > 0.1 else "inhibits" if one.tone < -0.1 else "is even"
    named = desk.label(one.target) if out else " + ".join(desk.label(unit) for unit in one.sources[:2]) or "nothing"
    words = f"{named}\n{one.score:.3g}, {one.share:.0%} of what comes in; {effect} ({one.tone:+.2f})"
    kernel = tile(one.text, kernel_picture(weights), f"Open kernel {one.text}", 56, kind="kernel", sharp=True)
    return html.Div(
        [_far_end(desk, one, out=out), kernel, given, html.Div(words, className="named")], className="kernel-row"
    )


def _far_end(desk: Desk, one: Link, *, out: bool) -> Any:
    """Return the filter at the other end of a kernel, as a button that leads there."""
    end = one.target if out else next(iter(reversed(one.sources)), None)
    if end is None or end.layer == "input":
        return picture(thumbnail(desk, end)[0] if end else None, "input channel", 56)
    return tile(str(end), thumbnail(desk, end)[0], f"Go to {desk.label(end)}", 56)


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""
    _shown(app, desk)
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    in_browser(app, "rectify", url, Input(ids.FILTER_RELU, "checked"), search)
    in_browser(app, "cell", url, Input(drawing.clicked(ids.FILTER_MAP), "data"), search)

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Output(ids.FILTER_FIND, "error"),
        Input(ids.FILTER_FIND, "value"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def find(text: str | None, search: str | None) -> Any:
        if not (text or "").strip():
            return no_update, None
        try:
            unit = desk.bundle.filter(str(text).strip())
        except LayerError as error:
            return no_update, str(error)
        return View.parse(search).having(unit=str(unit), cell="", panel="filter").search(), None


def _shown(app: Dash, desk: Desk) -> None:
    """Fill the panel in one step: what it shows of a filter comes with one answer, and is drawn once."""

    @app.callback(
        Output(ids.FILTER_HEAD, "children"),
        Output(ids.FILTER_CROPS, "children"),
        Output(ids.FILTER_KERNELS, "children"),
        Output(drawing.figure(ids.FILTER_MAP), "data"),
        Output(ids.FILTER_IMAGE, "children"),
        Output(ids.FILTER_CELL, "children"),
        Output(ids.VISUAL, "children"),
        Input(part("filter"), "data"),
        Input(part("cell"), "data"),
        Input(part("visual"), "data"),
        Input(ids.MEASURED, "data"),
        Input(ids.FOUND, "data"),
        State(ids.URL, "search"),
        State(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def show(
        _filter: Any, _cell: Any, _visual: Any, _measured: Any, painted: Any, search: str | None, uploaded: str | None
    ) -> Sequence[Any]:
        view, changed = View.parse(search), {name.rpartition(".")[0] for name in ctx.triggered_prop_ids}
        around = _around(desk, view, uploaded) if changed & {part("filter"), ids.MEASURED} else (no_update,) * 3
        seen = _seen(desk, view, uploaded) if part("cell") in changed else (no_update,) * 3
        visual = visual_panel.told_visual(desk, view, painted)
        return *around, *seen, visual if changed & {part("visual"), ids.FOUND} else no_update


def _around(desk: Desk, view: View, uploaded: str | None) -> Sequence[Any]:
    unit = desk.unit(view.unit)
    scored = unit is not None and desk.bundle.layer(unit.layer).scored
    tiles = told(lambda: crops(desk, unit)) if scored and unit else None
    return told(lambda: head(desk, view)), tiles, told(lambda: kernels(desk, view, uploaded))


def _seen(desk: Desk, view: View, uploaded: str | None) -> Sequence[Any]:
    try:
        return mapped(desk, view, uploaded)
    except (NeuroChainsError, OSError) as error:
        return _EMPTY, None, said(str(error))
