"""The panel of the graph: the network in space or a circuit in the plane, and what a click on it selects."""

from __future__ import annotations

from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, Patch, State, ctx, html, no_update

from neurochains.errors import ExpressionError, NeuroChainsError
from neurochains.explorer import box, drawing, ids
from neurochains.explorer.active import by_use
from neurochains.explorer.asking import NotMeasured
from neurochains.explorer.comparing import shared, units_of
from neurochains.explorer.desk import Desk
from neurochains.explorer.graph import Drawn, draw
from neurochains.explorer.parts import part
from neurochains.explorer.plan import circuit_view
from neurochains.explorer.runs import DecoupledRun
from neurochains.explorer.view import View
from neurochains.explorer.walking import in_browser
from neurochains.explorer.widgets import aria, button, hint, said
from neurochains.pictures.explorer_figures import MARKS, network_figure, node_groups, node_symbols, pointers
from neurochains.pictures.explorer_figures_circuit import circuit_plan_figure

__all__ = ["callbacks", "clicked", "counted", "figure", "layout", "legend", "selected_patch"]

_NO_MARKS = "Filters: larger, the larger the score"


def layout() -> Any:
    """Return the panel."""
    tools = dmc.Group(
        [
            dmc.SegmentedControl(
                id=ids.GRAPH_KIND,
                data=[{"value": "3d", "label": "Network 3-D"}, {"value": "2d", "label": "Circuit 2-D"}],
                value="3d",
                size="xs",
                **aria(label="Kind of graph"),
            ),
            _slider(ids.NODE_SIZE, "Size of the filters"),
            _slider(ids.KERNEL_SIZE, "Size of the kernels"),
            button("Full screen", ids.FULL),
            html.Div(id=ids.GRAPH_SAID, style={"flex": 1, "minWidth": 120}, role="status"),
        ],
        gap="sm",
        wrap="nowrap",
        mb=4,
    )
    graph = drawing.place(ids.GRAPH, "The network: click a filter to select it", slow=True, scrollZoom=True)
    boxed = html.Div(id=ids.BOXED, role="status", className="boxed")
    return [tools, html.Div(graph, id=ids.GRAPH_BOX), boxed, _legend()]


def _slider(name: str, words: str) -> Any:
    made = dmc.Slider(id=name, min=0.4, max=2, step=0.1, value=1, label=None, thumbLabel=words, updatemode="mouseup")
    return html.Div(made, style={"width": 64}, title=words)


def _legend() -> Any:
    words = (("#c0322b", "excites"), ("#9a9a9a", "even"), ("#2166ac", "inhibits"))
    lines = [_sample(colour, word) for colour, word in words]
    marks = html.Span(_NO_MARKS, id=ids.MARKS)
    return html.Div(["Kernels:", *lines, marks], className="legend")


def _sample(colour: str, word: str) -> Any:
    return html.Span([html.I(style={"background": colour}), word])


def legend(desk: Desk, view: View, drawn: Drawn, uploaded: str | None = None) -> Any:
    """Return what the marks of filters mean."""
    groups = _marked(desk, view, drawn, uploaded)
    samples = [_sample(colour, f"{words} ({len(nodes):,})") for colour, (words, nodes) in zip(MARKS, groups)]
    return [html.Span("Filters:"), *samples] if groups else _NO_MARKS


def figure(desk: Desk, view: View, drawn: Drawn, uploaded: str | None = None) -> dict[str, Any]:
    """Return the figure of a view."""
    node = drawn.node(desk.unit(view.unit))
    marked = [group for _, group in _marked(desk, view, drawn, uploaded)]
    off = off_nodes(desk, view, drawn)
    wishes: dict[str, Any] = {"selected": node, "off": off, "marked": marked, "scale": view.size, "width": view.width}
    if view.graph == "2d":
        return circuit_plan_figure(circuit_view(desk, drawn, node), **wishes)
    return network_figure(drawn.view, **wishes)


def counted(drawn: Drawn) -> str:
    """Return how many filters and kernels are shown, of how many."""
    shown, total = len(set(drawn.kernels)), drawn.total
    kernels = f"{shown:,} of {total:,} kernels" if shown < total else f"{total:,} kernels"
    return f"{drawn.filters[0]:,} of {drawn.filters[1]:,} filters, {kernels}"


def selected_patch(desk: Desk, view: View, drawn: Drawn, uploaded: str | None = None) -> Patch:
    """Return what changes of the figure in space when another filter is selected."""
    node, patch, off = drawn.node(desk.unit(view.unit)), Patch(), off_nodes(desk, view, drawn)
    marked = [group for _, group in _marked(desk, view, drawn, uploaded)]
    for place, nodes in enumerate(node_groups(drawn.view, marked)):
        patch["data"][place]["marker"]["symbol"] = node_symbols(nodes, place, off)
    patch["layout"]["scene"]["annotations"] = pointers(drawn.view, node)
    return patch


def clicked(view: View, drawn: Drawn, data: Any) -> View:
    """Return the view after a click on the graph."""
    point = (data or {}).get("points", [{}])[0]
    node = point.get("customdata")
    if not isinstance(node, int) or node >= len(drawn.units):
        return view
    if node < 0:
        unit, column = drawn.kernels[-1 - node] if -1 - node < len(drawn.kernels) else (None, 0)
        return view if unit is None else view.having(kernel=f"{unit}<{column}", panel="kernel")
    unit = drawn.units[node]
    if unit.layer == "input":
        return view
    again = view.graph == "2d" and view.unit == str(unit)
    return view.having(unit="" if again else str(unit), cell="", panel="filter")


def off_nodes(desk: Desk, view: View, drawn: Drawn) -> list[int]:
    """Return the nodes of the filters that are switched off."""
    nodes = [drawn.node(desk.unit(text)) for text in view.off if text.endswith("]") and not text.startswith("block:")]
    return [node for node in nodes if node >= 0]


def _marked(desk: Desk, view: View, drawn: Drawn, uploaded: str | None) -> list[tuple[str, list[int]]]:
    """Return the nodes to mark, by what they are in: one chain or circuit, or both of two, one alone, or the other."""
    numbers = desk.shown(view)
    if len(numbers) == 1 and isinstance(desk.runs[numbers[0]], DecoupledRun):
        groups = by_use(desk, numbers[0], view, uploaded)
    elif len(numbers) < 2:
        groups = [(f"in {desk.title(number)}", units_of(desk, number, view, uploaded)) for number in numbers]
    else:
        found = shared(*(units_of(desk, number, view, uploaded) for number in numbers))
        names = map(desk.title, numbers)
        words = ("in both", *(f"only in {name}" for name in names))
        groups = list(zip(words, (found.both, found.first, found.second)))
    nodes = [(words, map(drawn.node, units)) for words, units in groups]
    return [(words, [node for node in found if node >= 0]) for words, found in nodes]


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""
    _drawing(app, desk)
    _selecting(app, desk)
    _tools(app)
    box.callbacks(app, desk)
    app.clientside_callback(
        "window.dash_clientside.explorer.full", Output(ids.GRAPH_DRAWN, "data"), Input(ids.FULL, "n_clicks")
    )


def _drawing(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(drawing.figure(ids.GRAPH), "data"),
        Output(ids.GRAPH_SAID, "children"),
        Output(ids.COUNTS, "children"),
        Output(ids.MARKS, "children"),
        Input(part("graph"), "data"),
        Input(ids.MEASURED, "data"),
        Input(ids.CHAIN_DONE, "data"),
        State(ids.URL, "search"),
        State(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def redraw(_part: str | None, measured: Any, found: Any, search: str | None, uploaded: str | None) -> Any:
        if ctx.triggered_id == ids.CHAIN_DONE and "set" not in (found or {}):
            return [no_update] * 4
        if ctx.triggered_id == ids.MEASURED and (measured or {}).get("said"):
            return [no_update] * 4
        try:
            view = View.parse(search)
            drawn = draw(desk, view)
            text = counted(drawn)
            return figure(desk, view, drawn, uploaded), hint(text), hint(text), legend(desk, view, drawn, uploaded)
        except NotMeasured:
            return no_update, hint("Measuring ..."), no_update, no_update
        except ExpressionError:  # the panel of the question says what is wrong
            return no_update, hint("The graph still shows the query before."), None, no_update
        except (NeuroChainsError, OSError) as error:
            return no_update, hint("The graph still shows the query before."), said(str(error)), no_update


def _selecting(app: Dash, desk: Desk) -> None:
    # drawing in space takes the browser long: the panel of the filter is filled before
    app.clientside_callback(
        "window.dash_clientside.explorer.later",
        Output(ids.SELECTED, "data"),
        Input(part("select"), "data"),
        State(part("graph"), "data"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(drawing.figure(ids.GRAPH), "data", allow_duplicate=True),
        Input(ids.SELECTED, "data"),
        State(ids.URL, "search"),
        State(ids.UPLOADED, "data"),
        prevent_initial_call=True,
    )
    def select(_part: str | None, search: str | None, uploaded: str | None) -> Any:
        view = View.parse(search)
        try:
            drawn = draw(desk, view)
            if view.graph == "2d":
                return figure(desk, view, drawn, uploaded)
            return selected_patch(desk, view, drawn, uploaded)
        except (NotMeasured, NeuroChainsError):
            return no_update

    @app.callback(
        Output(ids.URL, "search", allow_duplicate=True),
        Input(drawing.clicked(ids.GRAPH), "data"),
        State(ids.URL, "search"),
        prevent_initial_call=True,
    )
    def click(data: Any, search: str | None) -> Any:
        view = View.parse(search)
        try:
            return clicked(view, draw(desk, view), data).search()
        except (NotMeasured, NeuroChainsError):
            return no_update


def _tools(app: Dash) -> None:
    """Let the tools above the graph change the view."""
    names = (ids.GRAPH_KIND, ids.NODE_SIZE, ids.KERNEL_SIZE)
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    in_browser(app, "retool", url, *(Input(name, "value") for name in names), search)
