"""The explorer's figure of a whole network in space: layers along x, filters as points, kernels as lines.

Figures are plain dicts of plotly's, so that neither drawing nor testing them needs it. Whatever the size of the
network, there are at most six traces: filters to be seen and the rest, two widths of kernels, two kinds of arcs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.pictures.explorer_view import NetworkView, typed

__all__ = ["BALANCE", "INK", "MARKS", "network_figure", "node_groups", "node_symbols", "pointers"]

Figure = dict[str, Any]
Array = NDArray[Any]

INK = "#868e96"  # readable on white and on black
BALANCE = [[0.0, "#2166ac"], [0.5, "#9a9a9a"], [1.0, "#c0322b"]]
_SCORES = [[0.0, "#b8bfc6"], [0.08, "#7db8a6"], [0.4, "#2f8f83"], [1.0, "#e8590c"]]
MARKS = ("#e8590c", "#2f8f83", "#7048e8")
_MARKED = [[0.0, "#ced4da"], *([place / len(MARKS), colour] for place, colour in enumerate(MARKS, 1))]
_BAR = {
    "title": {"text": "filters: share of the layer's largest score", "font": {"size": 11}, "side": "top"},
    "orientation": "h",
    "thickness": 8,
    "len": 0.5,
    "x": 0.01,
    "xanchor": "left",
    "y": 0.0,
    "yanchor": "bottom",
    "tickfont": {"size": 10},
}
_WIDTHS = (1.2, 4.0)
_BOUNDS = (0.0, 0.4, 1.01)
_STEP = 1.0
_POINTER, _OFF, _SYMBOLS = "#d9480f", "x", ("circle", "square")
_SMALL = 2.0


def network_figure(
    view: NetworkView,
    *,
    selected: int = -1,
    off: Collection[int] = (),
    marked: Sequence[Collection[int]] = (),
    scale: float = 1.0,
    width: float = 1.0,
) -> Figure:
    """Return the network in space.

    Args:
        view: what to draw.
        selected: the number of the selected node; -1 for none.
        off: nodes that are switched off.
        marked: up to three groups of nodes, such as those of a chain, in the colours of `MARKS`; all others fade.
        scale: of the points' size.
        width: of the kernels, times what is usual.
    """
    where = np.column_stack([view.column * _STEP, view.places])
    kernels = [_kernels(view, where, part, width) for part in range(len(_WIDTHS))]
    arcs = [_arcs(view, blocks=blocks) for blocks in (False, True)]
    data = [*_nodes(view, where, off, marked, scale), *kernels, *(arc for arc in arcs if arc is not None)]
    return {"data": data, "layout": _layout(view, selected)}


def node_groups(view: NetworkView, marked: Sequence[Collection[int]] = ()) -> list[Array]:
    """Return the numbers of the nodes of each trace of filters: those to be seen, and where there are any, the rest.

    The rest, which a large network has most of, are small, all alike, and so drawn in a fraction of the time.
    """
    seen = view.shown.copy()
    for group in marked:
        seen[list(group)] = True
    groups = [np.flatnonzero(seen), np.flatnonzero(~seen)]
    return groups if len(groups[1]) else groups[:1]


def node_symbols(group: Array, place: int, off: Collection[int] = ()) -> str | list[str]:
    """Return the symbol of each node of a trace of filters, the first or second; one where none is switched off."""
    usual = _SYMBOLS[place]
    if not off:
        return usual
    return [_OFF if node in off else usual for node in group.tolist()]


def pointers(view: NetworkView, selected: int) -> list[Figure]:
    """Return the arrow to the selected node with its name: what changes when another filter is selected."""
    if not 0 <= selected < len(view.labels):
        return []
    y, z = (float(value) for value in view.places[selected])
    arrow = {"showarrow": True, "arrowhead": 2, "arrowwidth": 2, "arrowcolor": _POINTER, "ax": 22, "ay": -46}
    look = {"font": {"color": _POINTER, "size": 13}, "bgcolor": "rgba(255,255,255,0.85)", "bordercolor": _POINTER}
    place = {"x": float(view.column[selected]) * _STEP, "y": y, "z": z}
    return [{**place, "text": escape(view.labels[selected]), "borderpad": 2, **arrow, **look}]


def _nodes(
    view: NetworkView, where: Array, off: Collection[int], marked: Sequence[Collection[int]], scale: float
) -> list[Figure]:
    """Return the filters: those to be seen by score or mark, and the rest as grey points."""
    tone = np.where(view.shown, np.maximum(view.relative, 0.08), 0.0)
    if marked:
        tone = np.zeros(len(view.labels))
        for place, nodes in enumerate(marked, 1):
            tone[list(nodes)] = place / len(MARKS)
    sizes = np.round(np.where(view.shown, 4 + 10 * np.sqrt(view.relative), _SMALL) * scale, 1)
    groups = node_groups(view, marked)
    seen, rest = groups[0], groups[1:]
    look = {
        "size": typed(sizes[seen]),
        "color": typed(tone[seen]),
        "cmin": 0,
        "cmax": 1,
        "colorscale": _MARKED if marked else _SCORES,
        "showscale": not marked,
        "colorbar": _BAR,
    }
    plain = {"size": round(_SMALL * scale, 1), "color": (_MARKED if marked else _SCORES)[0][1]}
    made = [_points(view, where, seen, 0, off, look)]
    return [*made, *(_points(view, where, nodes, 1, off, plain) for nodes in rest)]


def _points(
    view: NetworkView, where: Array, nodes: Array, place: int, off: Collection[int], look: dict[str, Any]
) -> Figure:
    return {
        "type": "scatter3d",
        "mode": "markers",
        "name": ("filters", "other filters")[place],
        **dict(zip("xyz", map(typed, where[nodes].T))),
        "customdata": typed(nodes, "i4"),
        "hovertext": [_said(view.labels[node], float(view.scores[node])) for node in map(int, nodes)],
        "hoverinfo": "text",
        "marker": {**look, "symbol": node_symbols(nodes, place, off), "opacity": 0.9, "line": {"width": 0}},
        "showlegend": False,
    }


def _said(label: str, score: float) -> str:
    return label if np.isnan(score) else f"{label}: {score:.4g}"


def _kernels(view: NetworkView, where: Array, part: int, width: float) -> Figure:
    """Return the kernels of one width: source, target and a gap for each."""
    chosen = (view.strength >= _BOUNDS[part]) & (view.strength < _BOUNDS[part + 1])
    edges = view.edges[chosen]
    points = np.full((len(edges), 3, 3), np.nan, np.float32)
    points[:, 0], points[:, 1] = where[edges[:, 0]], where[edges[:, 1]]
    x, y, z = points.reshape(-1, 3).T
    return {
        "type": "scatter3d",
        "mode": "lines",
        "name": ("weak", "strong")[part] + " kernels",
        **dict(zip("xyz", map(typed, (x, y, z)))),
        "line": {
            "width": _WIDTHS[part] * width,
            "color": typed(np.repeat(view.balance[chosen], 3)),
            "cmin": -1,
            "cmax": 1,
            "colorscale": BALANCE,
        },
        "opacity": (0.4, 0.85)[part],
        "hoverinfo": "skip",
        "showlegend": True,
    }


def _arcs(view: NetworkView, *, blocks: bool) -> Figure | None:
    """Return the arcs below the layers: residual streams, or the blocks that can be skipped."""
    chosen = [arc for arc in view.arcs if bool(arc.block) == blocks]
    if not chosen:
        return None
    turn = np.linspace(0, np.pi, 9)
    rows, said = [], []
    for arc in chosen:
        x = arc.start + (arc.end - arc.start) * (1 - np.cos(turn)) / 2
        depth = -1.15 - np.sin(turn) * (0.15 if blocks else 0.4)
        rows.append(np.column_stack([x * _STEP, np.zeros_like(x), depth]))
        rows.append(np.full((1, 3), np.nan))
        said += [f"{view.layers[arc.start]} to {view.layers[arc.end]}: {arc.said}"] * (len(turn) + 1)
    x, y, z = np.concatenate(rows).T
    return {
        "type": "scatter3d",
        "mode": "lines",
        "name": "blocks that can be skipped" if blocks else "residual streams",
        **dict(zip("xyz", map(typed, (x, y, z)))),
        "line": {"width": 3, "color": INK, "dash": "dot" if blocks else "solid"},
        "hovertext": said,
        "hoverinfo": "text",
        "showlegend": True,
        "visible": "legendonly" if blocks else True,
    }


def _layout(view: NetworkView, selected: int) -> Figure:
    columns = len(view.layers)
    every = max(1, columns // 18)
    hidden = {"visible": False, "showspikes": False, "range": [-1.7 if view.arcs else -1.2, 1.2]}
    ticks = list(range(0, columns, every))
    return {
        "uirevision": "camera",
        "margin": {"l": 0, "r": 0, "t": 0, "b": 0},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 12},
        "legend": {"x": 0, "y": 1, "font": {"size": 11}, "bgcolor": "rgba(0,0,0,0)", "itemsizing": "constant"},
        "scene": {
            "xaxis": {
                "title": {"text": ""},
                "tickvals": [tick * _STEP for tick in ticks],
                "ticktext": [view.layers[tick] for tick in ticks],
                "showgrid": False,
                "showbackground": False,
                "showspikes": False,
                "zeroline": False,
                "color": INK,
                "range": [-0.4, columns - 0.6],
            },
            "yaxis": {**hidden, "range": [-1.2, 1.2]},
            "zaxis": hidden,
            "annotations": pointers(view, selected),
            "aspectmode": "manual",
            "aspectratio": {"x": min(2.6, 1.2 + 0.1 * columns), "y": 0.9, "z": 1.0},
            "camera": {"eye": {"x": -0.9, "y": -3.0, "z": 0.9}, "center": {"x": 0.05, "y": 0, "z": -0.12}},
        },
        "hoverlabel": {"font": {"size": 12}},
    }
