"""The panel of ablation: what is switched off, and what the network does without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update

from neurochains.errors import NeuroChainsError
from neurochains.explorer import drawing, ids
from neurochains.explorer.answers import answers
from neurochains.explorer.asking import NotMeasured, answer
from neurochains.explorer.desk import Desk
from neurochains.explorer.parts import part
from neurochains.explorer.rescoring import find, rescore
from neurochains.explorer.saving import zipped
from neurochains.explorer.view import View
from neurochains.explorer.walking import in_browser, step
from neurochains.explorer.widgets import aria, button, card, go, hint, said, switch, table, told
from neurochains.explorer.worker import Stopped, wish

__all__ = ["callbacks", "changes", "layout", "listed", "scores"]

_MOST = 8


def layout(desk: Desk) -> Any:
    """Return the panel."""
    blocks = [
        dmc.Button(block.label, size="compact-xs", variant="default", **step("off", f"block:{block.name}"))
        for block in desk.bundle.blocks
    ]
    return [
        hint(
            "Filters and kernels are switched off in their own panels; blocks here: they then pass on what they read."
        ),
        card("Blocks", dmc.Group(blocks, gap=4) if blocks else hint("No block of this network can be skipped.")),
        card("Switched off", html.Div(id=ids.ABLATION_LIST)),
        dmc.Group(
            [
                button("Undo", ids.UNDO),
                button("All on again", ids.RESTORE),
                button("Save as a chain or circuit", ids.SAVE_CHAIN),
            ],
            gap="xs",
            mt="xs",
        ),
        html.Div(id=ids.ABLATION_BLOCKS, role="status"),
        html.Div(id=ids.ABLATION_RESULT),
        html.Div(id=ids.ABLATION_WORKING, role="status", **aria(live="polite")),
        html.Div(id=ids.ABLATION_SCORES),
    ]


def listed(desk: Desk, view: View) -> Any:
    """Return what is switched off, as buttons that switch it on."""
    if not view.off:
        return hint("Nothing.")
    named = [(text, _named(desk, text)) for text in view.off]
    return dmc.Group([switch(text, f"{name} \u00d7", said=f"Switch {name} on") for text, name in named], gap=4)


def _named(desk: Desk, text: str) -> str:
    if text.startswith("block:"):
        known = {block.name: block.label for block in desk.bundle.blocks}
        return f"block {known.get(text[6:], text[6:])}"
    unit, _, column = text.partition("<")
    found = desk.unit(unit)
    label = unit if found is None else desk.label(found)
    return f"kernel {column} of {label}" if column else label


def changes(desk: Desk, view: View, uploaded: str | None) -> Any:
    """Return what the network does without what is switched off, beside what it does with it."""
    if not view.off:
        return hint("The network is whole.")
    found = answers(desk, view, uploaded)
    height = 70 + len(found.shown) * (12 + 13 * len(found.series))
    figure, words = found.figure(desk.names_of_outputs()), "Probabilities, whole and without"
    bars = drawing.place(ids.ABLATION_BARS, words, figure, height=height)
    rows = _map_rows(desk, view, uploaded)
    said_so = hint(
        "Mean change of a map, as a share of the mean size of the layer's maps, and the filter it changes most."
    )
    return [card("Predictions", bars), card("Maps", said_so, table(("layer", "change", "most"), rows))]


def _map_rows(desk: Desk, view: View, uploaded: str | None) -> list[tuple[str, str, str]]:
    whole, without = desk.seen(view, uploaded), desk.seen(view, uploaded, ablated=True)
    rows = []
    for layer in desk.bundle.layers:
        if layer.name in whole.maps and layer.name in without.maps:
            before, after = whole.maps[layer.name], without.maps[layer.name]
            change = (after - before).abs().reshape(len(before), -1).mean(1)
            size = float(before.abs().mean()) or 1.0
            if float(change.max()) > 0:
                most = f"{layer.label}_{int(change.argmax())}"
                rows.append((layer.label, f"{float(change.mean()) / size:.1%}", most))
    return rows


def scores(desk: Desk, view: View, uploaded: str | None) -> Any:
    """Return how the scores of filters for the chosen image change, as far as they were measured again."""
    found = find(desk, view, uploaded) if view.off else None
    if found is None:
        return None
    rows = [
        (go(str(unit), desk.label(unit), f"Go to {desk.label(unit)}"), f"{old:.3g}", f"{new:.3g}")
        for unit, old, new in found.most(_MOST)
    ]
    totals = [(desk.bundle.layer(name).label, old, found.after[name]) for name, old in found.before.items()]
    layers = [(name, f"{float(old.sum()):.3g}", f"{float(new.sum()):.3g}") for name, old, new in totals]
    kept = [hint(f"Of {found.images} images of this set {found.same} keep their answer.")] if found.images else []
    return [
        card("Scores for the chosen image", hint(_carried(desk, view)), *kept),
        table(("filters that change most", "whole", "without"), rows),
        table(("sum over a layer", "whole", "without"), layers),
    ]


def _carried(desk: Desk, view: View) -> str:
    """Return in words how much of the query's score was switched off."""
    found = answer(desk, view)
    units = [unit for text in view.off if (unit := desk.unit(text)) is not None]
    gone = sum(float(found.filters[u.layer][u.index]) for u in units if u.layer in found.filters)
    return f"The filters that are off carry {gone / (found.result.total or 1):.2%} of the score of the query."


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""
    _shown(app, desk)
    _rescoring(app, desk)
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    in_browser(app, "undo", url, Input(ids.UNDO, "n_clicks"), search)
    in_browser(app, "restore", url, Input(ids.RESTORE, "n_clicks"), search)

    @app.callback(
        Output(ids.SAVED, "data", allow_duplicate=True),
        Output(ids.ABLATION_BLOCKS, "children"),
        Input(ids.SAVE_CHAIN, "n_clicks"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def save(_clicks: int, search: str | None) -> Any:
        try:
            name, data = zipped(desk, View.parse(search))
        except NeuroChainsError as error:
            return no_update, said(str(error))
        return dcc.send_bytes(data, name), hint(f"{name} was made; unpack it, and read it with neurochains.")


def _shown(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.ABLATION_LIST, "children"),
        Output(ids.ABLATION_RESULT, "children"),
        Output(ids.ABLATION_NEED, "data"),
        Input(part("ablation"), "data"),
        State(ids.URL, "search"),
        State(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def show(_part: str | None, search: str | None, uploaded: str | None) -> Any:
        view = View.parse(search)
        wanted = bool(view.off) and find(desk, view, uploaded) is None
        return listed(desk, view), told(lambda: changes(desk, view, uploaded)), wish(search) if wanted else no_update


def _rescoring(app: Dash, desk: Desk) -> None:
    """Measure the scores again in the background, and show them."""

    @app.callback(
        output=Output(ids.ABLATION_DONE, "data"),
        inputs=[Input(ids.ABLATION_NEED, "data"), State(ids.UPLOADED, "data")],
        background=True,
        progress=[Output(ids.ABLATION_WORKING, "children")],
        progress_default=[""],
        prevent_initial_call=True,
    )
    def work(set_progress: Callable[[Any], None], wanted: Any, uploaded: str | None) -> Any:
        search = wanted["search"]
        try:
            rescore(desk, View.parse(search), uploaded, lambda text: set_progress((text,)))
        except Stopped:
            return {"search": search}
        except (NeuroChainsError, NotMeasured, OSError) as error:
            return {"search": search, "said": str(error)}
        return {"search": search}

    @app.callback(
        Output(ids.ABLATION_SCORES, "children"),
        Input(part("ablation"), "data"),
        Input(ids.ABLATION_DONE, "data"),
        State(ids.URL, "search"),
        State(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def show(_part: str | None, done: Any, search: str | None, uploaded: str | None) -> Any:
        if (done or {}).get("said") and (done or {}).get("search") == search:
            return said(done["said"])
        return told(lambda: scores(desk, View.parse(search), uploaded))
