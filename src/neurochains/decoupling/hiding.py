"""Hiding places of images: masks and boxes of parts, equal places elsewhere, and what covers them.

Shapes: N images, C channels, P parts, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurochains.errors import DataError, SettingsError

if TYPE_CHECKING:
    from neurochains.decoupling.decoupled import Decoupled

__all__ = ["black", "hidden_places", "hide", "read_parts"]

_SHIFTS = 16


def read_parts(parts: Mapping[str, Any], images: Tensor) -> Tensor:
    """Return masks ``(P, N, H, W)`` of named parts, which are given as masks or boxes.

    Raises:
        DataError: there is no part, or one fits neither as masks nor as boxes.
    """
    if not parts:
        raise DataError("Wanted at least one part: a name with masks (N, H, W) or boxes (N, 4).")
    return torch.stack([_masks(name, value, images) for name, value in parts.items()])


def hidden_places(masks_PNHW: Tensor, *, seed: int = 0) -> Tensor:
    """Return masks of the same shapes elsewhere: of 16 random shifts round the image, that which covers least.

    What is shifted out on one side comes in on the other, so the area stays.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = masks_PNHW.shape[2:]
    found = []
    for mask_HW in masks_PNHW.flatten(0, 1):
        down, right = (torch.randint(size, (_SHIFTS,), generator=generator).tolist() for size in (height, width))
        shifted = [mask_HW.roll(move, (0, 1)) for move in zip(down, right, strict=True)]
        found.append(min(shifted, key=lambda moved, mask=mask_HW: int((moved & mask).sum())))
    return torch.stack(found).view(masks_PNHW.shape)


def hide(images: Tensor, mask_NHW: Tensor, colour_C: Tensor) -> Tensor:
    """Return images in which a place is painted over."""
    return torch.where(mask_NHW[:, None], colour_C[:, None, None], images)


def black(images: Tensor, decoupled: Decoupled, fill: float | Sequence[float] | None = None) -> Tensor:
    """Return the colour ``(C,)`` that hides, as the network takes it; see `concepts.find_concepts`.

    Raises:
        SettingsError: `fill` is neither one number nor one for each channel.
    """
    channels = images.shape[1]
    preprocess = getattr(decoupled.network.info, "preprocess", None)
    if fill is not None:
        values = torch.as_tensor(fill, dtype=images.dtype).flatten()
        if len(values) not in (1, channels):
            raise SettingsError(f"fill is one number, or one for each of {channels} channels; got {len(values)}.")
        return values.expand(channels)
    if preprocess is None or preprocess.channels != channels:
        return images.amin((0, 2, 3))
    mean, std = (torch.tensor(values, dtype=images.dtype) for values in (preprocess.mean, preprocess.std))
    return -mean / std


def _masks(name: str, value: Any, images: Tensor) -> Tensor:
    given = torch.as_tensor(value)
    count, _, height, width = images.shape
    if given.dtype == torch.bool and given.shape == (count, height, width):
        return given
    whole = not given.is_floating_point() and given.dtype != torch.bool
    if not whole or given.shape not in ((4,), (count, 4)):
        raise DataError(
            f"The part {name!r} is given by masks ({count}, {height}, {width}) of True and False, or by boxes "
            f"({count}, 4) or (4,) of whole numbers; got {given.dtype} {tuple(given.shape)}."
        )
    top, left, bottom, right = given.expand(count, 4).T[:, :, None]
    rows, columns = torch.arange(height), torch.arange(width)
    inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None]
    return inside
