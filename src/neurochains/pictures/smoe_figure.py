"""SMOE maps of images layer by layer, the original network above the sub-network.

Between the two rows of an image lie, for each layer, the correlation of the two maps over the positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import hsv_to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BODY,
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
from neurochains.pictures.heatmap import overlay, upsample
from neurochains.pictures.smoe import lovi
from neurochains.pictures.tiles import tile

__all__ = ["SmoeRow", "agreement", "smoe_figure"]

WORDS, GAP = 62.0, 5.0
LARGEST_TILE, MOST_LAYERS = 78.0, 16


@dataclass(frozen=True, slots=True)
class SmoeRow:
    """One image with its maps, (h, w) each, brought to [0, 1], one for each layer."""

    name: str
    pixels: Tensor  # uint8 (C, H, W)
    original: Sequence[Tensor]
    reduced: Sequence[Tensor]  # of the sub-network


def smoe_figure(
    rows: Sequence[SmoeRow], layers: Sequence[str], *, title: str = "", combined: bool = True, width: float = PAGE
) -> Figure:
    """Return the grid of images x layers, original and sub-network one above the other.

    Args:
        rows: the images.
        layers: labels of the layers, in order, at most 16.
        title: of the figure.
        combined: add a last column with all layers in one LOVI picture (see `lovi`).
        width: of the figure in inches; the height follows.

    Raises:
        DataError: there is no row or no layer, more than 16 layers, or a row has not one map for each.
    """
    if not rows or not 1 <= len(layers) <= MOST_LAYERS:
        raise DataError(
            f"expected images and 1 to {MOST_LAYERS} layers, got {len(rows)} and {len(layers)}; choose some"
        )
    if any(len(row.original) != len(layers) or len(row.reduced) != len(layers) for row in rows):
        raise DataError(f"expected one map of each network for each of {len(layers)} layers in every row")
    count = 1 + len(layers) + combined
    side = min(LARGEST_TILE, (width * 72 - 2 * MARGIN - WORDS - GAP * (count - 1)) / count)
    head = 44.0 if title else 24.0
    block = 2 * side + 34
    made = figure((head + len(rows) * block + (16 if combined else 0)) / 72, width=width)
    axes = canvas_axes(made)
    title_line(axes, title)
    for i, label in enumerate(["image", *layers] + ["all layers"] * combined):
        x = _left(i, side) + side / 2
        axes.text(x, head - 6, shorten(label, BODY, side + GAP - 2), size=BODY, color=QUIET, ha="center")
    for index, row in enumerate(rows):
        _draw_row(axes, row, head + index * block, side, combined=combined)
    if combined:
        _draw_key(axes, width * 72, head + len(rows) * block + 2)
    return made


def agreement(first: Tensor, second: Tensor) -> float:
    """Return Pearson's correlation of two maps over the positions; nan when one of them does not vary.

    Maps of different sizes are compared at the size of the first.
    """
    second = upsample(second, (first.shape[0], first.shape[1])) if first.shape != second.shape else second.float()
    a, b = first.float().flatten(), second.flatten()
    a, b = a - a.mean(), b - b.mean()
    scale = float(a.norm() * b.norm())
    return float(a @ b) / scale if scale > 0 else float("nan")


def _left(column: int, side: float) -> float:
    return MARGIN + WORDS + column * (side + GAP)


def _draw_row(axes: Axes, row: SmoeRow, y: float, side: float, *, combined: bool) -> None:
    """Draw one image with the maps of both networks."""
    below = y + side + 12
    tile(axes, row.pixels, _left(0, side), y, side, side)
    axes.text(
        _left(0, side) + side / 2, y + side + 9, shorten(row.name, SMALL, side), size=SMALL, color=QUIET, ha="center"
    )
    for top, text in ((y, "original"), (below, "sub-network")):
        axes.text(MARGIN, top + side / 2, text, size=BODY, color=INK, va="center")
    for i, (first, second) in enumerate(zip(row.original, row.reduced), start=1):
        x = _left(i, side)
        tile(axes, overlay(first, row.pixels, limits=(0.0, 1.0)), x, y, side, side)
        tile(axes, overlay(second, row.pixels, limits=(0.0, 1.0)), x, below, side, side)
        shared = agreement(first, second)
        text = "constant" if np.isnan(shared) else f"r = {shared:.2f}".replace("-", "−")
        axes.text(x + side / 2, y + side + 9, text, size=SMALL, color=QUIET, ha="center")
    if combined:
        x = _left(len(row.original) + 1, side)
        tile(axes, _lovi(row.original, row.pixels), x, y, side, side)
        tile(axes, _lovi(row.reduced, row.pixels), x, below, side, side)


def _lovi(maps: Sequence[Tensor], pixels: Tensor) -> np.ndarray:
    """Return the LOVI picture of an image, uint8 ``(H, W, 3)``."""
    height, width = display(pixels.detach().cpu().numpy()).shape[:2]
    stack = torch.stack([upsample(one, (height, width)) for one in maps])[None]
    return (lovi(stack)[0] * 255).round().to(torch.uint8).cpu().numpy()


def _draw_key(axes: Axes, width: float, y: float) -> None:
    """Draw the key of the LOVI colours, at the right."""
    hues = np.linspace(300, 0, 60) / 360
    bar = (hsv_to_rgb(np.stack([hues, np.ones(60), np.ones(60)], -1))[None].repeat(4, 0) * 255).astype(np.uint8)
    words = "all layers: white where all answer, hue where one does: first"
    axes.text(width - MARGIN - 96, y + 5, words, size=SMALL, color=QUIET, ha="right", va="center_baseline")
    tile(axes, bar, width - MARGIN - 92, y + 1, 70, 6)
    axes.text(width - MARGIN - 18, y + 5, "last", size=SMALL, color=QUIET, va="center_baseline")
