"""The panel of sub-features: the several things that a filter answers to, as clusters of its strongest patches."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import dash_mantine_components as dmc
import numpy as np
import torch
from dash import Dash, Input, Output, State, html
from numpy.typing import NDArray
from torch import Tensor

from neurochains.circuits import SubFeatures, subfeatures
from neurochains.circuits.projections import embed
from neurochains.data import Task
from neurochains.errors import NeuroChainsError
from neurochains.explorer import drawing, ids
from neurochains.explorer.desk import Desk
from neurochains.explorer.parts import part
from neurochains.explorer.view import View
from neurochains.explorer.widgets import aria, button, card, chips, hint, picture, said, table, told
from neurochains.explorer.worker import Stopped, stop_point
from neurochains.network import Filter
from neurochains.pictures import crop_around, data_uri, visualise_subfeatures
from neurochains.pictures.explorer_figures_clusters import CLUSTER_COLOURS, clusters_figure

__all__ = ["Found", "callbacks", "find", "layout", "shown"]

Tell = Callable[[str], None]
_IMAGES, _CROPS, _STEPS, _ALONE = 300, 6, 96, 12


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The sub-features of a filter, its patches in the plane ``(P, 2)``, their images, a picture of each cluster."""

    result: SubFeatures
    places: NDArray[Any]
    images: tuple[tuple[int, int], ...]
    visuals: tuple[NDArray[Any], ...] = ()


def layout() -> Any:
    """Return the panel."""
    tools = [
        button("Find sub-features", ids.SUB_FIND),
        button("Stop", ids.SUB_STOP, disabled=True),
        html.Div(id=ids.SUB_PROGRESS, role="status", **aria(live="polite")),
    ]
    about = "Clusters of what the other filters of the layer answer where the selected filter answers most."
    return [hint(about), dmc.Group(tools, gap="xs"), html.Div(id=ids.SUB_SHOWN)]


def find(desk: Desk, view: View, tell: Tell) -> None:
    """Find the sub-features of the selected filter in the bundle's images, and keep them on the desk.

    Raises:
        Stopped: nobody waits for it any more.
        ModelError: scikit-learn is not installed.
        ArtifactError: the model is not known.
    """
    unit = desk.unit(view.unit)
    if unit is None or desk.subfeatures.has(unit):
        return
    places = _images(desk)
    task = desk.task(places)
    tell(f"Looking at {len(places)} images ...")
    stop_point()
    result = subfeatures(desk.network, Task(task.images, pixels=task.pixels), str(unit), patches=len(places))
    stop_point()
    tell("Placing the patches ...")
    vectors = result.patches.vectors.numpy()
    points = embed(vectors) if len(vectors) > 2 else np.zeros((len(vectors), 2))
    desk.subfeatures.put(unit, Found(result, points, tuple(places)))


def paint(desk: Desk, view: View, tell: Tell) -> None:
    """Paint what each cluster of the selected filter answers to, where they were found and are not painted yet.

    Raises:
        Stopped: nobody waits for it any more.
        SettingsError: the bundle does not know how pixels become inputs.
    """
    unit = desk.unit(view.unit)
    found: Found | None = desk.subfeatures.find(unit)
    if unit is not None and found is not None and not found.visuals:
        desk.subfeatures.put(unit, replace(found, visuals=_visuals(desk, found.result, tell)))


def _images(desk: Desk) -> list[tuple[int, int]]:
    """Return the images to look at: as many of each set as there is room for."""
    sets = desk.bundle.sets
    rows = max(len(known.images) for known in sets)
    every = [(index, image) for image in range(rows) for index, known in enumerate(sets) if image < len(known.images)]
    return every[:_IMAGES]


def _visuals(desk: Desk, result: SubFeatures, tell: Tell) -> tuple[NDArray[Any], ...]:
    if not result.clusters:
        return ()

    def watch(step: int) -> None:
        stop_point()
        if step % 8 == 1:
            tell(f"Painting what each cluster answers to: step {step} of {_STEPS * result.clusters}")

    document = desk.bundle.document
    made = visualise_subfeatures(desk.network, result, steps=_STEPS, mean=document.mean, std=document.std, watch=watch)
    return tuple(image.numpy() for image in made.images)


def shown(desk: Desk, view: View) -> Any:
    """Return the sub-features of the selected filter, where they were found."""
    unit = desk.unit(view.unit)
    if unit is None:
        return hint("Select a filter first.")
    found: Found | None = desk.subfeatures.find(unit)
    if found is None:
        return hint(f"Not looked for yet for {desk.label(unit)}.")
    result = found.result
    if not result.clusters:
        return hint(f"{desk.label(unit)}: no clusters among {len(result.patches)} patches. Prepare with more images.")
    points = clusters_figure(found.places, result.labels.numpy())
    plane = drawing.place(ids.SUB_PLANE, "The patches by cluster", points, height=230)
    return [
        card(f"{desk.label(unit)}: {result.clusters} clusters of {len(result.patches)} patches", plane),
        card("Separability", table(("", "kernels in common"), _separability(result)), hint(_MEANING)),
        *(_cluster(desk, found, number) for number in range(result.clusters)),
    ]


_MEANING = "The share of kernels that the circuits of two clusters have in common. Far below the control: sub-features."


def _separability(result: SubFeatures) -> list[tuple[str, str]]:
    if result.clusters < 2:
        return [("one cluster only", "")]
    return [("clusters", f"{result.separability:.2f}"), ("mixed control", f"{result.mixed_separability:.2f}")]


def _cluster(desk: Desk, found: Found, number: int) -> Any:
    members = found.result.members(number)
    kernels = sum(int(mask.sum()) for mask in found.result.circuits[number].values())
    tiles = []
    if number < len(found.visuals):
        tiles.append(picture(data_uri(found.visuals[number], photo=True), f"What cluster {number + 1} answers to", 56))
    for member in members[:_CROPS].tolist():
        place = found.images[int(found.result.patches.images[member])]
        pixels = torch.from_numpy(desk.bundle.picture(*place).copy())
        top, left, bottom, right = found.result.patches.boxes[member].tolist()
        source = data_uri(crop_around(pixels, (top, left, bottom, right)), photo=True)
        tiles.append(picture(source, desk.bundle.sets[place[0]].images[place[1]], 46))
    colour = CLUSTER_COLOURS[number % len(CLUSTER_COLOURS)]
    head = f"Cluster {number + 1}: {len(members)} patches, {kernels:,} kernels in its circuit"
    edge = {"borderLeft": f"4px solid {colour}", "paddingLeft": 6}
    return card(head, html.Div([html.Div(tiles, className="row"), *_circuit(desk, found, number)], style=edge))


def _circuit(desk: Desk, found: Found, number: int) -> list[Any]:
    """Return where the kernels of a cluster's circuit lie, and the filters that no other cluster's circuit has."""
    own = found.result.circuits[number]
    counts = [f"{desk.bundle.layer(name).label} {int(mask.sum()):,}" for name, mask in own.items() if bool(mask.any())]
    others = {
        unit for other, circuit in enumerate(found.result.circuits) if other != number for unit in _filters(circuit)
    }
    alone = [(str(unit), desk.label(unit)) for unit in reversed(_filters(own)) if unit not in others]
    words = f"{len(alone):,} of its filters are in no other circuit" + (":" if alone else ".")
    rows = [hint(f"Kernels by layer: {', '.join(counts) or 'none'}"), hint(words)]
    return [*rows, html.Div(chips(alone, _ALONE), className="row")]


def _filters(circuit: Mapping[str, Tensor]) -> list[Filter]:
    return [Filter(name, unit) for name, mask in circuit.items() for unit in mask.any(1).nonzero().flatten().tolist()]


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel: the clusters are shown before their pictures are painted."""
    both = (Input(part("subfeatures"), "data"), Input(ids.SUB_STOP, "n_clicks"))
    _showing(app, desk, Output(ids.SUB_SHOWN, "children"), Input(ids.SUB_DONE, "data"), *both)
    # apart from the one above, which would wait until all is painted
    again = Output(ids.SUB_SHOWN, "children", allow_duplicate=True)
    _showing(app, desk, again, Input(ids.SUB_PAINTED, "data"))
    _working(app, Output(ids.SUB_DONE, "data"), Input(ids.SUB_FIND, "n_clicks"), lambda *given: find(desk, *given))
    _working(app, Output(ids.SUB_PAINTED, "data"), Input(ids.SUB_DONE, "data"), lambda *given: paint(desk, *given))


def _showing(app: Dash, desk: Desk, output: Output, *inputs: Input) -> None:
    @app.callback(output, *inputs, State(ids.URL, "search"), prevent_initial_call=True)
    def show(done: Any, *rest: Any) -> Any:
        view, report = View.parse(rest[-1]), done if isinstance(done, dict) else {}
        failed = report.get("said") if report.get("unit") == view.unit else None
        return [*([said(str(failed))] if failed else []), html.Div(told(lambda: shown(desk, view)))]


def _working(app: Dash, output: Output, wanted: Input, make: Callable[[View, Tell], None]) -> None:
    """Register work in the background that can be stopped; where something went wrong before, it has nothing to do."""

    @app.callback(
        output=output,
        inputs=[wanted, State(ids.URL, "search")],
        background=True,
        running=[(Output(ids.SUB_FIND, "disabled"), True, False), (Output(ids.SUB_STOP, "disabled"), False, True)],
        progress=[Output(ids.SUB_PROGRESS, "children")],
        progress_default=[""],
        cancel=[Input(ids.SUB_STOP, "n_clicks")],
        prevent_initial_call=True,
    )
    def work(set_progress: Callable[[Any], None], given: Any, search: str | None) -> Any:
        view = View.parse(search)
        known = {"unit": view.unit, "number": secrets.token_hex(4)}
        if isinstance(given, dict) and (given.get("said") or given.get("stopped") or given.get("unit") != view.unit):
            return known
        try:
            make(view, lambda text: set_progress((text,)))
        except Stopped:
            return {**known, "stopped": True}
        except NeuroChainsError as error:
            return {**known, "said": str(error)}
        return known
