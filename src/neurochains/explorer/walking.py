"""What leads from one view to another without asking the server: buttons all over the page.

A button carries what it does and to what (`step`); one listener in the browser (`assets/address.js`) changes the
address. Dash does not know of these buttons, so that panels with hundreds of them are filled fast.
"""

from __future__ import annotations

from typing import Any, Literal

from dash import Dash, Input, Output, State

__all__ = ["in_browser", "step"]

Kind = Literal["go", "kernel", "image", "off"]


def step(kind: Kind, what: str) -> dict[str, Any]:
    """Return what makes a button go to a filter, open a kernel, choose an image, or switch something off and on."""
    return {"data-step": kind, "data-what": what}


def in_browser(app: Dash, function: str, *places: Input | Output | State, first: bool = False) -> None:
    """Register a callback that a function in the browser answers; when the page is opened only if `first`."""
    app.clientside_callback(f"window.dash_clientside.explorer.{function}", *places, prevent_initial_call=not first)
