"""The heatmap of a filter: its activation map, resized to the picture and laid over it."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from neurochains.errors import DataError, SettingsError
from neurochains.pictures.figures import colormap, display

__all__ = ["colorize", "overlay", "upsample"]

SEQUENTIAL, DIVERGING = "inferno", "RdBu_r"
GREY = torch.tensor([0.299, 0.587, 0.114])  # luma of ITU-R BT.601


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps ``(..., h, w)`` resized bilinearly to ``(..., *size)``, in float32, corners not aligned.

    Raises:
        DataError: ``maps`` has fewer than two axes or an empty one.
    """
    if maps.ndim < 2 or 0 in maps.shape:
        raise DataError(f"expected maps of shape (..., h, w), got {tuple(maps.shape)}")
    flat = maps.detach().float().reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(flat, size, mode="bilinear", align_corners=False).reshape(*maps.shape[:-2], *size)


def colorize(
    values: Tensor,
    *,
    cmap: str | None = None,
    centered: bool = False,
    limits: tuple[float, float] | None = None,
) -> Tensor:
    """Return the colours of a map, uint8 ``(h, w, 3)``.

    Args:
        values: ``(h, w)``, finite.
        cmap: a matplotlib colour map; by default a perceptually uniform one, or blue to red when ``centered``.
        centered: put 0 in the middle of the colours, with equal room on both sides.
        limits: the values at the two ends; by default the least and the largest of the map, or the largest
            magnitude on both sides when ``centered``. Give them to make several maps comparable.

    Raises:
        DataError: ``values`` is no finite ``(h, w)``.
        SettingsError: the colour map or the limits are not usable.
    """
    table = _colours(cmap or (DIVERGING if centered else SEQUENTIAL))
    level = _level(values, centered=centered, limits=limits).cpu().numpy()
    return torch.from_numpy(table[np.minimum((level * len(table)).astype(int), len(table) - 1)])


@lru_cache(16)
def _colours(name: str) -> NDArray[np.uint8]:
    """Return the colours of a map from its lower end to its upper, ``(N, 3)``."""
    chosen = colormap(name)
    return np.round(chosen(np.arange(chosen.N))[:, :3] * 255).astype(np.uint8)


def overlay(
    values: Tensor,
    pixels: Tensor,
    *,
    cmap: str | None = None,
    centered: bool = False,
    limits: tuple[float, float] | None = None,
    opacity: float = 0.75,
) -> Tensor:
    """Return a map laid over its picture, uint8 ``(H, W, 3)``.

    The picture is shown in grey, so that all colour is the map's; the map covers it the more the larger the value
    is (the magnitude, when ``centered``), up to ``opacity``. A map without variation leaves the grey picture.

    Args:
        values: ``(h, w)``, finite; resized bilinearly to the picture.
        pixels: the picture, uint8 ``(C, H, W)`` or ``(H, W, C)``, one or three channels.
        cmap: as in `colorize`.
        centered: as in `colorize`.
        limits: as in `colorize`.
        opacity: of the largest value, within 0 to 1.

    Raises:
        DataError: ``values`` is no finite map, or ``pixels`` no picture.
        SettingsError: ``opacity`` lies outside 0 to 1, or as in `colorize`.
    """
    if not 0 <= opacity <= 1:
        raise SettingsError(f"an opacity lies within 0 and 1, got {opacity}")
    picture = torch.from_numpy(display(pixels.detach().cpu().numpy()).copy()).float()
    large = upsample(values, (picture.shape[0], picture.shape[1])).cpu()
    limits = limits or _limits(values, centered)
    level = _level(large, centered=centered, limits=limits)
    strength = opacity * ((2 * level - 1).abs() if centered else level)[..., None]
    grey = (picture @ GREY)[..., None]
    colors = colorize(large, cmap=cmap, centered=centered, limits=limits).float()
    return (grey * (1 - strength) + colors * strength).round().clamp(0, 255).to(torch.uint8)


def _limits(values: Tensor, centered: bool) -> tuple[float, float]:
    """Return the values at the ends of the colours."""
    largest = float(values.abs().max())
    return (-largest, largest) if centered else (float(values.min()), float(values.max()))


def _level(values: Tensor, *, centered: bool, limits: tuple[float, float] | None) -> Tensor:
    """Return where each value lies between the limits, 0 to 1; a map that does not vary lies at "nothing"."""
    if values.ndim != 2 or not bool(torch.isfinite(values).all()):
        raise DataError(f"expected a finite map of shape (h, w), got {tuple(values.shape)}")
    low, high = limits or _limits(values, centered)
    if high < low:
        raise SettingsError(f"expected limits (low, high) with low <= high, got ({low}, {high})")
    nothing = 0.5 if centered else 0.0
    if high == low:
        return torch.full_like(values, nothing, dtype=torch.float32)
    return ((values.detach().float() - low) / (high - low)).clamp(0, 1)
