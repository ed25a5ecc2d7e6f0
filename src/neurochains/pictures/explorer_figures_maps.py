"""The explorer's figures of numbers in a grid and of predictions: a filter's map, a kernel, bars of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.pictures.explorer_figures import INK
from neurochains.pictures.explorer_view import typed

__all__ = ["kernel_figure", "map_figure", "predictions_figure"]

Figure = dict[str, Any]
Array = NDArray[Any]

_DIVERGING = [[0.0, "#2166ac"], [0.5, "#f7f7f7"], [1.0, "#b2182b"]]
_SERIES = ("#2f8f83", "#e8590c", "#7048e8", "#868e96")
_LONGEST = 22
_CLEAR = {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": INK, "size": 11}}


def map_figure(values: Array, *, relu: bool = False, cell: tuple[int, int] | None = None) -> Figure:
    """Return a map ``(h, w)`` with 0 in the middle of its colours.

    Args:
        values: before the activation.
        relu: show what the activation lets through.
        cell: a position (row, column) to mark.
    """
    shown = np.maximum(values, 0) if relu else np.asarray(values)
    largest = float(np.abs(values).max(initial=0)) or 1.0
    layout = {**_grid(shown.shape), "uirevision": "map"}
    if cell is not None and cell[0] < shown.shape[0] and cell[1] < shown.shape[1]:
        row, column = cell
        box = {"x0": column - 0.5, "x1": column + 0.5, "y0": row - 0.5, "y1": row + 0.5}
        layout["shapes"] = [{"type": "rect", **box, "line": {"color": "#e8590c", "width": 2}}]
    heat = {
        "type": "heatmap",
        "z": typed(np.round(shown, 4)),
        "zmin": -largest,
        "zmax": largest,
        "colorscale": _DIVERGING,
        "hovertemplate": "row %{y}, column %{x}: %{z:.4g}<extra></extra>",
        "colorbar": {"thickness": 8, "tickfont": {"size": 10}, "outlinewidth": 0},
    }
    return {"data": [heat], "layout": layout}


def kernel_figure(values: Array) -> Figure:
    """Return a kernel ``(h, w)`` with its weights written in it."""
    table = np.atleast_2d(np.asarray(values, np.float64))
    largest = float(np.abs(table).max(initial=0)) or 1.0
    written = [[f"{value:.3g}" for value in row] for row in table.tolist()]
    heat = {
        "type": "heatmap",
        "z": table.round(6).tolist(),
        "zmin": -largest,
        "zmax": largest,
        "colorscale": _DIVERGING,
        "text": written if table.size <= 49 else None,
        "texttemplate": "%{text}" if table.size <= 49 else "",
        "textfont": {"size": 11},
        "hovertemplate": "row %{y}, column %{x}: %{z:.4g}<extra></extra>",
        "showscale": table.size > 49,
    }
    return {"data": [heat], "layout": _grid(table.shape)}


def predictions_figure(
    names: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], *, right: int | None = None
) -> Figure:
    """Return the probabilities of some outputs as bars, side by side for each network.

    Args:
        names: of the outputs, free text.
        series: what each bar is of, such as ``"original"``, and its probabilities.
        right: the place of the image's own label among them.
    """
    shown = [escape(_short(name)) for name in names]
    if right is not None and 0 <= right < len(shown):
        shown[right] = f"<b>{shown[right]}</b>"
    data = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escape(said),
            "x": [round(float(value), 5) for value in values],
            "y": list(range(len(names))),
            "marker": {"color": _SERIES[place % len(_SERIES)]},
            "hovertemplate": "%{x:.2%}<extra>" + escape(said) + "</extra>",
        }
        for place, (said, values) in enumerate(series)
    ]
    layout = {
        **_CLEAR,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 26},
        "barmode": "group",
        "bargap": 0.3,
        "xaxis": {"range": [0, 1], "tickformat": ".0%", "gridcolor": "#8883", "zeroline": False},
        "yaxis": {
            "tickvals": list(range(len(names))),
            "ticktext": shown,
            "autorange": "reversed",
            "automargin": True,
        },
        "legend": {"orientation": "h", "y": -0.2, "x": 0, "font": {"size": 10}},
        "showlegend": len(series) > 1,
    }
    return {"data": data, "layout": layout}


def _short(name: str) -> str:
    first = name.split(",")[0]
    return first if len(first) <= _LONGEST else f"{first[: _LONGEST - 1]}..."


def _grid(shape: tuple[int, ...]) -> Figure:
    """Return the layout of a table of numbers: square cells, the first row on top."""
    bare = {"showgrid": False, "zeroline": False, "showticklabels": False, "ticks": "", "constrain": "domain"}
    return {
        **_CLEAR,
        "margin": {"l": 2, "r": 2, "t": 4, "b": 4},
        "xaxis": {**bare, "range": [-0.5, shape[1] - 0.5]},
        "yaxis": {**bare, "range": [shape[0] - 0.5, -0.5], "scaleanchor": "x"},
    }
