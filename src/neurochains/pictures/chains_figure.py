"""The chains of a class: one row for each filter on the path, in the order in which the network computes them.

A row shows the filter's name and weight, the picture it answers to most, where it answers on sample images, and the
parts of the data that it answers to most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

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
    SMALL,
    canvas_axes,
    display,
    figure,
    shorten,
    title_line,
)
from neurochains.pictures.tiles import Picture, empty_tile, tile

__all__ = ["ChainRow", "Sample", "chain_figure", "chain_table"]

WORDS, GAP, GROUP = 122.0, 4.0, 14.0  # points: text column, between tiles, between groups
LARGEST_TILE, LEAST_ROW = 84.0, 60.0


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One filter on a path. All pictures are uint8, (C, H, W) or (H, W, C)."""

    label: str  # "L4B1C2_48"
    score: float | None  # None: not scored
    share: float | None  # of the class's evidence that runs through the filter, 0 to 1
    visual: Picture | None  # feature visualisation
    heatmaps: Sequence[Picture] = field(default=())  # one for each sample
    crops: Sequence[Picture] = field(default=())  # the strongest first
    reached: float | None = None  # activation of the visualisation
    largest_in_data: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """An image on which the filters are shown."""

    name: str
    pixels: Picture


def chain_table(rows: Sequence[ChainRow]) -> list[dict[str, object]]:
    """Return the rows as plain data: text, numbers and uint8 arrays ``(H, W, 3)``, ready for a page.

    Raises:
        DataError: a picture is none.
    """
    return [
        {
            "label": row.label,
            "score": row.score,
            "share": row.share,
            "visual": None if row.visual is None else _array(row.visual),
            "heatmaps": [_array(picture) for picture in row.heatmaps],
            "crops": [_array(picture) for picture in row.crops],
            "reached": row.reached,
            "largest_in_data": row.largest_in_data,
        }
        for row in rows
    ]


def chain_figure(
    rows: Sequence[ChainRow], *, samples: Sequence[Sample] = (), title: str = "", width: float = PAGE
) -> Figure:
    """Return the figure of one chain, top to bottom in the order of the rows.

    Args:
        rows: the filters on the path, first layer first.
        samples: the images that the heatmaps are of, in their order; shown above them.
        title: such as "dalmatian, chain 1 of 2".
        width: of the figure in inches; the height follows.

    Raises:
        DataError: there is no row, or a row has not one heatmap for each sample.
    """
    if not rows or any(len(row.heatmaps) != len(samples) for row in rows):
        counts = sorted({len(row.heatmaps) for row in rows})
        raise DataError(f"expected rows with one heatmap for each of {len(samples)} samples, got {counts or 'no row'}")
    groups = _groups(rows, len(samples))
    side = _side(groups, width * 72)
    head = (52 if title else 30) + (side + 4 if samples else 0)
    pitch = max(side, LEAST_ROW) + 10
    made = figure((head + len(rows) * pitch + 8) / 72, width=width)
    axes = canvas_axes(made)
    title_line(axes, title)
    _draw_head(axes, groups, samples, side, head)
    for index, row in enumerate(rows):
        y = head + index * pitch
        _draw_words(axes, row, y, pitch, last=index == len(rows) - 1)
        _draw_tiles(axes, row, groups, y, side)
    return made


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring columns of pictures under one heading."""

    heading: str
    kind: str
    count: int


def _groups(rows: Sequence[ChainRow], samples: int) -> list[_Group]:
    """Return the groups of columns that at least one row fills."""
    crops = max(len(row.crops) for row in rows)
    groups = [
        _Group("optimised", "visual", int(any(row.visual is not None for row in rows))),
        _Group("where it answers", "heatmaps", samples),
        _Group("strongest in the data", "crops", crops),
    ]
    return [group for group in groups if group.count]


def _side(groups: Sequence[_Group], width: float) -> float:
    """Return the side of a tile such that all columns fit."""
    tiles = sum(group.count for group in groups)
    room = width - 2 * MARGIN - WORDS - GROUP * len(groups) - GAP * (tiles - len(groups))
    return max(24.0, min(LARGEST_TILE, room / max(1, tiles)))


def _starts(groups: Sequence[_Group], side: float) -> list[float]:
    """Return where each group begins."""
    starts, x = [], MARGIN + WORDS
    for group in groups:
        starts.append(x)
        x += group.count * side + (group.count - 1) * GAP + GROUP
    return starts


def _draw_head(axes: Axes, groups: Sequence[_Group], samples: Sequence[Sample], side: float, head: float) -> None:
    """Write the headings and draw the samples above their heatmaps."""
    for group, x in zip(groups, _starts(groups, side)):
        span = group.count * side + (group.count - 1) * GAP
        if group.kind != "heatmaps":
            axes.text(x, head - 7, shorten(group.heading, BODY, span), size=BODY, color=QUIET)
            continue
        for i, sample in enumerate(samples):
            left = x + i * (side + GAP)
            axes.text(left, head - side - 12, shorten(sample.name, BODY, side), size=BODY, color=QUIET)
            tile(axes, sample.pixels, left, head - side - 7, side, side)


def _draw_words(axes: Axes, row: ChainRow, y: float, pitch: float, *, last: bool) -> None:
    """Write what is known of a filter, with a bar for its share and an arrow to the next one."""
    lines = [f"score {row.score:.2f}"] if row.score is not None else []
    if row.largest_in_data is not None:
        lines.append(f"largest in data {row.largest_in_data:.3g}")
    if row.reached is not None:
        lines.append(f"optimised {row.reached:.3g}")
    axes.text(MARGIN + 12, y + 9, shorten(row.label, 9, WORDS - 16, bold=True), size=9, weight="bold", color=INK)
    for i, line in enumerate(lines):
        axes.text(MARGIN + 12, y + 22 + 11 * i, line, size=SMALL + 0.5, color=QUIET)
    if row.share is not None:
        _draw_share(axes, row.share, y + 22 + 11 * len(lines))
    end = y + pitch - (10 if last else 0)
    axes.plot([MARGIN + 3, MARGIN + 3], [y + (6 if last else 0), end], color=HAIR, linewidth=1.2)
    axes.plot([MARGIN + 3], [y + 6], marker="o", markersize=4, color=FAINT)


def _draw_share(axes: Axes, share: float, y: float) -> None:
    """Draw a share as a bar with its number."""
    left, full = MARGIN + 12, 46.0
    axes.add_patch(Rectangle((left, y - 5), full, 4.5, facecolor=HAIR, edgecolor="none"))
    axes.add_patch(Rectangle((left, y - 5), full * min(max(share, 0.0), 1.0), 4.5, facecolor=BLUE, edgecolor="none"))
    axes.text(left + full + 4, y, f"{100 * share:.0f} % share", size=SMALL, color=QUIET)


def _draw_tiles(axes: Axes, row: ChainRow, groups: Sequence[_Group], y: float, side: float) -> None:
    """Draw the pictures of a row."""
    pictures = {"visual": [row.visual], "heatmaps": list(row.heatmaps), "crops": list(row.crops)}
    for group, start in zip(groups, _starts(groups, side)):
        for i in range(group.count):
            x = start + i * (side + GAP)
            found = pictures[group.kind][i] if i < len(pictures[group.kind]) else None
            if found is None:
                empty_tile(axes, "none", x, y, side, side)
            else:
                tile(axes, found, x, y, side, side)


def _array(picture: Picture) -> np.ndarray:
    """Return a picture as uint8 ``(H, W, 3)``."""
    return display(picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture)
