"""The panel of chains and circuits: one on the graph, a chain with its paths for each class, or two compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update

from neurochains.errors import NeuroChainsError
from neurochains.explorer import ids
from neurochains.explorer.active import compare_with_set, is_compared, set_of, shown_path
from neurochains.explorer.comparing import paths_of, shared, units_of
from neurochains.explorer.desk import Desk
from neurochains.explorer.parts import part
from neurochains.explorer.runs import DecoupledRun
from neurochains.explorer.thumbs import thumbnail
from neurochains.explorer.view import View
from neurochains.explorer.walking import in_browser
from neurochains.explorer.widgets import card, chips, hint, said, table, tile, told
from neurochains.network import Filter

__all__ = ["callbacks", "layout", "shown"]

_MOST = 40


def layout(desk: Desk) -> Any:
    """Return the panel."""
    known = [{"value": str(number), "label": f"{number + 1}. {run.name}"} for number, run in enumerate(desk.runs)]
    return [
        dmc.MultiSelect(
            id=ids.CHAIN_PICK, label="Chains, circuits, calculation paths (one, or two)", data=known, value=[],
            maxValues=2, size="xs", mt="xs", clearable=True, searchable=True,
        ),
        html.Div(id=ids.CHAIN_SHOWN),
    ]  # fmt: skip


def shown(desk: Desk, view: View, uploaded: str | None = None) -> Any:
    """Return what there is to say about the chosen chains; the paths of one as far as they are known."""
    numbers = desk.shown(view)
    if not desk.runs:
        return hint("None was opened. Start the explorer with: neurochains explore BUNDLE --chain RUN")
    if not numbers:
        return hint("Choose one: its filters are marked on the graph.")
    if len(numbers) == 2:
        return _compared(desk, numbers, [units_of(desk, number, view, uploaded) for number in numbers])
    run = desk.runs[numbers[0]]
    if isinstance(run, DecoupledRun):
        return [card(run.name, hint(run.words)), *shown_path(desk, numbers[0], view, uploaded)]
    return [card(run.name, hint(run.words)), *_inside(desk, numbers[0])]


def _inside(desk: Desk, number: int) -> list[Any]:
    """Return the paths through a chain as far as they are known; of a circuit its filters, layer by layer."""
    run = desk.runs[number]
    if not run.has_paths:
        return _layers(desk, units_of(desk, number, View()))
    return _paths(desk, number) if desk.paths.has(number) else [hint("Finding the paths of each class ...")]


def _layers(desk: Desk, units: Sequence[Filter]) -> list[Any]:
    names = list(dict.fromkeys(unit.layer for unit in units))
    inside = {name: tuple(unit for unit in units if unit.layer == name) for name in names}
    return [
        card(f"{desk.bundle.layer(name).label}: {len(own):,} filters", _chips(desk, own))
        for name, own in inside.items()
    ]


def _paths(desk: Desk, number: int) -> list[Any]:
    """Return, for each class, its paths as rows of filters; each leads to its panel."""
    parts = []
    for label, paths in paths_of(desk, number).items():
        name = paths[0].name if paths else f"output {label}"
        rows = [_path(desk, path, place) for place, path in enumerate(paths, 1)]
        parts.append(card(name, *(rows or [hint("No path of positive contributions leads there.")])))
    return parts


def _path(desk: Desk, path: Any, place: int) -> Any:
    steps = []
    for step in path.steps:
        words = f"{step.label}\n{step.share:.0%}"
        steps.append(tile(str(step.filter), thumbnail(desk, step.filter)[0], f"Go to {step.label}", 44, words=words))
    return html.Div([hint(f"Path {place}, product of shares {path.product:.2g}"), html.Div(steps, className="row")])


def _compared(desk: Desk, numbers: Sequence[int], units: Sequence[tuple[Filter, ...]]) -> Any:
    found, names = shared(*units), [desk.title(number) for number in numbers]
    groups = (("in both", found.both), (f"only in {names[0]}", found.first), (f"only in {names[1]}", found.second))
    layers = [x for x in desk.bundle.layers if any(unit.layer == x.name for _, units in groups for unit in units)]
    counts = [Counter(unit.layer for unit in units) for _, units in groups]
    rows = [(layer.label, *(f"{count[layer.name]:,}" for count in counts)) for layer in layers]
    total = ("all", *(f"{len(units):,}" for _, units in groups))
    head = ("layer", *(name for name, _ in groups))
    lists = [card(f"{name}: {len(units):,}", _chips(desk, units)) for name, units in groups]
    return [card("Filters by layer", table(head, [*rows, total])), *lists]


def _chips(desk: Desk, units: tuple[Filter, ...]) -> Any:
    named = [(str(unit), desk.label(unit)) for unit in units]
    return html.Div(chips(named, _MOST), className="row") if units else hint("None.")


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""
    _shown(app, desk)
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    in_browser(app, "choose_chains", url, Input(ids.CHAIN_PICK, "value"), search)


def _shown(app: Dash, desk: Desk) -> None:
    """Show the chosen chains; the paths of one are found in the background."""

    @app.callback(
        Output(ids.CHAIN_SHOWN, "children"),
        Output(ids.CHAIN_PICK, "value"),
        Input(part("chains"), "data"),
        Input(ids.CHAIN_DONE, "data"),
        State(ids.URL, "search"),
        State(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def show(_part: str | None, done: Any, search: str | None, uploaded: str | None) -> Any:
        view, failed = View.parse(search), (done or {}).get("said")
        if failed and _wanted(desk, view) == {key: value for key, value in done.items() if key != "said"}:
            return said(failed), no_update
        return told(lambda: shown(desk, view, uploaded)), [str(number) for number in desk.shown(view)]

    # not the callback above: Dash starts none again from what it has started itself
    @app.callback(
        Output(ids.CHAIN_NEED, "data"), Input(part("chains"), "data"), State(ids.URL, "search"),
        prevent_initial_call=True,
    )  # fmt: skip
    def need(_part: str | None, search: str | None) -> Any:
        wanted = _wanted(desk, View.parse(search))
        return no_update if wanted is None else wanted

    @app.callback(
        output=Output(ids.CHAIN_DONE, "data"),
        inputs=[Input(ids.CHAIN_NEED, "data")],
        background=True,
        prevent_initial_call=True,
    )
    def find(wanted: dict[str, int]) -> Any:
        number, index = wanted["number"], wanted.get("set")
        try:
            _ = paths_of(desk, number) if index is None else compare_with_set(desk, number, index)
        except NeuroChainsError as error:
            return {**wanted, "said": str(error)}
        return wanted


def _wanted(desk: Desk, view: View) -> dict[str, int] | None:
    """Return the number of the chain whose paths have to be found yet, or of the decoupled network and the set."""
    numbers = desk.shown(view)
    if len(numbers) != 1:
        return None
    if isinstance(desk.runs[numbers[0]], DecoupledRun):
        known = is_compared(desk, numbers[0], set_of(view))
        return None if known else {"number": numbers[0], "set": set_of(view)}
    known = not desk.runs[numbers[0]].has_paths or desk.paths.has(numbers[0])
    return None if known else {"number": numbers[0]}
