"""The explorer's figure of a circuit in the plane: columns by layer, filters as pictures, kernels on the lines.

Lines are shapes of the layout, so that each has a width and a colour of its own; two traces take the clicks: filters
and kernels.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from neurochains.pictures.explorer_figures import INK, MARKS
from neurochains.pictures.explorer_view import CircuitView

__all__ = ["circuit_plan_figure"]

Figure = dict[str, Any]
_INHIBITS, _EXCITES, _EVEN = "#2166ac", "#c0322b", "#9a9a9a"
_SELECTED, _OFF = "#e8590c", "#ae3ec9"
_FAINT = 0.07
_TALL = 410  # points that the marks of a column share: theirs and those of the labels between them
_SIDE, _KERNEL = 0.78, 0.22


def circuit_plan_figure(
    view: CircuitView,
    *,
    selected: int = -1,
    off: Collection[int] = (),
    marked: Sequence[Collection[int]] = (),
    scale: float = 1.0,
    width: float = 1.0,
) -> Figure:
    """Return a circuit in the plane.

    Args:
        view: what to draw.
        selected: the number of a node; what is no neighbour of it fades. -1 for none.
        off: nodes that are switched off.
        marked: groups of nodes, such as those of a chain, outlined in the colours of `MARKS`; all others fade.
        scale: of the filters' pictures, times what is usual.
        width: of the kernels, and of their pictures, likewise.
    """
    places = _places(view)
    near = _near(view, selected)
    side = min(1.2, _SIDE * scale)
    images = [
        _image(view.thumbnails[node], places[node], side, _strength(node, near, off, marked))
        for node in view.nodes
        if node in view.thumbnails
    ]
    images += [
        _image(view.kernels[edge], _middle(view, places, edge), _KERNEL * width, 1.0)
        for edge in view.edges
        if edge in view.kernels and _lit(view, edge, near, selected)
    ]
    shapes = [_line(view, places, edge, width, lit=_lit(view, edge, near, selected)) for edge in view.edges]
    data = [_nodes(view, places, selected, off, marked), _kernels(view, places)]
    return {"data": data, "layout": {**_layout(view, places), "images": images, "shapes": shapes}}


def _places(view: CircuitView) -> dict[int, tuple[float, float]]:
    """Return where each node is: its column, and in it from the strongest down, centred."""
    columns = sorted({int(view.network.column[node]) for node in view.nodes})
    places: dict[int, tuple[float, float]] = {}
    for x, column in enumerate(columns):
        inside = [node for node in view.nodes if view.network.column[node] == column]
        inside.sort(key=lambda node: -float(view.network.relative[node]))
        for row, node in enumerate(inside):
            places[node] = (1.6 * x, (len(inside) - 1) / 2 - row)
    return places


def _near(view: CircuitView, selected: int) -> set[int]:
    """Return the selected node and its neighbours; all where none is selected, or none of its kernels is drawn."""
    pairs = [tuple(view.network.edges[edge].tolist()) for edge in view.edges]
    touching = {node for pair in pairs if selected in pair for node in pair}
    return touching or set(view.nodes)


def _lit(view: CircuitView, edge: int, near: Collection[int], selected: int) -> bool:
    ends = view.network.edges[edge].tolist()
    return selected in ends or len(near) == len(view.nodes)


def _image(source: str, place: tuple[float, float], side: float, opacity: float) -> Figure:
    where = {"x": place[0], "y": place[1], "sizex": side, "sizey": side, "xanchor": "center", "yanchor": "middle"}
    return {"source": source, "xref": "x", "yref": "y", **where, "opacity": opacity, "layer": "above"}


def _line(
    view: CircuitView, places: Mapping[int, tuple[float, float]], edge: int, width: float, *, lit: bool
) -> Figure:
    (x0, y0), (x1, y1) = (places[node] for node in view.network.edges[edge].tolist())
    tone = float(view.network.balance[edge])
    colour = _EVEN if abs(tone) < 0.1 else (_EXCITES if tone > 0 else _INHIBITS)
    line = {"color": colour, "width": width * (0.6 + 3.4 * float(view.network.strength[edge]))}
    shape = {"type": "line", "x0": x0, "y0": y0, "x1": x1, "y1": y1, "layer": "below"}
    return {**shape, "line": line, "opacity": 0.75 if lit else _FAINT}


def _middle(view: CircuitView, places: Mapping[int, tuple[float, float]], edge: int) -> tuple[float, float]:
    """Return where the kernel of an edge is drawn: three fifths of the way, where lines have parted."""
    (x0, y0), (x1, y1) = (places[node] for node in view.network.edges[edge].tolist())
    return x0 + 0.62 * (x1 - x0), y0 + 0.62 * (y1 - y0)


def _strength(node: int, near: Collection[int], off: Collection[int], marked: Sequence[Collection[int]]) -> float:
    """Return the opacity of a filter's picture: so little where it is off that the cross below it is seen."""
    return 0.15 if node in off else 1.0 if node in near and _in(node, marked) else 0.25


def _in(node: int, marked: Sequence[Collection[int]]) -> bool:
    return not marked or any(node in group for group in marked)


def _nodes(
    view: CircuitView,
    places: Mapping[int, tuple[float, float]],
    selected: int,
    off: Collection[int],
    marked: Sequence[Collection[int]],
) -> Figure:
    colours = {node: MARKS[place] for place, group in enumerate(marked) for node in group}
    colours |= dict.fromkeys(off, _OFF) | {selected: _SELECTED}
    lines = [colours.get(node, "rgba(0,0,0,0)") for node in view.nodes]
    rows = 1 + max((abs(y) for _, y in places.values()), default=0.0) * 2
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "filters",
        "x": [places[node][0] for node in view.nodes],
        "y": [places[node][1] for node in view.nodes],
        "text": [view.network.labels[node] for node in view.nodes],
        "textposition": "bottom center",
        "textfont": {"size": 9, "color": INK},
        "customdata": list(view.nodes),
        "hovertext": [f"{view.network.labels[n]}: {view.network.scores[n]:.4g}" for n in view.nodes],
        "hoverinfo": "text",
        "marker": {
            "symbol": ["x-open" if node in off else "square-open" for node in view.nodes],
            "size": [34 if node in colours else min(34, _TALL / rows) for node in view.nodes],
            "color": lines,
            "line": {"width": 3, "color": lines},
        },
        "showlegend": False,
    }


def _kernels(view: CircuitView, places: Mapping[int, tuple[float, float]]) -> Figure:
    middles = [_middle(view, places, edge) for edge in view.edges]
    labels = view.network.labels
    ends = [tuple(view.network.edges[edge].tolist()) for edge in view.edges]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "kernels",
        "x": [x for x, _ in middles],
        "y": [y for _, y in middles],
        "customdata": [-1 - edge for edge in view.edges],
        "hovertext": [f"kernel {labels[source]} to {labels[target]}" for source, target in ends],
        "hoverinfo": "text",
        "marker": {"size": 9, "color": "rgba(0,0,0,0.01)"},
        "showlegend": False,
    }


def _layout(view: CircuitView, places: Mapping[int, tuple[float, float]]) -> Figure:
    columns = sorted({int(view.network.column[node]) for node in view.nodes})
    tall = max([abs(y) for _, y in places.values()], default=1.0) + 0.9
    axis = {"showgrid": False, "zeroline": False, "color": INK}
    return {
        "uirevision": "plan",
        "margin": {"l": 4, "r": 4, "t": 26, "b": 4},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 11},
        "xaxis": {
            **axis,
            "side": "top",
            "tickvals": [1.6 * x for x in range(len(columns))],
            "ticktext": [view.network.layers[column] for column in columns],
            "range": [-0.8, 1.6 * (len(columns) - 1) + 0.8],
        },
        "yaxis": {**axis, "visible": False, "range": [-tall, tall]},
        "dragmode": "pan",
        "hovermode": "closest",
    }
