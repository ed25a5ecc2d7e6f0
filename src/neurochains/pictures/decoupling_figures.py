"""Figures of a decoupled network: the states of its filters layer by layer, and what a loss weight does to them.

Plain tables in, so that a figure can be drawn from a saved result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    AMBER,
    BLUE,
    BODY,
    FAINT,
    HAIR,
    INK,
    MARGIN,
    PAGE,
    QUIET,
    SMALL,
    panel,
    shorten,
    text_width,
    titled,
)

__all__ = ["ResponseRow", "frequency_figure", "response_figure", "states_figure"]

STATES = {"energetic": BLUE, "dynamic": AMBER, "silent": FAINT}
LINE, HEAD, FOOT = 14.0, 58.0, 34.0  # points
BINS = 10


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """One training: the value of the weight, the shares of the states, and the accuracy."""

    value: float
    shares: Mapping[str, float]
    accuracy: float


def states_figure(rows: Sequence[Mapping[str, Any]], *, title: str = "", width: float = PAGE) -> Figure:
    """Return a bar for each layer, from the input down: the shares of energetic, dynamic and silent filters.

    Args:
        rows: as `States.table` gives them: ``layer``, ``filters``, and the number of filters in each state.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: there is no layer.
    """
    if not rows:
        raise DataError("expected the states of at least one layer, got none")
    names = [shorten(str(row["layer"]), SMALL, 150) for row in rows]
    left = 24 + max(text_width(name, SMALL) for name in names)
    height = HEAD + LINE * len(rows) + FOOT
    made = titled(height, title, width)
    axes = panel(made, left, HEAD, width * 72 - left - 60, LINE * len(rows))
    start = np.zeros(len(rows))
    for state, color in STATES.items():
        share = np.array([row[state] / row["filters"] for row in rows])
        axes.barh(range(len(rows)), share, left=start, color=color, height=0.72, label=state)
        start = start + share
    axes.set_yticks(range(len(rows)), names, size=SMALL, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xlabel="share of the layer's filters")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    for line, row in enumerate(rows):
        axes.text(1.01, line, f"{row['filters']:,}", size=SMALL, color=QUIET, va="center")
    axes.text(1.01, -1.0, "filters", size=SMALL, color=QUIET, va="center")
    _legend(made, left)
    return made


def frequency_figure(
    frequencies: Mapping[str, Sequence[float]], *, images: int, title: str = "", width: float = PAGE
) -> Figure:
    """Return a histogram for each layer: how many filters are on for which share of the images.

    Never and always have bars of their own, at both ends.

    Args:
        frequencies: by layer, the share of the images that each filter is on for.
        images: how many there were.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: there is no layer.
    """
    if not frequencies:
        raise DataError("expected the frequencies of at least one layer, got none")
    columns = min(4, len(frequencies))
    lines = -(-len(frequencies) // columns)
    room, tall = (width * 72 - 2 * MARGIN) / columns, 96.0
    made = titled(HEAD + lines * tall + 8, title or f"Filters by how many of {images:,} images they are on for", width)
    for place, (name, shares) in enumerate(frequencies.items()):
        line, column = divmod(place, columns)
        axes = panel(made, MARGIN + column * room + 26, HEAD + line * tall, room - 40, tall - 42)
        _draw_frequencies(axes, np.asarray(shares, dtype=float))
        axes.set_title(shorten(name, SMALL, room - 40), size=SMALL, color=INK, loc="left", pad=3)
    _legend(made, MARGIN + 26)
    return made


def _draw_frequencies(axes: Axes, shares: np.ndarray) -> None:
    between = shares[(shares > 0) & (shares < 1)]
    counts, _ = np.histogram(between, BINS, (0, 1))
    heights = [int((shares == 0).sum()), *counts.tolist(), int((shares == 1).sum())]
    colors = [STATES["silent"], *[STATES["dynamic"]] * BINS, STATES["energetic"]]
    axes.bar(range(BINS + 2), heights, color=colors, width=0.9)
    axes.set_xticks([0, BINS / 2 + 0.5, BINS + 1], ["never", "half", "always"], size=SMALL)
    axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes.tick_params(axis="both", labelsize=SMALL)
    axes.set_ylim(0, max(1, *heights) * 1.08)


def response_figure(rows: Sequence[ResponseRow], *, name: str, title: str = "", width: float = PAGE / 2) -> Figure:
    """Return the shares of the states as they answer to the weight of a loss, and the accuracy as a dashed line.

    Args:
        rows: one for each training, in the order of the values.
        name: of the weight.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: there are fewer than two trainings.
    """
    if len(rows) < 2:
        raise DataError(f"expected at least two trainings to compare, got {len(rows)}")
    made = titled(260, title or f"Filter states and the weight {name}", width)
    axes = panel(made, 56, HEAD, width * 72 - 80, 150)
    places = range(len(rows))
    colors = STATES
    for state, color in colors.items():
        axes.plot(places, [row.shares[state] for row in rows], marker="o", markersize=4, color=color, linewidth=1.4)
    axes.plot(places, [row.accuracy for row in rows], color=INK, linestyle="--", linewidth=1.0)
    axes.set_xticks(list(places), [f"{row.value:g}" for row in rows], size=BODY)
    axes.set(ylim=(-0.02, 1.02), xlabel=f"weight {name}")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="y", color=HAIR, linewidth=0.5)
    _legend(made, 56, extra={"accuracy": INK})
    return made


def _legend(made: Figure, left: float, *, extra: Mapping[str, str] | None = None) -> None:
    """Write the names of the states beside patches of their colours, under the title."""
    width, height = made.get_size_inches() * 72
    place = left
    for name, color in {**STATES, **(extra or {})}.items():
        made.text(place / width, 1 - 36 / height, "■" if name in STATES else "- -", size=BODY, color=color, va="center")
        made.text((place + 12) / width, 1 - 36 / height, name, size=BODY, color=QUIET, va="center")
        place += 26 + text_width(name, BODY)
