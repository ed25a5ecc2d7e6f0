"""Figures of what decoupling is used for: detected attacks beside the controls, and the parts that filters answer to.

Plain tables in, so that a figure can be drawn from a saved result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BODY,
    FAINT,
    HAIR,
    INK,
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

__all__ = ["concepts_figure", "cross_attack_figure", "detection_figure"]

_HEAD, _LINE = 52.0, 13.0  # points


def detection_figure(rows: Sequence[Mapping[str, Any]], *, title: str = "", width: float = PAGE) -> Figure:
    """Return the AUROC of each feature and classifier: a panel for each attack, trained on the same attack.

    Args:
        rows: as `DetectionRow.to_json` gives them.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: no row was tested on the attack that it was trained on.
    """
    own = [row for row in rows if row["trained_on"] in ("", row["tested_on"])]
    if not own:
        raise DataError("expected rows that were tested on the attack they were trained on, got none")
    attacks, features = (list(dict.fromkeys(row[name] for row in own)) for name in ("tested_on", "features"))
    classifiers = [name for name in dict.fromkeys(row["classifier"] for row in own) if name != "none"]
    left = MARGIN + max(text_width(name, BODY) for name in features) + 10
    room = (width * 72 - left - MARGIN) / len(attacks)
    band = _LINE * max(2.0, 0.55 * len(classifiers) + 1)
    made = titled(_HEAD + 16 + band * len(features) + 40, title, width)
    colors = {name: SERIES[number % len(SERIES)] for number, name in enumerate(classifiers)} | {"none": INK}
    least = max(0.0, min([0.5, *(row["mean"] - row["sd"] for row in own)]) - 0.03)  # one scale for all panels
    for number, name in enumerate(attacks):
        axes = panel(made, left + number * room, _HEAD + 16, room - 18, band * len(features))
        _draw_aurocs(axes, [row for row in own if row["tested_on"] == name], features, colors)
        axes.set_title(shorten(name, BODY, room - 18), size=BODY, color=INK, loc="left", pad=5)
        axes.set_xlim(least, 1.0)
        axes.set_yticks(range(len(features)), features if number == 0 else [], size=BODY, color=INK)
    _legend(made, left, {name: colors[name] for name in classifiers})
    return made


def cross_attack_figure(rows: Sequence[Mapping[str, Any]], *, features: str = "paths", title: str = "") -> Figure:
    """Return a matrix for each classifier: the AUROC by the attack trained on (down) and tested on (across).

    Args:
        rows: as `DetectionRow.to_json` gives them.
        features: which.
        title: above the figure.

    Raises:
        DataError: no row has these features, or was trained.
    """
    own = [row for row in rows if row["features"] == features and row["trained_on"]]
    if not own:
        raise DataError(f"expected rows of classifiers that were trained on {features!r}, got none")
    attacks, classifiers = (list(dict.fromkeys(row[name] for row in own)) for name in ("tested_on", "classifier"))
    left = MARGIN + max(text_width(name, SMALL) for name in attacks) + 10
    side = max(30.0 * len(attacks), 60.0)
    above = max(text_width(name, SMALL) for name in attacks) * 0.65 + 26
    width = (left + (side + 22) * len(classifiers) + MARGIN) / 72
    made = titled(36 + above + side + 26, title, width)
    for number, classifier in enumerate(classifiers):
        axes = panel(made, left + number * (side + 22), 36 + above, side, side)
        mine = {(row["trained_on"], row["tested_on"]): row["mean"] for row in own if row["classifier"] == classifier}
        table = np.array([[mine.get((one, other), np.nan) for other in attacks] for one in attacks])
        _draw_matrix(axes, table, attacks, attacks if number == 0 else [""] * len(attacks))
        axes.annotate(classifier, (0, 0), (0, -12), "axes fraction", "offset points", size=BODY, color=INK)
    return made


def concepts_figure(
    off: Mapping[str, Sequence[float]],
    checks: Mapping[str, tuple[float, float, float]],
    parts: Sequence[str],
    *,
    title: str = "",
    width: float = 8.0,
) -> Figure:
    """Return, for each filter, how often hiding each part switches it off, and how well that tells its part.

    Args:
        off: by the filter's name, a share for each part.
        checks: by the filter's name, precision, recall and the precision of chance.
        parts: their names.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: there is no filter, or the names differ.
    """
    if not off or off.keys() != checks.keys() or any(len(shares) != len(parts) for shares in off.values()):
        raise DataError("expected a share for each part, and three checks, of each filter, and at least one filter")
    names = [shorten(name, SMALL, 150) for name in off]
    left, cell = MARGIN + max(text_width(name, SMALL) for name in names) + 8, 34.0
    above = max(text_width(part, SMALL) for part in parts) * 0.65 + 14
    made = titled(36 + above + _LINE * len(off) + 44, title, width)
    top, tall = 36 + above, _LINE * len(off)
    axes = panel(made, left, top, cell * len(parts), tall)
    _draw_matrix(axes, np.array(list(off.values()), dtype=float), parts, names, percent=True)
    beside = panel(made, left + cell * len(parts) + 22, top, width * 72 - left - cell * len(parts) - 50, tall)
    _draw_checks(beside, list(checks.values()))
    caption = "of the images for which the filter is on, % for which hiding the part switches it off"
    axes.annotate(caption, (0, 0), (-left + MARGIN, -32), "axes fraction", "offset points", size=SMALL, color=QUIET)
    return made


def _draw_checks(axes: Axes, checks: Sequence[tuple[float, float, float]]) -> None:
    kinds = (("precision", "o", SERIES[0]), ("recall", "D", SERIES[1]), ("precision of chance", "|", FAINT))
    for number, (name, marker, color) in enumerate(kinds):
        values = [check[number] for check in checks]
        axes.plot(values, range(len(values)), marker, color=color, markersize=4.5, clip_on=False)
        place = (0.0 if number < 2 else 0.42) + 0.24 * (number == 1)
        axes.annotate(name, (place, 1), (9, 8), "axes fraction", "offset points", size=SMALL, color=QUIET)
        axes.plot([place + 0.012], [-0.5 - 12 / _LINE], marker, color=color, markersize=4.5, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(len(checks) - 0.5, -0.5), yticks=[])
    axes.tick_params(labelsize=SMALL)
    axes.grid(axis="x", color=HAIR, linewidth=0.5)


def _draw_aurocs(
    axes: Axes, rows: Sequence[Mapping[str, Any]], features: Sequence[str], colors: Mapping[str, str]
) -> None:
    """Draw the mean with the standard deviation of each row, classifiers of one feature below each other."""
    trained = [name for name in colors if name != "none"]
    for row in rows:
        shift = 0.0
        if row["classifier"] in trained:
            shift = 0.62 * ((trained.index(row["classifier"]) + 0.5) / len(trained) - 0.5)
        y, color = features.index(row["features"]) + shift, colors[row["classifier"]]
        axes.plot([row["mean"] - row["sd"], row["mean"] + row["sd"]], [y, y], color=color, linewidth=1.0)
        axes.plot([row["mean"]], [y], "o", color=color, markersize=4.5, clip_on=False)
    axes.axvline(0.5, color=FAINT, linewidth=0.8, linestyle="--")
    axes.set(ylim=(len(features) - 0.5, -0.5), xlabel="AUROC")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=HAIR, linewidth=0.5)


def _draw_matrix(
    axes: Axes, table: ArrayLike, columns: Sequence[str], lines: Sequence[str], *, percent: bool = False
) -> None:
    """Draw numbers in [0, 1] as coloured cells with their values."""
    values, colors = np.asarray(table, dtype=float), score_colors()
    axes.imshow(values, cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    turned: dict[str, Any] = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(columns)), columns, size=SMALL, color=INK, **turned)
    axes.set_yticks(range(len(lines)), lines, size=SMALL, color=INK)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            text, ink = f"{100 * value:.0f}" if percent else f"{value:.2f}", ink_on(colors(float(value))[:3])
            axes.text(column, row, text, size=SMALL, color=ink, ha="center", va="center")


def _legend(made: Figure, left: float, colors: Mapping[str, str]) -> None:
    width, height = made.get_size_inches() * 72
    for name, color in colors.items():
        made.text(left / width, 1 - 38 / height, "●", size=BODY, color=color, va="center")
        made.text((left + 11) / width, 1 - 38 / height, name, size=BODY, color=QUIET, va="center")
        left += 30 + text_width(name, BODY)
