"""Figures of calculation paths: what each class uses of each layer, where images lie, and which classes are hard.

Plain tables in, so that a figure can be drawn from a saved result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BLUE,
    FAINT,
    HAIR,
    INK,
    LANE,
    MARGIN,
    PAGE,
    QUIET,
    SERIES,
    SMALL,
    ink_on,
    panel,
    score_colors,
    shorten,
    text_width,
    titled,
)

__all__ = ["class_distance_figure", "class_use_figure", "paths_figure", "plane_figure"]

Row = Mapping[str, ArrayLike]
_HEAD, _FOOT, _GAP = 34.0, 30.0, 4.0  # points
_NAMES, _TURN = 130.0, 40.0  # the longest name in points; degrees of names of layers
_ROW, _CELL, _FINEST = 11.0, 9.0, 1.4
_CLASS_MARKERS = ("o", "s", "^", "D")


def paths_figure(rows: Mapping[str, Row | None], *, title: str = "", width: float = PAGE) -> Figure:
    """Return a heatmap: a row for each class or group of images, a column for each filter, layer beside layer.

    White is a filter that the group never uses, full colour one that it always uses. Layers that do not fit beside each
    other go on below.

    Args:
        rows: by name, the frequency of each filter by layer, as `Paths.frequency` gives it; None for an empty group.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: all groups are empty, or they have other layers.
    """
    tables = {name: None if row is None else _table(row) for name, row in rows.items()}
    known = [table for table in tables.values() if table is not None]
    shapes = [{layer: len(values) for layer, values in table.items()} for table in known]
    if not shapes or any(shape != shapes[0] for shape in shapes):
        raise DataError("expected the frequencies of the same layers for each group, of one group at least")
    names = [shorten(name, SMALL, _NAMES) for name in rows]
    left = MARGIN + max(text_width(name, SMALL) for name in names) + 8
    lines, cell = _lines(shapes[0], width * 72 - left - MARGIN)
    head = _label_room(shapes[0], cell)
    tall = head + _ROW * len(rows) + 10
    made = titled(_HEAD + tall * len(lines) + _FOOT, title, width)
    for number, line in enumerate(lines):
        top, place = _HEAD + number * tall + head, left
        for layer in line:
            axes = panel(made, place, top, shapes[0][layer] * cell, _ROW * len(rows))
            _draw_layer(axes, [None if table is None else table[layer] for table in tables.values()])
            _name_layer(axes, layer, fits=head < 20)
            if layer == line[0]:
                axes.set_yticks(range(len(rows)), names, size=SMALL, color=INK)
            place += shapes[0][layer] * cell + _GAP
    _bar(made, left, made.get_figheight() * 72 - _FOOT + 10, "share of the images that use the filter", _blues())
    return made


def plane_figure(
    points: ArrayLike, labels: Sequence[int], names: Mapping[int, str], *, title: str = "", width: float = 7.0
) -> Figure:
    """Return the images as points in a plane, coloured by class (the paper's Fig. D).

    Args:
        points: ``(N, 2)``, as `Paths.plane` gives them.
        labels: one for each image.
        names: of all labels.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: the lengths differ, or there is no point.
    """
    places, classes = np.asarray(points, dtype=float), np.asarray(labels)
    if places.ndim != 2 or places.shape != (len(classes), 2) or not len(classes):
        raise DataError(f"expected points (N, 2) and N labels, got {places.shape} and {classes.shape}")
    present = sorted(set(classes.tolist()))
    room = max(text_width(shorten(names[label], SMALL, _NAMES), SMALL) for label in present) + 26
    side = width * 72 - 2 * MARGIN - room
    made = titled(_HEAD + side + MARGIN, title, width)
    axes = panel(made, MARGIN, _HEAD, side, side)
    axes.set(xticks=[], yticks=[])
    for number, label in enumerate(present):
        style: dict[str, Any] = _style(number)
        axes.plot(*places[classes == label].T, linestyle="none", markersize=4, mew=0, alpha=0.8, **style)
        height = made.get_figheight() * 72
        x, y = (MARGIN + side + 12) / (width * 72), 1 - (_HEAD + 6 + 12 * number) / height
        key = made.add_axes((x, y - 5 / height, 10 / (width * 72), 10 / height))
        key.set_axis_off()
        key.plot([0], [0], linestyle="none", markersize=4.5, mew=0, **style)
        text = shorten(names[label], SMALL, _NAMES)
        made.text(x + 14 / (width * 72), y, text, size=SMALL, color=INK, va="center_baseline")
    return made


def class_use_figure(rows: Sequence[Mapping[str, Any]], *, title: str = "", width: float = 7.0) -> Figure:
    """Return how many filters each class uses, mean and standard deviation, from the easiest class to the hardest.

    Args:
        rows: with ``name``, ``mean`` and ``sd``, such as the entries of `Paths.to_json`.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: there is no class.
    """
    if not rows:
        raise DataError("expected at least one class, got none")
    names = [shorten(str(row["name"]), SMALL, _NAMES) for row in rows]
    left = MARGIN + max(text_width(name, SMALL) for name in names) + 10
    made = titled(_HEAD + 13 * len(rows) + 40, title, width)
    axes = panel(made, left, _HEAD, width * 72 - left - 2 * MARGIN, 13.0 * len(rows))
    places, means = range(len(rows)), [row["mean"] for row in rows]
    axes.errorbar(means, places, xerr=[row["sd"] for row in rows], fmt="none", ecolor=FAINT, elinewidth=1.2)
    axes.plot(means, places, "o", color=BLUE, markersize=5)
    axes.set_yticks(places, names, size=SMALL, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlabel("filters that an image of the class uses, mean and standard deviation")
    axes.grid(axis="x", color=HAIR, linewidth=0.5)
    return made


def class_distance_figure(distances: ArrayLike, names: Sequence[str], *, title: str = "", width: float = 7.0) -> Figure:
    """Return the matrix of mean distances between the paths of classes; dark is near.

    Args:
        distances: ``(K, K)``, as `Paths.class_distances` gives them.
        names: one for each class.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: the shapes do not fit, or no distance is finite.
    """
    table, count = np.asarray(distances, dtype=float), len(names)
    if table.shape != (count, count) or not np.isfinite(table).any():
        raise DataError(f"expected finite distances (K, K) of K = {count} names, got {table.shape}")
    shown = [shorten(name, SMALL, _NAMES) for name in names]
    left = MARGIN + max(text_width(name, SMALL) for name in shown) + 10
    cell = min((width * 72 - left - MARGIN - 0.7 * text_width(shown[-1], SMALL)) / count, 40.0)
    above = max(text_width(name, SMALL) for name in shown) * np.sin(np.radians(_TURN)) + 14
    made = titled(_HEAD + above + cell * count + _FOOT + 6, title, width)
    axes = panel(made, left, _HEAD + above, cell * count, cell * count)
    low, high = float(np.nanmin(table)), float(np.nanmax(table))
    colors = score_colors().reversed()
    axes.imshow(table, cmap=colors, vmin=low, vmax=high if high > low else low + 1, aspect="auto")
    _bare(axes)
    axes.xaxis.tick_top()
    axes.set_xticks(range(count), shown, size=SMALL, color=INK, rotation=_TURN, ha="left", rotation_mode="anchor")
    axes.set_yticks(range(count), shown, size=SMALL, color=INK)
    for (row, column), value in np.ndenumerate(table if cell >= 18 else table[:0]):
        if np.isfinite(value):
            ink = ink_on(colors((value - low) / ((high - low) or 1.0))[:3])
            axes.text(column, row, f"{100 * value:.0f}", size=SMALL, color=ink, ha="center", va="center")
    made.text(
        left / (width * 72), 14 / (made.get_figheight() * 72), "% of the filters that differ", size=SMALL, color=QUIET
    )
    return made


def _table(row: Row) -> dict[str, NDArray[np.float64]]:
    return {layer: np.asarray(values, dtype=float) for layer, values in row.items()}


def _lines(filters: Mapping[str, int], room: float) -> tuple[list[list[str]], float]:
    """Return which layers stand beside each other, and the width of a filter in points."""
    total = sum(filters.values()) + _GAP * len(filters)
    cell = float(np.clip(room / total, _FINEST, _CELL))
    cell = min(cell, room / max(filters.values()))
    lines: list[list[str]] = [[]]
    used = 0.0
    for layer, count in filters.items():
        if lines[-1] and used + count * cell > room:
            lines.append([])
            used = 0.0
        lines[-1].append(layer)
        used += count * cell + _GAP
    return lines, cell


def _label_room(filters: Mapping[str, int], cell: float) -> float:
    """Return the points above a line of layers: little where all names fit, more where they are turned."""
    widths = {layer: text_width(shorten(layer, SMALL, _NAMES), SMALL) for layer in filters}
    if all(widths[layer] <= count * cell for layer, count in filters.items()):
        return 16.0
    return 16.0 + max(widths.values()) * float(np.sin(np.radians(_TURN)))


def _name_layer(axes: Axes, layer: str, *, fits: bool) -> None:
    turned = {} if fits else {"rotation": _TURN, "rotation_mode": "anchor"}
    text = shorten(layer, SMALL, _NAMES)
    axes.annotate(text, (0, 1), (1, 4), xycoords="axes fraction", textcoords="offset points", size=SMALL, **turned)


def _draw_layer(axes: Axes, rows: Sequence[NDArray[np.float64] | None]) -> None:
    filters = next(len(row) for row in rows if row is not None)
    table = np.stack([np.full(filters, np.nan) if row is None else row for row in rows])
    axes.set_facecolor(LANE)  # shows where a group is empty
    axes.imshow(table, cmap=_blues(), vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    _bare(axes)
    axes.set(xticks=[], yticks=[])
    axes.hlines(np.arange(len(rows) - 1) + 0.5, -0.5, filters - 0.5, color="white", linewidth=0.8)


def _blues() -> Colormap:
    return LinearSegmentedColormap.from_list("use", ["#ffffff", BLUE, "#00304d"])


def _style(number: int) -> dict[str, Any]:
    marker = _CLASS_MARKERS[number // len(SERIES) % len(_CLASS_MARKERS)]
    return {"color": SERIES[number % len(SERIES)], "marker": marker}


def _bare(axes: Axes) -> None:
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(HAIR)


def _bar(made: Figure, left: float, top: float, label: str, colors: Colormap) -> None:
    """Draw the colours from 0 to 1 with what they mean."""
    axes = panel(made, left + 14, top, 90, 7)
    axes.imshow(np.linspace(0, 1, 64)[None], cmap=colors, aspect="auto")
    _bare(axes)
    axes.set(xticks=[], yticks=[])
    for x, side, text in ((-0.04, "right", "0"), (1.04, "left", f"1   {label}")):
        axes.text(x, 0.4, text, transform=axes.transAxes, size=SMALL, color=QUIET, ha=side, va="center")
