"""The feature visualisation in the panel of a filter: shown where the bundle has it, painted in the background else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html
from torch import Tensor

from neurochains.circuits.bundle import Visual
from neurochains.edit import tap
from neurochains.errors import DataError, NeuroChainsError
from neurochains.explorer import ids
from neurochains.explorer.desk import Desk
from neurochains.explorer.thumbs import objective_of
from neurochains.explorer.view import OBJECTIVES, View
from neurochains.explorer.walking import in_browser
from neurochains.explorer.widgets import aria, button, card, hint, picture, said
from neurochains.explorer.worker import Stopped, stop_point
from neurochains.network import Filter
from neurochains.pictures import data_uri, visualise

__all__ = ["callbacks", "layout", "paint", "shown", "told_visual"]

Tell = Callable[[int, int], None]
STEPS = 256
_NAMES = {
    "channel+": "channel, most",
    "channel-": "channel, least",
    "centre+": "neuron, most",
    "centre-": "neuron, least",
}


def layout() -> Any:
    """Return the part of the panel."""
    tools = [
        dmc.Select(
            id=ids.OBJECTIVE, data=[{"value": o, "label": _NAMES[o]} for o in OBJECTIVES], value="channel+", size="xs",
            w=130, allowDeselect=False, **aria(label="Objective of the feature visualisation"),
        ),
        button("Paint", ids.PAINT),
        button("Stop", ids.PAINT_STOP, disabled=True),
        html.Div(id=ids.PAINT_PROGRESS, role="status", **aria(live="polite")),
    ]  # fmt: skip
    left = html.Div(id=ids.VISUAL, style={"width": 132, "flexShrink": 0})
    return card("Feature visualisation", html.Div([left, dmc.Stack(tools, gap="xs")], className="side"))


def shown(desk: Desk, view: View) -> Any:
    """Return the feature visualisation that the bundle has, with the values it reached."""
    unit = desk.unit(view.unit)
    if unit is None or not desk.bundle.layer(unit.layer).scored:
        return picture(None, "no filter is selected", 128)
    visual = desk.bundle.visual(unit, **objective_of(view))
    if visual is None:
        return picture(None, "not painted yet", 128)
    best = desk.bundle.patches(unit)
    beside = f"; in the data at most {best[0].value:.3g}" if best else ""
    text = f"reached {visual.reached:.3g}, at most {visual.peak:.3g}{beside}"
    name = f"Feature visualisation of {desk.label(unit)}, {_NAMES[view.objective]}"
    return [picture(data_uri(visual.pixels, photo=True), name, 128), hint(text)]


def paint(desk: Desk, view: View, tell: Tell, *, steps: int = STEPS) -> Filter | None:
    """Make the feature visualisation of the selected filter, and keep it in the bundle.

    Raises:
        Stopped: nobody waits for it any more.
        DataError: the bundle does not know how pixels become inputs.
        ArtifactError: the model is not known, or the bundle cannot be written to.
    """
    unit, document = desk.unit(view.unit), desk.bundle.document
    if unit is None or not desk.bundle.layer(unit.layer).scored:
        return None
    if len(document.mean) not in (1, 3):
        raise DataError("The bundle does not know how pixels become inputs: prepare it with preprocess=.")
    wishes = objective_of(view)
    maps_of = _counted(desk, unit.layer, steps, tell)
    made = visualise(
        maps_of, [unit.index], document.input_shape[1:], mean=document.mean, std=document.std, steps=steps, **wishes
    )  # fmt: skip
    visual = Visual(made.images[0].numpy(), float(made.reached[0]), float(made.peak[0]))
    desk.bundle.keep_visual(unit, visual, **wishes)
    return unit


def _counted(desk: Desk, layer: str, steps: int, tell: Tell) -> Callable[[Tensor], Tensor]:
    """Return what gives the maps of a layer, says how far the painting is, and can be stopped."""
    network = desk.network
    tapped, name, count = tap(network, [layer]), network.layer(layer).name, [0]

    def maps_of(images: Tensor) -> Tensor:
        stop_point()
        count[0] += 1
        if count[0] % 16 == 0:
            tell(min(count[0], steps), steps)
        return tapped(images)[1][name]

    return maps_of


def told_visual(desk: Desk, view: View, painted: Any) -> Any:
    """Return `shown`, and what went wrong with the last painting if it was that of the selected filter."""
    try:
        made = shown(desk, view)
    except NeuroChainsError as error:
        made = said(str(error))
    failed = (painted or {}).get("said") if (painted or {}).get("unit") == view.unit else None
    return [made, said(failed)] if failed else made


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the part; `filter_panel` shows it."""
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    in_browser(app, "choose_objective", url, Input(ids.OBJECTIVE, "value"), search)
    _painting(app, desk)


def _painting(app: Dash, desk: Desk) -> None:
    @app.callback(
        output=Output(ids.FOUND, "data"),
        inputs=[Input(ids.PAINT, "n_clicks"), State(ids.URL, "search")],
        background=True,
        running=[
            (Output(ids.PAINT, "disabled"), True, False),
            (Output(ids.PAINT_STOP, "disabled"), False, True),
        ],
        progress=[Output(ids.PAINT_PROGRESS, "children")],
        progress_default=[""],
        cancel=[Input(ids.PAINT_STOP, "n_clicks")],
        prevent_initial_call=True,
    )
    def work(set_progress: Callable[[Any], None], clicks: int, search: str | None) -> Any:
        view = View.parse(search)
        set_progress(("Painting ...",))
        try:
            paint(desk, view, lambda step, steps: set_progress((f"Painting: {step} of {steps} steps",)))
        except Stopped:
            return {"unit": view.unit, "n": clicks}
        except NeuroChainsError as error:
            return {"unit": view.unit, "n": clicks, "said": str(error)}
        return {"unit": view.unit, "n": clicks}
