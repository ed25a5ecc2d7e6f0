"""The parts of the data that a filter answers to most.

People tell units apart by these better than by synthetic images (Borowski et al. 2021), so both stand side by side.

1. At most one position for each image: that of the largest value of the filter's map there.
2. The k images with the largest such values.
3. The box of input pixels that the position sees, widened to a square inside the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.errors import DataError, SettingsError

__all__ = ["Box", "Crop", "crop_around", "crop_at", "outline", "top_crops"]

Box = tuple[int, int, int, int]  # top, left, bottom, right in pixels; bottom and right are one past the end
PADDING = 255  # white, like the page


@dataclass(frozen=True, slots=True)
class Crop:
    """The place in one image where a filter answers most."""

    image: int  # index of the image
    row: int  # position on the filter's map
    column: int
    value: float  # of the map there
    box: Box  # what that position sees, in the picture
    inner: Box  # the same in `pixels`
    pixels: Tensor  # uint8 (C, S, S): a square around the box, white where the picture ends


def top_crops(
    maps: Tensor,
    box: Callable[[int, int], Box],
    pixels: Tensor,
    *,
    k: int = 4,
    context: int | None = None,
) -> tuple[Crop, ...]:
    """Return the crops where a filter is largest, at most one for each image, the largest first.

    Fewer than ``k`` come back when there are fewer images. Equal values are taken in the order of the images.

    Args:
        maps: ``(N, h, w)``, the filter's map on each image.
        box: from a position (row, column) of the map to the pixels it sees, such as ``ReceptiveField.box``.
        pixels: ``(N, C, H, W)`` uint8, the images as the network saw them.
        k: how many crops.
        context: least side of a crop in pixels, so that an edge detector's few pixels are seen where they lie; by
            default a seventh of the picture's shorter side.

    Raises:
        DataError: the maps and the pixels do not belong together, or a map is not finite.
        SettingsError: ``k`` or ``context`` is not positive.
    """
    if maps.ndim != 3 or pixels.ndim != 4 or len(maps) != len(pixels) or not torch.isfinite(maps).all():
        raise DataError(
            f"expected finite maps (N, h, w) and pixels (N, C, H, W), got {tuple(maps.shape)} and {tuple(pixels.shape)}"
        )
    least = max(1, min(pixels.shape[-2:]) // 7) if context is None else context
    if k < 1 or least < 1:
        raise SettingsError(f"expected k >= 1 and context >= 1, got {k} and {least}")
    values, places = maps.detach().flatten(1).max(1)
    order = values.argsort(descending=True, stable=True)[:k].tolist()
    width = maps.shape[2]
    return tuple(
        crop_at(image, divmod(int(places[image]), width), float(values[image]), box, pixels[image], least)
        for image in order
    )


def crop_at(
    image: int, place: tuple[int, int], value: float, box: Callable[[int, int], Box], pixels: Tensor, least: int
) -> Crop:
    """Return the crop of one image at one position; `least` as ``context`` of `top_crops`."""
    top, left, bottom, right = seen = _inside(box(*place), pixels.shape[-2:])
    side = max(bottom - top, right - left, least)
    y, x = _start(top, bottom, side, pixels.shape[-2]), _start(left, right, side, pixels.shape[-1])
    square = _cut(pixels, y, x, side)
    return Crop(image, *place, value, seen, (top - y, left - x, bottom - y, right - x), square)


def crop_around(pixels: Tensor, box: Box, *, context: int | None = None) -> Tensor:
    """Return the square ``(C, S, S)`` of a picture ``(C, H, W)`` around a box; `context` as in `top_crops`."""
    least = max(1, min(pixels.shape[-2:]) // 7) if context is None else context
    return crop_at(0, (0, 0), 0.0, lambda _row, _column: box, pixels, least).pixels


def _inside(box: Sequence[int], size: Sequence[int]) -> Box:
    """Return the box clipped to the picture, at least one pixel large."""
    top, left = (min(max(int(start), 0), length - 1) for start, length in zip(box[:2], size))
    bottom, right = (min(max(int(end), start + 1), length) for end, start, length in zip(box[2:], (top, left), size))
    return top, left, bottom, right


def _start(low: int, high: int, side: int, length: int) -> int:
    """Return where a window of ``side`` around [low, high) starts: centred, moved into the picture when it fits."""
    start = (low + high - side) // 2
    return min(max(start, 0), length - side) if side <= length else (length - side) // 2


def _cut(pixels: Tensor, y: int, x: int, side: int) -> Tensor:
    """Return the window ``(C, side, side)`` at (y, x), padded where it leaves the picture."""
    window = pixels.new_full((pixels.shape[0], side, side), PADDING)
    part = pixels[:, max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
    top, left = max(-y, 0), max(-x, 0)
    window[:, top : top + part.shape[1], left : left + part.shape[2]] = part
    return window


def outline(pixels: Tensor, box: Box, *, color: Sequence[int] = (230, 159, 0), thickness: int | None = None) -> Tensor:
    """Return a copy of a picture ``(C, H, W)`` with the edge of a box drawn inside it.

    A picture of one channel gets the colour's mean. A box of the whole picture gets its frame.

    Args:
        pixels: uint8, one or three channels.
        box: top, left, bottom, right; clipped to the picture.
        color: red, green and blue of the line, 0 to 255.
        thickness: of the line in pixels; by default one for every hundred pixels of the picture's side, at least 1.
    """
    top, left, bottom, right = _inside(box, pixels.shape[-2:])
    line = thickness if thickness is not None else max(1, round(max(pixels.shape[-2:]) / 100))
    paint = pixels.new_tensor(list(color)) if pixels.shape[0] == 3 else pixels.new_tensor([sum(color) // len(color)])
    drawn = pixels.clone()
    for rows, columns in (
        ((top, min(top + line, bottom)), (left, right)),
        ((max(bottom - line, top), bottom), (left, right)),
        ((top, bottom), (left, min(left + line, right))),
        ((top, bottom), (max(right - line, left), right)),
    ):
        drawn[:, rows[0] : rows[1], columns[0] : columns[1]] = paint[:, None, None]
    return drawn
