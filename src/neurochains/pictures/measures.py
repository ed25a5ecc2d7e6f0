"""Figures of what was measured: a chain beside its controls, image by image, filter by filter, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BLUE,
    BODY,
    FAINT,
    INK,
    PAGE,
    QUIET,
    SERIES,
    SMALL,
    panel,
    shorten,
    text_width,
    titled,
)

__all__ = ["Measure", "controls_figure", "drop_figure", "parting_figure", "per_image_figure"]

LINE = 17.0  # points of one line of a point plot
FLOOR = 1e-6  # least value shown on a logarithmic axis
CONTROL = "#b5bac0"  # everything that is not the chain
HEAD, FOOT = 40.0, 34.0


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure of merit of a chain and its controls."""

    name: str  # such as "mean KL, lower is better"
    values: Mapping[str, float]  # "chain", "random", ...: the order is that of the lines
    log: bool = False
    percent: bool = False


def controls_figure(measures: Sequence[Measure], *, title: str = "", width: float = PAGE) -> Figure:
    """Return a point plot for each measure, side by side, one line for the chain and for each control.

    The first line is the chain and stands out. Values that are not finite are written, not drawn.

    Raises:
        DataError: there is no measure, or the measures are not of the same networks.
    """
    if not measures or not measures[0].values or any(list(m.values) != list(measures[0].values) for m in measures):
        raise DataError(f"expected measures of the same networks, got {[list(m.values) for m in measures]}")
    names = list(measures[0].values)
    height = HEAD + LINE * len(names) + FOOT
    made, left = titled(height, title, width), 20 + max(min(text_width(name, BODY), 150.0) for name in names)
    room = (width * 72 - left - 14) / len(measures)
    for i, measure in enumerate(measures):
        axes = panel(made, left + i * room + 6, HEAD, room - 60, LINE * len(names), grid="x")
        _draw_points(axes, measure)
        axes.set_title(shorten(measure.name, BODY, room - 8), size=BODY, color=INK, loc="left", pad=4)
        labels = [shorten(name, BODY, 150) for name in names] if i == 0 else [""] * len(names)
        axes.set_yticks(range(len(names)), labels, size=BODY, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(names) - 0.4, -0.6)
    return made


def _draw_points(axes: Axes, measure: Measure) -> None:
    """Draw one measure, a line and a point with its number for each network."""
    scale = 100.0 if measure.percent else 1.0
    values = [value * scale for value in measure.values.values()]
    if measure.log:
        _log_axis(axes, values)
    else:
        finite = [value for value in values if math.isfinite(value)]
        low, high = min([0.0, *finite]), max([0.0, *finite])
        axes.set_xlim(low - (0.02 if low < 0 else 0) * (high - low), (high if high > low else low + 1) * 1.04)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    start = axes.get_xlim()[0] if measure.log else 0.0
    for line, value in enumerate(values):
        color = BLUE if line == 0 else CONTROL
        if math.isfinite(value):
            shown = max(value, axes.get_xlim()[0]) if measure.log else value
            axes.plot([start, shown], [line, line], color=color, linewidth=1.6, solid_capstyle="butt", clip_on=False)
            axes.plot([shown], [line], marker="o", markersize=5.5, color=color, clip_on=False)
        text = _number(value) + (" %" if measure.percent else "")
        ink = INK if line == 0 else QUIET
        _note(axes, text, (1, line), (8, 0), color=ink, va="center_baseline")


def per_image_figure(
    values: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    label: str = "KL of each image",
    budget: float | None = None,
    width: float = PAGE,
) -> Figure:
    """Return one dot for each image and network on a logarithmic axis, with the median of each network.

    Values below 1e-6 stand at 1e-6.

    Args:
        values: for each network (the chain first) one value a image.
        title: of the figure.
        label: of the axis.
        budget: the value that was asked for, drawn as a line.
        width: of the figure in inches.

    Raises:
        DataError: there is no network, or one without values, or a value is not finite.
    """
    if not values or any(len(v) == 0 or not np.isfinite(np.asarray(v, dtype=float)).all() for v in values.values()):
        raise DataError("expected finite values of at least one image for each network, got none or others")
    names, step = list(values), 24.0
    made = titled(HEAD + step * len(names) + FOOT + 2, title, width)
    left = 20 + max(min(text_width(name, BODY), 150.0) for name in names)
    axes = panel(made, left, HEAD - 12, width * 72 - left - 70, step * len(names), grid="x")
    everything = [value for column in values.values() for value in column] + ([] if budget is None else [budget])
    _log_axis(axes, everything)
    for line, column in enumerate(values.values()):
        _draw_dots(axes, line, np.maximum(np.asarray(column, dtype=float), FLOOR))
    _note(axes, "median", (1, 1), (8, 4), data=(False, False), size=SMALL, color=QUIET)
    if budget is not None:
        axes.axvline(budget, color=SERIES[1], linewidth=0.9, linestyle=(0, (4, 2)))
        asked = f"asked for: {_number(budget)}"
        _note(axes, asked, (budget, 1), (0, 4), data=(True, False), size=SMALL, color=SERIES[1], ha="center")
    axes.set_yticks(range(len(names)), [shorten(name, BODY, 150) for name in names], size=BODY, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_xlabel(label)
    return made


def _draw_dots(axes: Axes, line: int, values: np.ndarray) -> None:
    """Draw the values of one network, spread a little across its line, and their median."""
    color = BLUE if line == 0 else QUIET
    spread = np.random.default_rng(line).uniform(-0.22, 0.22, len(values))
    axes.plot(values, line + spread, "o", markersize=4, color=color, alpha=0.55, mew=0)
    median = float(np.median(values))
    axes.plot([median, median], [line - 0.34, line + 0.34], color=color, linewidth=2)
    _note(axes, _number(median), (1, line), (8, 0), va="center_baseline")


def _note(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    shift: tuple[float, float],
    *,
    data: tuple[bool, bool] = (False, True),
    size: float = BODY,
    color: str = INK,
    ha: str = "left",
    va: str = "baseline",
) -> None:
    """Write a text ``shift`` points from a place, each coordinate of which counts in data or in parts of the axes."""
    x, y = ("data" if one else "axes fraction" for one in data)
    axes.annotate(text, place, shift, xycoords=(x, y), textcoords="offset points", size=size, color=color, ha=ha, va=va)


def drop_figure(
    scores: Sequence[float],
    drops: Sequence[float],
    *,
    correlations: Mapping[str, float] | None = None,
    title: str = "",
    label: str = "loss of probability without it",
    noun: str = "filters",
    width: float = 5.4,
) -> Figure:
    """Return the scatter of what is lost without each filter against the filter's score.

    Args:
        scores: one for each filter.
        drops: what is lost without it.
        correlations: written below, such as ``{"Pearson": .8, "Spearman": .9}``.
        title: of the figure.
        label: of the vertical axis.
        noun: what the filters are called, in the plural.
        width: of the figure in inches.

    Raises:
        DataError: the numbers of scores and drops differ, there is none, or one is not finite.
    """
    points = np.array([list(scores), list(drops)], dtype=float) if len(scores) == len(drops) else np.empty((2, 0))
    if points.size == 0 or not np.isfinite(points).all():
        raise DataError(f"expected as many finite scores as drops, at least one, got {len(scores)} and {len(drops)}")
    made = titled(242, title, width)
    axes = panel(made, 52, 34, width * 72 - 52 - 16, 158, grid="y")
    axes.axhline(0, color=FAINT, linewidth=0.7)
    axes.plot(points[0], points[1], "o", markersize=4.5, color=BLUE, alpha=0.6, mew=0)
    axes.margins(0.06)
    axes.set_xlabel(f"score of the {noun.removesuffix('s')}")
    axes.set_ylabel(shorten(label, BODY, 158))
    said = [f"{len(scores)} {noun}"] + [f"{name} {_number(value)}" for name, value in (correlations or {}).items()]
    made.text(52 / (width * 72), 8 / 242, "   ".join(said), size=SMALL + 0.5, color=QUIET)
    return made


def parting_figure(
    layers: Sequence[str],
    similarity: Mapping[str, Sequence[float]],
    *,
    usual: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    title: str = "",
    label: str = "similarity to the class",
    width: float = PAGE,
) -> Figure:
    """Return how alike an image is to each class, layer by layer: where its way parts from that of its class.

    Args:
        layers: labels in order of execution.
        similarity: for each class one value a layer.
        usual: for some classes the lower and the upper end, a layer, of the class's own images; drawn as a band.
        title: of the figure.
        label: of the vertical axis.
        width: of the figure in inches.

    Raises:
        DataError: there is no layer or class, or a class has not one value for each layer.
    """
    bands = usual or {}
    lines = [*similarity.values(), *(end for band in bands.values() for end in band)]
    if not layers or not similarity or any(len(line) != len(layers) for line in lines):
        raise DataError(f"expected one value for each of {len(layers)} layers, got {sorted({len(x) for x in lines})}")
    turned = max(text_width(name, SMALL) for name in layers) + 6 > (width * 72 - 220) / len(layers)
    foot = 16 + (max(text_width(name, SMALL) for name in layers) if turned else 8)
    made = titled(36 + 150 + foot, title, width)
    axes = panel(made, 52, 34, width * 72 - 52 - 150, 146, grid="y")
    places = range(len(layers))
    for color, (name, line) in zip(_cycle(len(similarity)), similarity.items()):
        if name in bands:
            axes.fill_between(places, bands[name][0], bands[name][1], color=color, alpha=0.14, linewidth=0)
        axes.plot(places, line, color=color, linewidth=1.6, marker="o", markersize=3.5)
    _name_lines(axes, {name: line[-1] for name, line in similarity.items()})
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.set_xticks(places, list(layers), size=SMALL, rotation=90 if turned else 0)
    axes.set_ylabel(shorten(label, BODY, 146))
    return made


def _name_lines(axes: Axes, ends: Mapping[str, float]) -> None:
    """Write the name of each line at its end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    least = (high - low) * 11 / 146
    order = sorted(ends, key=lambda name: (math.isnan(ends[name]), ends[name]))
    y = -math.inf
    colors = dict(zip(ends, _cycle(len(ends))))
    for name in order:
        y = max(y + least, ends[name] if math.isfinite(ends[name]) else low)
        _note(axes, shorten(name, BODY, 130), (1, y), (8, 0), color=colors[name], va="center_baseline")
    axes.set_ylim(low, max(high, y))


def _cycle(count: int) -> list[str]:
    """Return ``count`` colours, the house's in turn."""
    return [SERIES[i % len(SERIES)] for i in range(count)]


def _log_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make the horizontal axis logarithmic around the values, with plain numbers at its ticks."""
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xlim(*_log_limits(values))
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_major_formatter(lambda value, _: _number(value))


def _log_limits(values: Sequence[float]) -> tuple[float, float]:
    """Return limits of a logarithmic axis: whole decades around the values, nothing below the floor."""
    shown = [max(value, FLOOR) for value in values if math.isfinite(value)] or [FLOOR]
    low, high = math.floor(math.log10(min(shown)) - 0.05), math.ceil(math.log10(max(shown)) + 0.05)
    return 10.0**low, 10.0 ** max(high, low + 1)


def _number(value: float) -> str:
    """Return a number with three figures, without exponent where that is short."""
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    return (f"{value:.3g}" if 1e-3 <= abs(value) < 1e4 else f"{value:.1e}").replace("-", "−")
