"""Figures of circuits: how well each method does at each size, the target seen again in its circuit, and the circuit.

Shapes: O filters and I inputs per group of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from neurochains.circuits import Circuit, KeptKernel
from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BLUE,
    BODY,
    FAINT,
    HAIR,
    INK,
    MARGIN,
    PAGE,
    QUIET,
    SERIES,
    SMALL,
    calm,
    canvas_axes,
    colormap,
    figure,
    text_width,
    title_line,
)
from neurochains.pictures.tiles import Picture, empty_tile, tile

__all__ = ["CircuitPicture", "circuit_figure", "correlation_figure", "revisualisation_figure"]

MOST_EDGES = 1200
NARROW = 34.0  # points for a column, below which its label is turned
RED = "#b2182b"
DASHES = ("-", "--", ":")
Points = Sequence[tuple[float, float]]
"""Fraction of the kernels kept and correlation."""


@dataclass(frozen=True, slots=True)
class CircuitPicture:
    """What a target answers to in a circuit, and how strongly."""

    picture: Picture | None  # None: total collapse, nothing to see
    reached: float | None = None
    correlation: float | None = None


def correlation_figure(curves: Mapping[str, Points], *, title: str = "", width: float = PAGE * 0.7) -> Figure:
    """Return correlation against the fraction of kernels kept, one curve for each method.

    Args:
        curves: by method, points of fraction and correlation; the first stands out. Points that are not a number (total
            collapse) are left out.
        title: such as "L4B1C2_48, on 64 unseen images".
        width: in inches.

    Raises:
        DataError: there is no curve with a point.
    """
    known = {name: sorted(point for point in points if np.isfinite(point[1])) for name, points in curves.items()}
    if not any(known.values()):
        raise DataError(f"expected at least one curve with a point, got {list(curves)}")
    legend = max(text_width(name, BODY) for name in known) + 44
    made = figure(width * 0.55, width=width)
    points_wide, points_high = made.get_size_inches() * 72
    box = (46 / points_wide, 36 / points_high, 1 - (60 + legend) / points_wide, 1 - 72 / points_high)
    axes = calm(made.add_axes(box), grid="y")
    for place, (name, points) in enumerate(known.items()):
        _curve(axes, name, points, place)
    _fraction_axis(axes, sorted({fraction for points in known.values() for fraction, _ in points}))
    axes.set_ylabel("correlation with the original map", size=BODY, color=INK)
    axes.legend(frameon=False, fontsize=BODY, loc="center left", bbox_to_anchor=(1.02, 0.5), labelcolor=INK)
    made.text(MARGIN / points_wide, 1 - 18 / points_high, title, size=BODY + 1.5, weight="bold", color=INK)
    return made


def _curve(axes: Axes, name: str, points: Points, place: int) -> None:
    style = DASHES[place // len(SERIES) % len(DASHES)]
    axes.plot(
        [fraction for fraction, _ in points],
        [correlation for _, correlation in points],
        color=SERIES[place % len(SERIES)],
        linestyle=style,
        linewidth=2.4 if place == 0 else 1.2,
        marker="o",
        markersize=4 if place == 0 else 2.6,
        label=name,
        zorder=3 if place == 0 else 2,
    )


def _fraction_axis(axes: Axes, fractions: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(fractions, minor=False)
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0 if min(fractions) >= 0.01 else 1))
    axes.set_xlabel("kernels kept, of those that lead to the target", size=BODY, color=INK)
    axes.axhline(0, color=FAINT, linewidth=0.6)


def revisualisation_figure(
    original: CircuitPicture,
    rows: Mapping[str, Mapping[float, CircuitPicture]],
    *,
    title: str = "",
    width: float = PAGE,
) -> Figure:
    """Return what a target answers to in the whole network, and in circuits by method (rows) and size (columns).

    Args:
        original: in the whole network.
        rows: by method, by fraction of kernels kept.
        title: such as "L4B1C2_48 seen again in its circuits".
        width: in inches.

    Raises:
        DataError: there is no row, or the rows have different sizes.
    """
    sizes = list(next(iter(rows.values()), {}))
    if not sizes or any(list(row) != sizes for row in rows.values()):
        raise DataError(f"expected rows of the same sizes, got {[list(row) for row in rows.values()]}")
    words = max(text_width(name, BODY) for name in rows) + 2 * MARGIN
    side = min(110.0, (width * 72 - words - 4 * MARGIN) / (len(sizes) + 1) - 8)
    pitch, head = side + 26, 46.0
    made = figure((head + len(rows) * pitch + 6) / 72, width=width)
    axes = canvas_axes(made)
    title_line(axes, title)
    axes.text(MARGIN, head - 8, "whole network", size=BODY, color=QUIET)
    _captioned(axes, original, MARGIN, head, side)
    left = MARGIN + side + 2 * MARGIN + words
    for column, size in enumerate(sizes):
        place = left + column * (side + 8)
        axes.text(place + side / 2, head - 8, f"{size:.0%} of the kernels", size=BODY, color=QUIET, ha="center")
    for line, (name, row) in enumerate(rows.items()):
        top = head + line * pitch
        axes.text(left - MARGIN, top + side / 2, name, size=BODY, color=INK, ha="right", va="center")
        for column, size in enumerate(sizes):
            _captioned(axes, row[size], left + column * (side + 8), top, side)
    return made


def _captioned(axes: Axes, shown: CircuitPicture, x: float, y: float, side: float) -> None:
    if shown.picture is None:
        empty_tile(axes, "total collapse", x, y, side, side)
        return
    tile(axes, shown.picture, x, y, side, side)
    parts = [] if shown.reached is None else [f"reaches {shown.reached:.2g}"]
    parts += [] if shown.correlation is None else [f"r {shown.correlation:.2f}"]
    axes.text(x + side / 2, y + side + 10, ", ".join(parts), size=SMALL, color=QUIET, ha="center")


def circuit_figure(circuit: Circuit, *, title: str = "", most: int = MOST_EDGES, width: float = PAGE) -> Figure:
    """Return a circuit drawn flat: a column for each layer, a dot for each kept filter, a line for each kernel.

    Blue kernels inhibit (their weights sum to less than 0), red ones excite; lines are the thicker the larger the
    weights times the score. In a column the filters stand near what they read.

    Args:
        circuit: what is drawn.
        title: by default the target and the size.
        most: lines to draw at most, the strongest; the figure says how many that is.
        width: in inches.
    """
    drawn = _Drawing(circuit)
    made = figure(4.6, width=width)
    axes = canvas_axes(made)
    title_line(axes, title or f"{circuit.target}: {circuit.size:,} kernels")
    drawn.place(width * 72, 4.6 * 72)
    shown = drawn.draw_edges(axes, most)
    drawn.draw_nodes(axes)
    note = f"{shown:,} of {drawn.lines:,} lines are drawn, the strongest" if shown < drawn.lines else ""
    axes.text(width * 72 - MARGIN, 18, note, size=SMALL, color=QUIET, ha="right")
    _balance_legend(axes, width * 72)
    return made


def _balance_legend(axes: Axes, right: float) -> None:
    y = 4.6 * 72 - 8
    axes.text(right - MARGIN, y, "excites", size=SMALL, color=RED, ha="right")
    axes.text(right - MARGIN - text_width("excites", SMALL) - 8, y, "inhibits", size=SMALL, color=BLUE, ha="right")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line between two filters: what its kernel does, -1 to 1, and how strongly."""

    source: str
    target: str
    balance: float
    strength: float


class _Drawing:
    """Where everything of one circuit goes."""

    def __init__(self, circuit: Circuit) -> None:
        self._circuit = circuit
        self._weights = {n: circuit.network.kernels(n).weight.detach().double().cpu() for n in circuit.scores}
        kernels = circuit.edges()
        self._edges = [_Line(str(s), str(k.filter), *self._strength(k)) for k in kernels for s in k.sources]
        self.lines = len(self._edges)
        channels = sorted({line.source for line in self._edges if line.source.startswith("input[")})
        self._columns = {"input": channels} if channels else {}
        self._columns |= {n: [f"{n}[{int(i)}]" for i in kept] for n, kept in circuit.filters.items()}
        self._spots: dict[str, tuple[float, float]] = {}

    def place(self, width: float, height: float) -> None:
        """Give every filter a spot: columns left to right, in each by the mean height of what a filter reads."""
        inputs: dict[str, list[str]] = {}
        for line in self._edges:
            inputs.setdefault(line.target, []).append(line.source)
        gap = (width - 2 * MARGIN - 30) / max(1, len(self._columns) - 1)
        for column, nodes in enumerate(self._columns.values()):
            read = {node: [self._spots[source][1] for source in inputs.get(node, ())] for node in nodes}
            ordered = sorted(nodes, key=lambda node: float(np.mean(read[node] or [0.0])))
            step = (height - 100) / len(ordered)
            for place, node in enumerate(ordered):
                self._spots[node] = (MARGIN + 15 + column * gap, 40 + step * (place + 0.5))

    def draw_edges(self, axes: Axes, most: int) -> int:
        """Draw the strongest lines; return how many."""
        chosen = sorted(self._edges, key=lambda line: line.strength)[-most:]
        strongest = chosen[-1].strength or 1.0
        colors = colormap("RdBu_r")
        ends = [(self._spots[line.source], self._spots[line.target]) for line in chosen]
        shades = [colors(0.5 + 0.5 * line.balance) for line in chosen]
        widths = [0.15 + 1.6 * line.strength / strongest for line in chosen]
        axes.add_collection(LineCollection(ends, colors=shades, linewidths=widths, alpha=0.75), autolim=False)
        return len(chosen)

    def draw_nodes(self, axes: Axes) -> None:
        """Draw the filters and, under each column, the layer's label and the number of its filters."""
        labels = {layer.name: layer.label for layer in self._circuit.network.layers}
        bottom = max(y for _, y in self._spots.values()) + 12
        narrow = axes.get_xlim()[1] / len(self._columns) < NARROW
        for name, nodes in self._columns.items():
            x = self._spots[nodes[0]][0]
            axes.plot([x] * len(nodes), [self._spots[n][1] for n in nodes], "o", markersize=2.4, color=INK, mew=0)
            axes.plot([x, x], [36, bottom - 4], color=HAIR, linewidth=0.5, zorder=0)
            text = f"{labels.get(name, name)}{' · ' if narrow else chr(10)}{len(nodes)}"
            size, turn = (SMALL - 2, 90) if narrow else (SMALL, 0)
            axes.text(x, bottom, text, size=size, color=QUIET, ha="center", va="top", rotation=turn)

    def _strength(self, kernel: KeptKernel) -> tuple[float, float]:
        """Return the balance of a kernel's weights, -1 to 1, and how strong it is."""
        weight = self._weights[kernel.filter.layer][kernel.filter.index, kernel.column]
        size = float(weight.abs().sum())
        return (float(weight.sum()) / size if size else 0.0, size * kernel.score)
