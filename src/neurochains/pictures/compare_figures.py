"""Figures of several chains beside each other: what they have in common, which are alike, and in which layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BLUE,
    BODY,
    FAINT,
    GREEN,
    HAIR,
    INK,
    MARGIN,
    ORANGE,
    PAGE,
    QUIET,
    SERIES,
    SMALL,
    calm,
    ink_on,
    place,
    score_colors,
    shorten,
    text_width,
    titled,
)

if TYPE_CHECKING:
    from neurochains.measures import Comparison

__all__ = ["comparison_figures", "layer_overlap_figure", "overlap_figure", "shared_figure"]

Array = NDArray[np.float64]

_TREE, _CELL, _FOOT = 110.0, 26.0, 36.0  # points
_NAMED = 60  # chains whose names are written, and
_NUMBERED = 20.0  # points of a cell that holds a number
_LONGEST = 170.0


def comparison_figures(comparison: Comparison) -> dict[str, Figure]:
    """Return all figures of a comparison by name: ``overlap``, ``weighted``, ``layers`` and ``shared``."""
    chains, names = comparison.chains, comparison.names
    labels = [chains[0].labels[name] for name in comparison.layers]
    uses, count = comparison.uses, len(chains)
    kinds = {"of all chains": range(count, count + 1), "of several": range(2, count), "of one alone": range(1, 2)}
    shared = {
        kind: [sum(unit.layer == name and many in wanted for unit, many in uses.items()) for name in comparison.layers]
        for kind, wanted in kinds.items()
        if wanted
    }
    heading = "Filters that two chains share, of those that either keeps"
    return {
        "overlap": overlap_figure(comparison.overlap, names, comparison.tree, title=heading),
        "weighted": overlap_figure(comparison.weighted, names, comparison.tree, title=f"{heading}, weighted by score"),
        "layers": layer_overlap_figure(labels, comparison.layer_means(), title="Where chains share filters"),
        "shared": shared_figure(labels, shared, title="Filters by how many chains keep them"),
    }


def overlap_figure(
    overlap: Array, names: Sequence[str], tree: Array, *, title: str = "", label: str = "overlap", width: float = PAGE
) -> Figure:
    """Return the matrix of overlaps, ordered by the tree that stands beside it.

    Args:
        overlap: ``(C, C)`` in [0, 1].
        names: one for each chain.
        tree: ``(C - 1, 4)``, as `Comparison.tree`: joined at a distance of one minus the overlap.
        title: of the figure.
        label: what the colours mean.
        width: of the figure in inches.

    Raises:
        DataError: there are fewer than two chains, or the shapes do not fit.
    """
    count = len(names)
    if count < 2 or overlap.shape != (count, count) or tree.shape != (count - 1, 4):
        raise DataError(
            f"expected an overlap (C, C) and a tree (C - 1, 4) of C >= 2 names, got {overlap.shape}, {count}"
        )
    order, named = _leaves(tree, count), count <= _NAMED
    shown = [f"{row}  {shorten(names[i], BODY, _LONGEST)}" if named else "" for row, i in enumerate(order, 1)]
    margin = max(text_width(name, BODY) for name in shown) + 12 if named else 8.0
    room = width * 72 - 2 * MARGIN - _TREE - margin - 70
    cell = float(np.clip(room / count, 0.0, _CELL))
    side, left = cell * count, MARGIN + _TREE
    made = titled(40 + side + _FOOT, title, width)
    axes = place(made, left, 40, side, side)
    colors = score_colors()
    axes.imshow(overlap[np.ix_(order, order)], cmap=colors, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    _bare(axes)
    if named:
        axes.yaxis.tick_right()
        size = BODY if cell > 10 else 5
        axes.set_yticks(range(count), shown, size=size, color=INK)
        axes.tick_params(length=0, pad=3)
    if named and cell > 14:
        axes.set_xticks(range(count), [str(row) for row in range(1, count + 1)], size=SMALL, color=QUIET)
    if cell >= _NUMBERED:
        for row, i in enumerate(order):
            for column, j in enumerate(order):
                ink = ink_on(colors(float(overlap[i, j]))[:3])
                axes.text(column, row, _percent(overlap[i, j]), size=SMALL, color=ink, ha="center", va="center")
    _draw_tree(place(made, MARGIN, 40, _TREE - 6, side), tree, order)
    _color_bar(made, left + side + margin + 16, 40, min(side, 140.0), label)
    return made


def layer_overlap_figure(
    layers: Sequence[str],
    lines: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    label: str = "mean overlap of two chains",
    width: float = PAGE,
) -> Figure:
    """Return the mean overlap in each layer, one line for each kind of pair; gaps where no pair keeps a filter.

    Args:
        layers: labels in order of execution.
        lines: for each kind of pair, such as "a class in common" and "by chance", one value for each layer.
        title: of the figure.
        label: of the vertical axis.
        width: of the figure in inches.

    Raises:
        DataError: there is no layer or line, or a line has not one value for each layer.
    """
    if not layers or not lines or any(len(line) != len(layers) for line in lines.values()):
        raise DataError(f"expected one value for each of {len(layers)} layers, got {[len(x) for x in lines.values()]}")
    made, axes = _by_layer(layers, title, width, lines)
    for color, (_, line) in zip(SERIES, lines.items()):
        axes.plot(range(len(layers)), line, color=color, linewidth=1.6, marker="o", markersize=3.5, clip_on=False)
    axes.set_ylim(0, 1)
    axes.set_ylabel(label)
    return made


def shared_figure(
    layers: Sequence[str],
    counts: Mapping[str, Sequence[int]],
    *,
    title: str = "",
    label: str = "filters",
    width: float = PAGE,
) -> Figure:
    """Return for each layer how many filters all chains keep, several, or one alone, as bars on top of each other.

    Args:
        layers: labels in order of execution.
        counts: for each kind, from the ground up, one number for each layer.
        title: of the figure.
        label: of the vertical axis.
        width: of the figure in inches.

    Raises:
        DataError: there is no layer or kind, or a kind has not one number for each layer.
    """
    if not layers or not counts or any(len(line) != len(layers) for line in counts.values()):
        raise DataError(
            f"expected one number for each of {len(layers)} layers, got {[len(x) for x in counts.values()]}"
        )
    made, axes = _by_layer(layers, title, width, counts, colors=(BLUE, GREEN, ORANGE))
    ground = np.zeros(len(layers))
    for color, line in zip((BLUE, GREEN, ORANGE, *SERIES[3:]), counts.values()):
        axes.bar(range(len(layers)), line, 0.7, bottom=ground, color=color)
        ground += np.asarray(line, dtype=float)
    axes.set_ylim(0, max(float(ground.max()), 1.0) * 1.04)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel(label)
    return made


def _by_layer(
    layers: Sequence[str], title: str, width: float, kinds: Mapping[str, object], *, colors: Sequence[str] = SERIES
) -> tuple[Figure, Axes]:
    """Return a figure with the layers along the bottom and a key of kinds above."""
    room = width * 72 - 60 - MARGIN
    turned = max(text_width(name, SMALL) for name in layers) + 6 > room / len(layers)
    foot = 14 + (max(text_width(name, SMALL) for name in layers) if turned else 8)
    height = 58 + 150 + foot
    made = titled(height, title, width)
    axes = calm(place(made, 60, 58, room, 150), grid="y")
    axes.minorticks_off()
    axes.set_xlim(-0.6, len(layers) - 0.4)
    every = max(1, int(np.ceil((SMALL + 2) * len(layers) / room))) if turned else 1
    shown = range(0, len(layers), every)
    axes.set_xticks(shown, [layers[i] for i in shown], size=SMALL, rotation=90 if turned else 0)
    at = 60.0
    for color, name in zip(colors, kinds):
        made.text(at / (width * 72), 1 - 44 / height, "■", size=BODY, color=color)
        made.text((at + 11) / (width * 72), 1 - 44 / height, name, size=BODY, color=INK)
        at += text_width(name, BODY) + 34
    return made, axes


def _leaves(tree: Array, count: int) -> list[int]:
    """Return the chains in the order of the tree's leaves."""
    inside: dict[int, list[int]] = {leaf: [leaf] for leaf in range(count)}
    for step, (a, b, *_) in enumerate(tree.tolist()):
        inside[count + step] = inside.pop(int(a)) + inside.pop(int(b))
    return inside[2 * count - 2]


def _draw_tree(axes: Axes, tree: Array, order: Sequence[int]) -> None:
    """Draw the tree to the left of the matrix, its leaves at the rows."""
    count = len(order)
    place = {leaf: (float(row), 0.0) for row, leaf in enumerate(order)}
    for step, (a, b, height, _) in enumerate(tree.tolist()):
        (ya, xa), (yb, xb) = place[int(a)], place[int(b)]
        axes.plot([xa, height, height, xb], [ya, ya, yb, yb], color=QUIET, linewidth=1, solid_joinstyle="miter")
        place[count + step] = ((ya + yb) / 2, height)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_xlim(max(float(tree[-1, 2]) * 1.05, 1e-6), 0)
    calm(axes)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.set_xlabel("1 − overlap")


def _color_bar(made: Figure, left: float, top: float, height: float, label: str) -> None:
    axes = place(made, left, top + 14, 9, height - 14)
    ramp = np.linspace(1, 0, 128)[:, None]
    axes.imshow(ramp, cmap=score_colors(), vmin=0, vmax=1, aspect="auto", extent=(0, 1, 0, 1))
    _bare(axes)
    axes.yaxis.tick_right()
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"], size=SMALL, color=QUIET)
    axes.tick_params(length=0, pad=3)
    axes.set_title(label, size=SMALL, color=QUIET, loc="left", pad=8)


def _bare(axes: Axes) -> None:
    """Draw axes with a hair around them and no ticks."""
    for spine in axes.spines.values():
        spine.set(color=HAIR, linewidth=0.6)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.tick_params(colors=FAINT)


def _percent(value: float) -> str:
    return f"{100 * value:.0f}"
