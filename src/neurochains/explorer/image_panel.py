"""The panel of the image: choose one of the bundle or drop a file; what the network answers to it."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from neurochains.errors import NeuroChainsError
from neurochains.explorer import drawing, ids
from neurochains.explorer.answers import answers
from neurochains.explorer.desk import Desk
from neurochains.explorer.parts import part
from neurochains.explorer.uploads import BYTE_LIMIT, accept, preprocess_of
from neurochains.explorer.view import UPLOAD, View
from neurochains.explorer.widgets import aria, card, hint, picture, said, tile, told
from neurochains.pictures import data_uri

__all__ = ["callbacks", "layout", "shown", "strip", "taken"]

_MOST = 60
_THUMB = 52


def layout(desk: Desk) -> Any:
    """Return the panel."""
    sets = [{"value": str(index), "label": name} for index, name in enumerate(desk.bundle.names.short)]
    seen: set[str] = set()
    for entry in sets:
        entry["label"] = entry["label"] if entry["label"] not in seen else f"{entry['label']} ({entry['value']})"
        seen.add(entry["label"])
    return [
        dmc.Select(
            id=ids.IMAGE_SET, label="Images of", data=sets, value="0", searchable=True, allowDeselect=False, size="xs",
            mt="xs", maxDropdownHeight=260,
        ),
        html.Div(id=ids.IMAGE_STRIP, className="strip"),
        dcc.Upload(
            html.Div(f"Drop a picture here, or click (at most {BYTE_LIMIT // 10**6} MB)", className="drop"),
            id=ids.DROP, max_size=BYTE_LIMIT, style={"marginTop": 8},
        ),
        html.Div(id=ids.IMAGE_SAID, role="status", **aria(live="polite")),
        html.Div(id=ids.IMAGE_SHOWN),
    ]  # fmt: skip


def strip(desk: Desk, index: int, chosen: str = "") -> Any:
    """Return the images of a set, as buttons; the chosen one is outlined."""
    known = desk.bundle.sets[index]
    tiles = []
    for number, name in enumerate(known.images[:_MOST]):
        place, source = f"{index}.{number}", _thumbnail(desk, index, number)
        tiles.append(tile(place, source, f"Choose {name}", _THUMB, kind="image", chosen=place == chosen))
    more = len(known.images) - len(tiles)
    return [*tiles, *([hint(f"and {more:,} more")] if more > 0 else [])]


def _thumbnail(desk: Desk, index: int, image: int) -> str:
    return desk.pictures.get((index, image), lambda: data_uri(desk.bundle.picture(index, image), photo=True))


def shown(desk: Desk, view: View, uploaded: str | None) -> Any:
    """Return the chosen image and what the network answers to it."""
    pixels = desk.pixels(view, uploaded)
    name, label = "your picture", ""
    if view.image != UPLOAD:
        index, image = (int(number) for number in view.image.split("."))
        name, label = desk.bundle.sets[index].images[image], desk.bundle.names.short[index]
    large = picture(data_uri(pixels), name, 150, sharp=pixels.shape[-1] < 150)
    words = html.Div(
        [dmc.Text(name, size="sm", fw=600), hint(label), hint("Bold: the image's own class.") if label else None]
    )
    return [
        card("Chosen image", html.Div([large, words], className="side")),
        card("Prediction", told(lambda: _bars(desk, view, uploaded))),
    ]


def _bars(desk: Desk, view: View, uploaded: str | None) -> Any:
    found = answers(desk, view, uploaded)
    height = 70 + len(found.shown) * (12 + 13 * len(found.series))
    bars = found.figure(desk.names_of_outputs())
    return drawing.place(ids.IMAGE_BARS, "Probabilities of the outputs", bars, height=height)


def taken(desk: Desk, contents: str | None) -> tuple[Any, str | None]:
    """Return what there is to say about a dropped file, and it as the network sees it; None where it is refused."""
    if not contents:
        return said(f"The file was not taken: one file of at most {BYTE_LIMIT // 10**6} MB is."), None
    document = desk.bundle.document
    try:
        how = preprocess_of(desk.network, document.input_shape, document.mean, document.std)
        return hint("Taken; it is kept in this window only."), accept(contents, how)
    except NeuroChainsError as error:
        return said(str(error)), None


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""

    @app.callback(
        Output(ids.IMAGE_STRIP, "children"),
        Input(ids.IMAGE_SET, "value"),
        Input(part("image"), "data"),
        prevent_initial_call=True,
    )
    def show_strip(index: str | None, search: str | None) -> Any:
        known = str(index).isdecimal() and int(str(index)) < len(desk.bundle.sets)
        return told(lambda: strip(desk, int(str(index)), View.parse(search).image)) if known else no_update

    @app.callback(
        Output(ids.IMAGE_SHOWN, "children"),
        Input(part("image"), "data"),
        Input(ids.UPLOADED, "data"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def show_image(_part: str | None, uploaded: str | None, search: str | None) -> Any:
        view = View.parse(search)  # the store of a dropped picture speaks up whenever the page is opened
        return told(lambda: shown(desk, view, uploaded)) if view.panel == "image" else no_update

    @app.callback(
        Output(ids.UPLOADED, "data"),
        Output(ids.IMAGE_SAID, "children"),
        Output(ids.URL, "search", allow_duplicate=True),
        Input(ids.DROP, "contents"),
        Input(ids.DROP, "last_modified"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def drop(contents: str | None, _when: Any, search: str | None) -> Any:
        words, kept = taken(desk, contents)
        if kept is None:
            return no_update, words, no_update
        return kept, words, View.parse(search).having(image=UPLOAD, cell="").search()
