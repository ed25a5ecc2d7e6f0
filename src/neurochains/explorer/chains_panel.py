"""The panel of chains: one on the graph with its paths for each class, or two compared."""

from __future__ import annotations

from collections import Counter
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update

from neurochains.errors import NeuroChainsError
from neurochains.explorer import ids
from neurochains.explorer.comparing import paths_of, shared
from neurochains.explorer.desk import Desk
from neurochains.explorer.parts import part
from neurochains.explorer.thumbs import thumbnail
from neurochains.explorer.view import View
from neurochains.explorer.widgets import card, go, hint, picture, said, table, told
from neurochains.network import Filter

__all__ = ["callbacks", "chosen", "layout", "shown"]

_MOST = 40
_MEASURES = (("kl", "KL", ".3f"), ("agreement", "agreement", ".0%"), ("accuracy", "accuracy", ".0%"))


def layout(desk: Desk) -> Any:
    """Return the panel."""
    known = [{"value": str(number), "label": f"{number + 1}. {name}"} for number, (name, _) in enumerate(desk.chains)]
    return [
        dmc.MultiSelect(
            id=ids.CHAIN_PICK, label="Chains (one, or two to compare)", data=known, value=[], maxValues=2, size="xs",
            mt="xs", clearable=True,
        ),
        html.Div(id=ids.CHAIN_SHOWN),
    ]  # fmt: skip


def chosen(desk: Desk, view: View) -> list[int]:
    """Return the numbers of the chains that a view shows."""
    return [int(number) for number in view.chains if int(number) < len(desk.chains)]


def shown(desk: Desk, view: View) -> Any:
    """Return what there is to say about the chosen chains; the paths of one as far as they are known."""
    numbers = chosen(desk, view)
    if not desk.chains:
        return hint("No chain was opened. Start the explorer with: neurochains explore BUNDLE --chain RUN")
    if not numbers:
        return hint("Choose a chain: its filters are marked on the graph.")
    if len(numbers) == 2:
        return _compared(desk, *numbers)
    paths = desk.paths.has(numbers[0])
    rows = _paths(desk, numbers[0]) if paths else [hint("Finding the paths of each class ...")]
    return [_measured(desk, numbers[0]), *rows]


def _measured(desk: Desk, number: int) -> Any:
    name, chain = desk.chains[number]
    numbers = [
        f"{said_as} {chain.metrics[key]:{form}}"
        for key, said_as, form in _MEASURES
        if isinstance(chain.metrics.get(key), (int, float))
    ]
    kept, total = chain.subnetwork.kept, chain.subnetwork.total
    words = [f"{kept:,} of {total:,} filters", *numbers]
    skipped = f" Skipped blocks: {', '.join(chain.subnetwork.skipped)}." if chain.subnetwork.skipped else ""
    return card(name, hint(f"{'; '.join(words)}.{skipped}"))


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
        tile = html.Div([picture(*thumbnail(desk, step.filter), 46), hint(step.label), hint(f"{step.share:.0%}")])
        steps.append(go(str(step.filter), tile, f"Go to {step.label}", f"path{path.label}.{place}"))
    return html.Div([hint(f"Path {place}, product of shares {path.product:.2g}"), dmc.Group(steps, gap=2)])


def _compared(desk: Desk, first: int, second: int) -> Any:
    found = shared(desk.chains[first][1], desk.chains[second][1])
    names = [desk.chains[number][0] for number in (first, second)]
    if names[0] == names[1]:
        names = [f"{name} ({number + 1})" for name, number in zip(names, (first, second))]
    groups = (("in both", found.both), (f"only in {names[0]}", found.first), (f"only in {names[1]}", found.second))
    layers = [x for x in desk.bundle.layers if any(unit.layer == x.name for _, units in groups for unit in units)]
    counts = [Counter(unit.layer for unit in units) for _, units in groups]
    rows = [(layer.label, *(f"{count[layer.name]:,}" for count in counts)) for layer in layers]
    total = ("all", *(f"{len(units):,}" for _, units in groups))
    head = ("layer", *(name for name, _ in groups))
    lists = [
        card(f"{name}: {len(units):,}", _chips(desk, units, str(place))) for place, (name, units) in enumerate(groups)
    ]
    return [card("Filters by layer", table(head, [*rows, total])), *lists]


def _chips(desk: Desk, units: tuple[Filter, ...], place: str) -> Any:
    chips = [
        go(str(unit), dmc.Badge(desk.label(unit), variant="default", size="sm", tt="none"), f"Go to {unit}", place)
        for unit in units[:_MOST]
    ]
    more = [hint(f"and {len(units) - _MOST:,} more")] if len(units) > _MOST else []
    return dmc.Group([*chips, *more], gap=2) if units else hint("None.")


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""
    _shown(app, desk)
    _choosing(app)


def _shown(app: Dash, desk: Desk) -> None:
    """Show the chosen chains; the paths of one are found in the background."""

    @app.callback(
        Output(ids.CHAIN_SHOWN, "children"),
        Output(ids.CHAIN_NEED, "data"),
        Output(ids.CHAIN_PICK, "value"),
        Input(part("chains"), "data"),
        Input(ids.CHAIN_DONE, "data"),
        State(ids.URL, "search"),
    )
    def show(_part: str | None, done: Any, search: str | None) -> Any:
        view = View.parse(search)
        numbers = chosen(desk, view)
        wanted = numbers[0] if len(numbers) == 1 and not desk.paths.has(numbers[0]) else None
        failed = (done or {}).get("said")
        if failed and (done or {}).get("number") == wanted:
            return said(failed), no_update, no_update
        return told(lambda: shown(desk, view)), no_update if wanted is None else wanted, [str(n) for n in numbers]

    @app.callback(
        output=Output(ids.CHAIN_DONE, "data"),
        inputs=[Input(ids.CHAIN_NEED, "data")],
        background=True,
        prevent_initial_call=True,
    )
    def find(number: int) -> Any:
        try:
            paths_of(desk, number)
        except NeuroChainsError as error:
            return {"number": number, "said": str(error)}
        return {"number": number}


def _choosing(app: Dash) -> None:
    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Input(ids.CHAIN_PICK, "value"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def choose(numbers: list[str] | None, search: str | None) -> Any:
        view = View.parse(search)
        wanted = view.having(chains=tuple(numbers or ())[:2])
        return no_update if wanted == view else wanted.search()
