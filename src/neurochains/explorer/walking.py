"""What buttons all over the page do alike: go to a filter, open a kernel, choose an image, switch something off."""

from __future__ import annotations

import json
from typing import Any

from dash import ALL, Dash, Input, Output, State, ctx, no_update

from neurochains.explorer import ids
from neurochains.explorer.parts import part
from neurochains.explorer.view import View

__all__ = ["after", "callbacks"]

_KINDS = ("go", "kernel", "image", "off")


def after(view: View, kind: str, what: str) -> View:
    """Return the view after a button of some kind was pressed.

    >>> after(View(off=("a[1]",)), "off", "a[1]").off
    ()
    """
    if kind == "go":
        changes: dict[str, Any] = {"unit": what, "cell": "", "panel": "filter"}
    elif kind == "kernel":
        changes = {"kernel": what, "panel": "kernel"}
    elif kind == "image":
        changes = {"image": what, "cell": ""}
    else:
        left = tuple(entry for entry in view.off if entry != what)
        changes = {"off": left if len(left) < len(view.off) else (*view.off, what)}
    wanted = view.having(**changes)
    return View.parse(wanted.search())  # what cannot be written in an address is not done


def callbacks(app: Dash) -> None:
    """Register what the buttons do."""
    for kind in _KINDS:

        @app.callback(
            Output(ids.URL, "search", allow_duplicate=True),
            Input({"kind": kind, "what": ALL, "place": ALL}, "n_clicks"),
            State(ids.URL, "search"),
            prevent_initial_call=True,
        )
        def press(_clicks: list[int | None], search: str | None, kind: str = kind) -> Any:
            if not ctx.triggered or not ctx.triggered[0]["value"]:
                return no_update
            pressed = json.loads(ctx.triggered[0]["prop_id"].rpartition(".")[0])
            return after(View.parse(search), kind, str(pressed["what"])).search()

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Input(ids.PANEL, "value"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def open_panel(panel: str, search: str | None) -> Any:
        view = View.parse(search)
        return no_update if panel == view.panel else view.having(panel=panel).search()

    app.clientside_callback(
        "window.dash_clientside.explorer.top",
        Output(ids.TOP, "data"),
        Input(part("panel"), "data"),
        Input(part("visual"), "data"),
    )

    @app.callback(Output(ids.PANEL, "value"), Input(part("panel"), "data"), prevent_initial_call=True)
    def show_panel(search: str | None) -> str:
        return View.parse(search).panel
