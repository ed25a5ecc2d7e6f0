"""The small picture of a filter: what it answers to, as far as the bundle holds it already.

A feature visualisation where one was kept, cropped to the middle of what the filter sees; else the strongest patch of
the data; in the first layer its kernels as one coloured picture.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.explorer.desk import Desk
from neurochains.explorer.view import View
from neurochains.network import Filter
from neurochains.pictures import colorize, crop_around, data_uri

__all__ = ["kernel_picture", "map_picture", "objective_of", "thumbnail"]

_COLOURS = np.array([[224, 49, 49], [47, 158, 68], [25, 113, 194]], np.uint8)
_LARGEST = 96
_SHARP = 24  # pixels of a kernel's side: browsers blur what they enlarge


def objective_of(view: View) -> dict[str, Any]:
    """Return the options of `Bundle.visual` that a view's objective means."""
    return {"objective": view.objective[:-1], "negative": view.objective.endswith("-")}


def thumbnail(desk: Desk, unit: Filter) -> tuple[str | None, str]:
    """Return the small picture of a filter as a data address, and what it shows; None where there is none."""
    if unit.layer == "input":
        return _thumbnail(desk, unit)
    return desk.pictures.get((unit, desk.bundle.has_visual(unit)), lambda: _thumbnail(desk, unit))


def _thumbnail(desk: Desk, unit: Filter) -> tuple[str | None, str]:
    label = desk.label(unit)
    if unit.layer == "input":
        colour = _COLOURS[unit.index % 3] if desk.bundle.document.input_shape[0] == 3 else np.full(3, 160, np.uint8)
        return data_uri(np.broadcast_to(colour, (4, 4, 3)).copy()), f"{label} channel of the image"
    kernels = _first_kernels(desk, unit)
    if kernels is not None:
        return data_uri(kernels), f"{label}: its kernels in colour"
    visual = desk.bundle.visual(unit)
    if visual is not None:
        return data_uri(_small(_middle(desk, unit, visual.pixels)), photo=True), f"{label}: feature visualisation"
    patches = desk.bundle.patches(unit)
    if not patches:
        return None, f"{label}: answers to nothing in the data"
    best = patches[0]
    pixels = torch.from_numpy(desk.bundle.picture(best.set, best.image).copy())
    return data_uri(_small(crop_around(pixels, best.box).numpy()), photo=True), f"{label}: strongest patch, {best.name}"


def kernel_picture(weights: NDArray[Any], limit: float | None = None) -> str:
    """Return a kernel ``(h, w)`` as a picture: red excites, blue inhibits, 0 is white."""
    table = np.atleast_2d(np.asarray(weights, np.float32))
    values = torch.from_numpy(table.reshape(len(table), -1))
    colours = colorize(values, centered=True, limits=None if not limit else (-limit, limit)).numpy()
    times = max(1, _SHARP // max(colours.shape[:2]))
    return data_uri(colours.repeat(times, 0).repeat(times, 1))


def map_picture(values: Tensor) -> str:
    """Return a map ``(h, w)`` as a picture, centred at 0."""
    return data_uri(colorize(values.float(), centered=True))


def _first_kernels(desk: Desk, unit: Filter) -> NDArray[np.uint8] | None:
    """Return the kernels of a filter that reads the three colours of the image, as a picture ``(h, w, 3)``."""
    layer = desk.bundle.layer(unit.layer)
    if layer.shape[1] != 3 or len(layer.kernel) != 2 or desk.sources(layer.name)[0][0].layer != "input":
        return None
    weights = desk.weights(layer.name)[unit.index].astype(np.float32)
    largest = float(np.abs(weights).max()) or 1.0
    colours = (127.5 + 127.5 * weights / largest).round().astype(np.uint8).transpose(1, 2, 0)
    times = max(1, _SHARP // max(colours.shape[:2]))
    return colours.repeat(times, 0).repeat(times, 1)


def _middle(desk: Desk, unit: Filter, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the middle of a picture ``(C, H, W)``, as large as what the filter sees."""
    field = desk.bundle.layer(unit.layer).field
    if field is None:
        return pixels
    height, width = (max(8, side) for side in field.size)
    top, left = (max(0, (have - want) // 2) for have, want in zip(pixels.shape[1:], (height, width)))
    return pixels[:, top : top + height, left : left + width]


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture ``(C, H, W)`` of at most 96 pixels a side, every so many pixels taken."""
    step = max(1, -(-max(pixels.shape[1:]) // _LARGEST))
    return pixels[:, ::step, ::step]
