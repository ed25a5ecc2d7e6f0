"""Patch chains of images, block by block: what is kept, what the class token is made of, what a kept patch is made of.

The layout is that of Fig. 7 of the NeuroChains paper. Attributions are rows of `attribution`, each divided by its
largest share among the patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    BODY,
    INK,
    MARGIN,
    ORANGE,
    PAGE,
    QUIET,
    SMALL,
    canvas_axes,
    display,
    figure,
    shorten,
    title_line,
)
from neurochains.pictures.heatmap import overlay
from neurochains.pictures.tiles import tile

__all__ = ["PatchRow", "patches_figure"]

WORDS, GAP, LINE = 74.0, 4.0, 12.0
LARGEST_TILE, MOST_BLOCKS = 72.0, 14
FADED, FRAME = 0.78, ORANGE


@dataclass(frozen=True, slots=True)
class PatchRow:
    """One image: its pixels, the patches that are kept, and the attribution of its tokens.

    Attributes:
        name: of the image.
        pixels: uint8 ``(C, H, W)``.
        kept: ``(L, T)`` bool, special tokens first.
        attribution: ``(L, T, T)``, of each token to the tokens at the beginning.
        grid: rows and columns of patches; the tokens before them are special.
    """

    name: str
    pixels: Tensor
    kept: Tensor
    attribution: Tensor
    grid: tuple[int, int]

    @property
    def special(self) -> int:
        """The number of special tokens."""
        return self.kept.shape[1] - self.grid[0] * self.grid[1]

    @property
    def deepest(self) -> int:
        """The patch that is kept longest; of several, the one that the class token, or the mean, owes most to."""
        depth = self.kept[:, self.special :].sum(0)
        owed = self.reader()[-1]
        return int(torch.where(depth == depth.max(), owed, -1.0).argmax())

    def reader(self) -> Tensor:
        """Return the patches' shares ``(L, P)`` in the class token; in the mean of the patches where there is none."""
        of = self.attribution[:, 0] if self.special else self.attribution.mean(1)
        return of[:, self.special :]

    def patch(self, index: int) -> Tensor:
        """Return the patches' shares ``(L, P)`` in one patch."""
        return self.attribution[:, self.special + index, self.special :]


def patches_figure(rows: Sequence[PatchRow], *, title: str = "", width: float = PAGE) -> Figure:
    """Return three lines of pictures for each image, one column for each block.

    Args:
        rows: the images, with the same number of blocks, at most 14.
        title: of the figure.
        width: of the figure in inches; the height follows.

    Raises:
        DataError: there is no image, more than 14 blocks, or shapes that do not fit each other.
    """
    blocks = _check(rows)
    side = min(LARGEST_TILE, (width * 72 - 2 * MARGIN - WORDS - GAP * (blocks - 1)) / blocks)
    head = 44.0 if title else 24.0
    block_height = 3 * (side + GAP) + 2 * LINE
    made = figure((head + len(rows) * block_height) / 72, width=width)
    axes = canvas_axes(made)
    title_line(axes, title)
    for block in range(blocks):
        axes.text(_left(block, side) + side / 2, head - 6, f"block {block + 1}", size=BODY, color=QUIET, ha="center")
    for place, row in enumerate(rows):
        _draw_row(axes, row, head + place * block_height, side)
    return made


def _check(rows: Sequence[PatchRow]) -> int:
    counts = {len(row.kept) for row in rows}
    if len(counts) != 1 or not 1 <= max(counts) <= MOST_BLOCKS:
        raise DataError(f"expected images with one number of blocks, 1 to {MOST_BLOCKS}; got {sorted(counts)}")
    for row in rows:
        blocks, tokens = row.kept.shape
        if row.special < 0 or tuple(row.attribution.shape) != (blocks, tokens, tokens):
            raise DataError(
                f"expected an attribution ({blocks}, {tokens}, {tokens}) of at least {row.grid[0] * row.grid[1]} "
                f"tokens for {row.name}; got {tuple(row.attribution.shape)}"
            )
    return counts.pop()


def _left(column: int, side: float) -> float:
    return MARGIN + WORDS + column * (side + GAP)


def _draw_row(axes: Axes, row: PatchRow, y: float, side: float) -> None:
    """Draw one image: kept patches, the reader's attribution, a kept patch's."""
    second, third = y + side + LINE, y + 2 * side + LINE + GAP
    own = row.deepest
    words = ("class token", "reads") if row.special else ("mean of patches", "comes from")
    for top, lines in ((y, (row.name, "kept patches")), (second, words), (third, (f"patch {own}", "comes from"))):
        for line, text in enumerate(lines):
            color = INK if line == 0 else QUIET
            axes.text(MARGIN, top + side / 2 - 2 + line * 10, shorten(text, BODY, WORDS - 6), size=BODY, color=color)
    for block, (kept, reader, patch) in enumerate(zip(row.kept, row.reader(), row.patch(own), strict=True)):
        x = _left(block, side)
        _draw_kept(axes, row, kept[row.special :], x, y, side)
        count = int(kept[row.special :].sum())
        axes.text(
            x + side / 2, y + side + 8, f"{count} of {kept.numel() - row.special}", size=SMALL, color=QUIET, ha="center"
        )
        tile(axes, _heat(reader, row), x, second, side, side)
        tile(axes, _heat(patch, row), x, third, side, side)
        _frame(axes, row, own, x, third, side)


def _draw_kept(axes: Axes, row: PatchRow, kept: Tensor, x: float, y: float, side: float) -> None:
    """Draw the image with all patches but the kept ones faded, and these framed."""
    picture = torch.from_numpy(display(row.pixels.detach().cpu().numpy()).copy()).float()
    mask = kept.view(row.grid).float()[None, None]
    large = torch.nn.functional.interpolate(mask, picture.shape[:2], mode="nearest")[0, 0, ..., None]
    faded = picture * (1 - FADED) + 255 * FADED
    tile(axes, (large * picture + (1 - large) * faded).round().to(torch.uint8).numpy(), x, y, side, side)
    for patch in kept.nonzero().flatten().tolist():
        _frame(axes, row, patch, x, y, side)


def _frame(axes: Axes, row: PatchRow, patch: int, x: float, y: float, side: float) -> None:
    rows, columns = row.grid
    line, column = divmod(patch, columns)
    corner = (x + column * side / columns, y + line * side / rows)
    axes.add_patch(Rectangle(corner, side / columns, side / rows, fill=False, edgecolor=FRAME, linewidth=0.6))


def _heat(shares: Tensor, row: PatchRow) -> np.ndarray:
    values = shares.view(row.grid).float()
    return overlay(values / values.max().clamp_min(1e-12), row.pixels, limits=(0.0, 1.0)).numpy()
