"""Figures of many sub-networks: size against fidelity, score against effect, histograms, curves, shares.

All take plain numbers by name, such as the methods of a study, and give each name one colour in its order. What is not
finite is left out, and the legend counts what is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BLUE,
    BODY,
    FAINT,
    INK,
    QUIET,
    SERIES,
    SMALL,
    panel,
    shorten,
    titled,
)

__all__ = ["Share", "curves_figure", "effect_figure", "histogram_figure", "palette", "scatter_figure", "shares_figure"]

Numbers = NDArray[np.floating]
WIDTH = 6.4  # inches
LEFT, RIGHT, TOP, FOOT, LINE = 58.0, 16.0, 34.0, 36.0, 14.0  # points
MOST_POINTS = 1500  # that a scatter draws of one name
BINS = 24


@dataclass(frozen=True, slots=True)
class Share:
    """A share of some cases, with the ends of its confidence interval."""

    value: float
    low: float
    high: float


def palette(names: Sequence[str]) -> dict[str, str]:
    """Return one colour for each name, so that a name looks the same in all figures of a study."""
    return {name: SERIES[number % len(SERIES)] for number, name in enumerate(names)}


def scatter_figure(
    points: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x: str,
    y: str,
    title: str = "",
    log: bool = False,
    colors: Mapping[str, str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Return a scatter with the histogram of each axis beside it, one colour for each name.

    Args:
        points: for each name x and y, one of each for a sub-network.
        x: what stands to the right.
        y: what stands upwards.
        title: of the figure.
        log: whether y is logarithmic; values of 0 and below are then left out.
        colors: by name; those of `palette` if None.
        width: in inches.

    Raises:
        DataError: no point is finite.
    """
    found = {name: _pair(pair, log) for name, pair in points.items()}
    found = {name: pair for name, pair in found.items() if len(pair[0])}
    _check(found)
    made, foot = titled(250 + LINE * len(found), title, width), FOOT + LINE * len(found)
    side = 40.0
    main = panel(
        made, LEFT, TOP + side + 6, width * 72 - LEFT - RIGHT - side - 6, 250 - TOP - FOOT - side - 6, grid="y"
    )
    above = panel(made, LEFT, TOP, width * 72 - LEFT - RIGHT - side - 6, side, grid="y")
    beside = panel(made, width * 72 - RIGHT - side, TOP + side + 6, side, 250 - TOP - FOOT - side - 6, grid="y")
    everything = [np.concatenate([pair[axis] for pair in found.values()]) for axis in (0, 1)]
    edges = (_edges(everything[0], log=False), _edges(everything[1], log=log))
    for color, (xs, ys) in zip(_colors(found, colors), found.values()):
        chosen = _chosen(len(xs))
        main.plot(xs[chosen], ys[chosen], "o", color=color, markersize=3.6, alpha=0.55, mew=0)
        above.hist(xs, bins=edges[0].tolist(), color=color, alpha=0.45)
        beside.hist(ys, bins=edges[1].tolist(), color=color, alpha=0.45, orientation="horizontal")
    if log:
        _log_axis(main)
        beside.set_yscale("log")
    above.set_xlim(main.get_xlim())
    beside.set_ylim(main.get_ylim())
    for margin in (above, beside):
        margin.set_axis_off()
    main.set_xlabel(x)
    main.set_ylabel(y)
    _legend(
        made, {name: f"{name}: {_count(len(pair[0]), 'sub-network')}" for name, pair in found.items()}, foot, colors
    )
    return made


def effect_figure(
    scores: ArrayLike,
    effects: ArrayLike,
    *,
    y: str,
    title: str = "",
    said: Sequence[str] = (),
    log: bool = False,
    bins: int = 8,
    width: float = WIDTH,
) -> Figure:
    """Return what happens without each filter against its score: points, and the mean of equally many with its spread.

    Args:
        scores: one for each filter.
        effects: one for each filter.
        y: what the effect is.
        title: of the figure.
        said: lines below, such as correlations.
        log: whether the effect's axis is logarithmic.
        bins: how many means.
        width: in inches.

    Raises:
        DataError: no point is finite.
    """
    xs, ys = _pair((scores, effects), log)
    _check({"": (xs, ys)} if len(xs) else {})
    made = titled(240 + LINE * len(said), title, width)
    axes = panel(made, LEFT, TOP, width * 72 - LEFT - RIGHT, 240 - TOP - FOOT, grid="y")
    chosen = _chosen(len(xs))
    axes.plot(xs[chosen], ys[chosen], "o", color=FAINT, markersize=2.6, alpha=0.4, mew=0)
    order = np.argsort(xs, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(xs))) if len(part)]
    centres = [float(xs[part].mean()) for part in parts]
    values = np.log(ys) if log else ys
    means = np.array([values[part].mean() for part in parts])
    errors = np.array([1.96 * values[part].std() / math.sqrt(len(part)) for part in parts])
    ends = (means - errors, means + errors)
    shown, low, high = (np.exp(value) if log else value for value in (means, *ends))
    axes.errorbar(centres, shown, yerr=[shown - low, high - shown], fmt="o-", color=BLUE, markersize=5, linewidth=1.4)
    if log:
        _log_axis(axes)
    axes.set_xlabel("score of the filter")
    axes.set_ylabel(y)
    for number, line in enumerate(said):
        _write(made, line, 12 + LINE * (len(said) - 1 - number))
    return made


def histogram_figure(
    values: Mapping[str, ArrayLike],
    *,
    x: str,
    title: str = "",
    clip: tuple[float, float] | None = None,
    marks: Sequence[float] = (),
    notes: Mapping[str, str] | None = None,
    colors: Mapping[str, str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Return one histogram below the other, one for each name, on one axis.

    Args:
        values: one for each case or image.
        x: what they are.
        title: of the figure.
        clip: values beyond are counted in the first or the last bin.
        marks: values at which a line is drawn.
        notes: what is written into the histogram of a name.
        colors: by name; those of `palette` if None.
        width: in inches.

    Raises:
        DataError: no value is finite.
    """
    found = {name: _finite(several) for name, several in values.items()}
    found = {name: several if clip is None else several.clip(*clip) for name, several in found.items() if len(several)}
    _check(found)
    room = 62.0
    made = titled(TOP + room * len(found) + FOOT, title, width)
    edges = _edges(np.concatenate(list(found.values())), log=False) if clip is None else np.linspace(*clip, BINS + 1)
    for row, (color, (name, several)) in enumerate(zip(_colors(found, colors), found.items())):
        axes = panel(made, LEFT, TOP + room * row + 12, width * 72 - LEFT - RIGHT, room - 16, grid="y")
        axes.hist(several, bins=edges.tolist(), color=color, alpha=0.8, weights=np.full(len(several), 1 / len(several)))
        for mark in marks:
            axes.axvline(mark, color=QUIET, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.set_xlim(edges[0], edges[-1])
        axes.yaxis.set_major_locator(MaxNLocator(2))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        note = (notes or {}).get(name, "")
        left = shorten(f"{name} ({len(several):,})", BODY, 0.5 * (width * 72 - LEFT - RIGHT))
        axes.set_title(left, size=BODY, color=INK, loc="left", pad=2)
        axes.set_title(note, size=SMALL, color=QUIET, loc="right", pad=2)
        if row < len(found) - 1:
            axes.tick_params(axis="x", labelbottom=False)
        else:
            axes.set_xlabel(x)
    return made


def curves_figure(
    curves: Mapping[str, Mapping[float, ArrayLike]],
    *,
    x: str,
    y: str,
    title: str = "",
    percent: bool = False,
    colors: Mapping[str, str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Return the median over cases against a setting, with the middle half as a band, one line for each name.

    Args:
        curves: for each name, by the value of the setting, one number for each case.
        x: what the setting is.
        y: what the numbers are.
        title: of the figure.
        percent: whether y is a share.
        colors: by name; those of `palette` if None.
        width: in inches.

    Raises:
        DataError: no number is finite.
    """
    found: dict[str, dict[float, Numbers]] = {}
    for name, several in curves.items():
        points = {at: _finite(values) for at, values in sorted(several.items())}
        found[name] = {at: values for at, values in points.items() if len(values)}
    found = {name: points for name, points in found.items() if points}
    _check(found)
    made, foot = titled(220 + LINE * len(found), title, width), FOOT + LINE * len(found)
    axes = panel(made, LEFT, TOP, width * 72 - LEFT - RIGHT, 220 - TOP - FOOT, grid="y")
    for color, points in zip(_colors(found, colors), found.values()):
        at = list(points)
        low, middle, high = (
            np.array([np.quantile(values, q) for values in points.values()]) for q in (0.25, 0.5, 0.75)
        )
        axes.fill_between(at, low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(at, middle, "o-", color=color, markersize=4.5, linewidth=1.6)
    axes.set_xticks(sorted({at for points in found.values() for at in points}))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    counts = {name: sum(len(values) for values in points.values()) for name, points in found.items()}
    _legend(made, {name: f"{name}: {_count(count, 'case')}" for name, count in counts.items()}, foot, colors)
    return made


def shares_figure(
    shares: Mapping[str, Mapping[str, Share]],
    *,
    title: str = "",
    colors: Mapping[str, str] | None = None,
    width: float = WIDTH,
) -> Figure:
    """Return shares with their confidence intervals: a panel for each question, a line for each name.

    Args:
        shares: for each question, by name.
        title: of the figure.
        colors: by name; those of `palette` if None.
        width: in inches.

    Raises:
        DataError: there is no share, or the questions are not of the same names.
    """
    names = list(next(iter(shares.values()), {}))
    if not names or any(list(several) != names for several in shares.values()):
        raise DataError(f"expected shares of the same names, got {[list(several) for several in shares.values()]}")
    room = 20.0
    made = titled(TOP + 14 + room * len(names) + FOOT, title, width)
    left = LEFT + 40
    each = (width * 72 - left - RIGHT) / len(shares)
    for column, (question, several) in enumerate(shares.items()):
        axes = panel(made, left + column * each + 4, TOP + 14, each - 44, room * len(names), grid="x")
        for row, (color, share) in enumerate(zip(_colors(several, colors), several.values())):
            axes.plot([share.low, share.high], [row, row], color=color, linewidth=2)
            axes.plot([share.value], [row], "o", color=color, markersize=6)
            axes.annotate(
                f"{share.value:.1%}",
                (1, row),
                (6, 0),
                xycoords=("axes fraction", "data"),
                size=BODY,
                textcoords="offset points",
                color=INK,
                va="center_baseline",
            )
        axes.set_title(shorten(question, BODY, each - 8), size=BODY, color=INK, loc="left", pad=4)
        shown = [shorten(name, BODY, left - 24) for name in names] if column == 0 else [""] * len(names)
        axes.set_yticks(range(len(names)), shown, size=BODY, color=INK)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(-0.02, 1.02)
        axes.set_xticks([0, 0.5, 1])
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.set_ylim(len(names) - 0.4, -0.6)
    return made


def _log_axis(axes: Axes) -> None:
    """Make the upward axis logarithmic, with few ticks and plain numbers at them."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,), numticks=8))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def _legend(made: Figure, lines: Mapping[str, str], foot: float, colors: Mapping[str, str] | None) -> None:
    """Write a line for each name below the axes, in its colour."""
    for number, (color, line) in enumerate(zip(_colors(lines, colors), lines.values())):
        _write(made, f"●  {line}", foot - FOOT - LINE * (number + 1) + 8, color=color)


def _write(made: Figure, text: str, above: float, *, color: str = QUIET) -> None:
    width, height = made.get_size_inches() * 72
    made.text(LEFT / width, above / height, shorten(text, BODY, width - LEFT - RIGHT), size=BODY, color=color)


def _pair(pair: tuple[ArrayLike, ArrayLike], log: bool) -> tuple[Numbers, Numbers]:
    """Return the points whose coordinates are both finite, and above 0 where the axis is logarithmic."""
    xs, ys = (np.asarray(values, dtype=float) for values in pair)
    if xs.shape != ys.shape:
        raise DataError(f"expected as many values on both axes, got {xs.shape} and {ys.shape}")
    fine = np.isfinite(xs) & np.isfinite(ys) & ((ys > 0) if log else True)
    return xs[fine], ys[fine]


def _finite(values: ArrayLike) -> Numbers:
    numbers = np.asarray(values, dtype=float)
    return numbers[np.isfinite(numbers)]


def _check(found: Mapping[str, object]) -> None:
    if not found:
        raise DataError("expected at least one finite value to draw, got none")


def _edges(values: Numbers, *, log: bool) -> Numbers:
    """Return the edges of a histogram's bins around values."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    return np.geomspace(low, high, BINS + 1) if log else np.linspace(low, high, BINS + 1)


def _chosen(count: int) -> NDArray[np.intp]:
    """Return which points of many are drawn: all, or as many as can be seen, the same every time."""
    if count <= MOST_POINTS:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, MOST_POINTS, replace=False))


def _colors(names: Iterable[str], colors: Mapping[str, str] | None) -> list[str]:
    given = palette(list(names)) if colors is None else colors
    return [given.get(name, QUIET) for name in names]


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
