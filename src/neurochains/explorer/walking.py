"""What leads from one view to another without asking the server: buttons all over the page, and the tabs of the panels.

A button carries what it does and to what (`step`); one listener in the browser (`assets/address.js`) changes the
address. Dash does not know of these buttons, so that panels with hundreds of them are filled fast.
"""

from __future__ import annotations

from typing import Any, Literal

from dash import Dash, Input, Output, State

from neurochains.explorer import ids
from neurochains.explorer.parts import part

__all__ = ["callbacks", "in_browser", "step"]

Kind = Literal["go", "kernel", "image", "off"]


def step(kind: Kind, what: str) -> dict[str, Any]:
    """Return what makes a button go to a filter, open a kernel, choose an image, or switch something off and on."""
    return {"data-step": kind, "data-what": what}


def in_browser(app: Dash, function: str, *places: Input | Output | State, first: bool = False) -> None:
    """Register a callback that a function in the browser answers; when the page is opened only if `first`."""
    app.clientside_callback(f"window.dash_clientside.explorer.{function}", *places, prevent_initial_call=not first)


def callbacks(app: Dash) -> None:
    """Register what the tabs do."""
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    in_browser(app, "open", url, Input(ids.PANEL, "value"), search)
    in_browser(app, "opened", Output(ids.PANEL, "value"), Input(part("panel"), "data"))
    tops = (Input(part("panel"), "data"), Input(part("visual"), "data"))
    in_browser(app, "top", Output(ids.TOP, "data"), *tops, first=True)
