"""Patch chains of images, block by block: what is kept, what the class token is made of, what a kept patch is made of.

The layout is that of Fig. 7 of the NeuroChains paper. Attributions are rows of `attribution`; each picture goes up to
its own largest share. Of more than 14 blocks, 14 are shown, spread evenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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

WORDS, MOST_WORDS, GAP, LINE = 74.0, 130.0, 4.0, 12.0
LARGEST_TILE, MOST_BLOCKS = 92.0, 14
FADED, FRAME = 0.78, ORANGE


@dataclass(frozen=True, slots=True)
class PatchRow:
    """One image: its pixels, the patches that are kept, and the attribution of its tokens.

    Attributes:
        name: of the image.
        pixels: uint8 ``(C, H, W)``.
        kept: ``(L, T)`` bool, special tokens first.
        attribution: ``(L, T, T)``, of each token to the tokens at the beginning; None leaves it out.
        grid: rows and columns of patches; the tokens before them are special.
        original: the attribution in the network with all patches, to be shown beside it.
    """

    name: str
    pixels: Tensor
    kept: Tensor
    attribution: Tensor | None
    grid: tuple[int, int]
    original: Tensor | None = None

    @property
    def special(self) -> int:
        """The number of special tokens."""
        return self.kept.shape[1] - self.grid[0] * self.grid[1]

    @property
    def deepest(self) -> int:
        """The patch that is kept longest; of several, the one that the class token, or the mean, owes most to."""
        depth = self.kept[:, self.special :].sum(0)
        owed = torch.zeros(depth.shape) if self.attribution is None else self.reader(self.attribution)[-1]
        return int(torch.where(depth == depth.max(), owed, -1.0).argmax())

    def reader(self, attribution: Tensor) -> Tensor:
        """Return the patches' shares ``(L, P)`` in the class token; in the mean of the patches where there is none."""
        of = attribution[:, 0] if self.special else attribution.mean(1)
        return of[:, self.special :]


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of attributions: what stands at its left, the shares ``(L, P)``, and the patch that is framed."""

    words: tuple[str, str]
    shares: Tensor
    framed: int | None = None


def patches_figure(rows: Sequence[PatchRow], *, title: str = "", width: float = PAGE) -> Figure:
    """Return a line of kept patches for each image and one for each attribution, one column for each block.

    Args:
        rows: the images, with the same number of blocks.
        title: of the figure.
        width: of the figure in inches; the height follows.

    Raises:
        DataError: there is no image, or shapes do not fit each other.
    """
    shown = _shown(_check(rows))
    side = min(LARGEST_TILE, (width * 72 - 2 * MARGIN - WORDS - GAP * (len(shown) - 1)) / len(shown))
    words = min(MOST_WORDS, width * 72 - 2 * MARGIN - len(shown) * (side + GAP) + GAP)
    head = 44.0 if title else 24.0
    heights = [(1 + len(list(_lines(row)))) * (side + GAP) + 2 * LINE for row in rows]
    made = figure((head + sum(heights)) / 72, width=width)
    axes = canvas_axes(made)
    title_line(axes, title)
    for column, block in enumerate(shown):
        axes.text(
            _left(column, side, words) + side / 2, head - 6, f"block {block + 1}", size=BODY, color=QUIET, ha="center"
        )
    for place, row in enumerate(rows):
        _draw_row(axes, row, shown, head + sum(heights[:place]), side, words)
    return made


def _check(rows: Sequence[PatchRow]) -> int:
    counts = {len(row.kept) for row in rows}
    if len(counts) != 1 or not min(counts):
        raise DataError(f"expected images with one number of blocks, 1 or more; got {sorted(counts)}")
    for row in rows:
        blocks, tokens = row.kept.shape
        for found in (row.attribution, row.original):
            if row.special < 0 or (found is not None and tuple(found.shape) != (blocks, tokens, tokens)):
                raise DataError(
                    f"expected an attribution ({blocks}, {tokens}, {tokens}) of at least {row.grid[0] * row.grid[1]} "
                    f"tokens for {row.name}; got {None if found is None else tuple(found.shape)}"
                )
    return counts.pop()


def _shown(blocks: int) -> list[int]:
    """Return the blocks to show, the first and the last included."""
    if blocks <= MOST_BLOCKS:
        return list(range(blocks))
    return torch.linspace(0, blocks - 1, MOST_BLOCKS).round().int().tolist()


def _lines(row: PatchRow) -> Iterator[_Line]:
    """Yield the attributions of an image: the class token's, the original's, and that of a kept patch."""
    of = "class token" if row.special else "mean of patches"
    if row.attribution is not None:
        yield _Line((of, "made of" if row.original is None else "sub-network"), row.reader(row.attribution))
    if row.original is not None:
        yield _Line((of, "original"), row.reader(row.original))
    if row.attribution is not None:
        own = row.deepest
        patch = row.attribution[:, row.special + own, row.special :]
        yield _Line((f"patch {own}", "made of" if row.original is None else "sub-network"), patch, own)


def _left(column: int, side: float, words: float) -> float:
    return MARGIN + words + column * (side + GAP)


def _draw_row(axes: Axes, row: PatchRow, shown: Sequence[int], y: float, side: float, words: float) -> None:
    """Draw one image: kept patches, then its lines of attributions."""
    _write(axes, (row.name, "kept patches"), y + side / 2, words)
    for column, block in enumerate(shown):
        x, kept = _left(column, side, words), row.kept[block, row.special :]
        _draw_kept(axes, row, kept, x, y, side)
        counted = f"{int(kept.sum())} of {len(kept)}"
        axes.text(x + side / 2, y + side + 8, counted, size=SMALL, color=QUIET, ha="center")
    for place, line in enumerate(_lines(row)):
        top = y + side + LINE + place * (side + GAP)
        _write(axes, line.words, top + side / 2, words)
        for column, block in enumerate(shown):
            x = _left(column, side, words)
            tile(axes, _heat(line.shares[block], row), x, top, side, side)
            if line.framed is not None:
                _frame(axes, row, line.framed, x, top, side)


def _write(axes: Axes, lines: tuple[str, str], middle: float, words: float) -> None:
    for line, text in enumerate(lines):
        color = INK if line == 0 else QUIET
        axes.text(MARGIN, middle - 2 + line * 10, shorten(text, BODY, words - 6), size=BODY, color=color)


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
