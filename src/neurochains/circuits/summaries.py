"""What the maps of filters are like on a set of images: their means and extremes, and where each is largest.

All layers are looked at in one pass; no more than one batch of maps is kept. Maps are those before the activation.

Shapes: F filters of all layers, U of one layer, B images of a batch, T positions of a map, P places of each filter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.circuits.bundle_numbers import SUMMARIES
from neurochains.data import Task
from neurochains.edit import tap
from neurochains.network import Layer, Network
from neurochains.network.nodes import node_shape

__all__ = ["merge", "summarise"]

Array = NDArray[Any]
_MAPS_BYTES = 2**28


def summarise(
    network: Network, task: Task, layers: Sequence[Layer], *, places: int, batch_size: int | None = None
) -> dict[str, Array]:
    """Return what the filters' maps are like on the images of a task.

    Args:
        network: the traced network.
        task: the images.
        layers: which.
        places: how many images to remember for each filter.
        batch_size: images at a time; what 256 MB of maps allow if None.

    Returns:
        ``mean``, ``lowest``, ``highest`` and ``active`` (the share of values above 0), float32 ``(F,)``;
        ``patch_value`` float32 ``(F, P)``, the largest values, at most one in each image, the largest first; and
        ``patch_place`` int32 ``(F, P, 3)``: image, row and column of each.
    """
    tapped = tap(network, [layer.name for layer in layers])
    found = [_LayerSummary(layer, min(places, len(task))) for layer in layers]
    values = sum(math.prod(node_shape(layer.site)) for layer in layers)
    size = batch_size or max(1, _MAPS_BYTES // (4 * values))
    with torch.no_grad():
        for start in range(0, len(task), size):
            _, maps = tapped(task.images[start : start + size].to(network.device))
            for summary in found:
                summary.add(maps.pop(summary.layer.name), min(size, len(task) - start))
    parts = [summary.finished() for summary in found]
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def merge(parts: Sequence[tuple[int, dict[str, Array]]], *, places: int) -> dict[str, Array]:
    """Return the summary of several sets taken together, each with its number of images.

    In ``patch_place`` ``(F, P, 4)`` the index of the set comes first.
    """
    counts = np.array([count for count, _ in parts], np.float64)
    shares = counts / counts.sum()
    merged = {
        key: np.asarray(
            sum(share * part[key].astype(np.float64) for share, (_, part) in zip(shares, parts)), np.float32
        )
        for key in ("mean", "active")
    }
    merged["lowest"] = np.min([part["lowest"] for _, part in parts], axis=0)
    merged["highest"] = np.max([part["highest"] for _, part in parts], axis=0)
    best: tuple[Array, Array] | None = None
    for index, (_, part) in enumerate(parts):
        sets = np.full((*part["patch_value"].shape, 1), index, np.int32)
        new = part["patch_value"], np.concatenate([sets, part["patch_place"]], -1)
        if best is not None:
            new = _best(np.concatenate([best[0], new[0]], 1), np.concatenate([best[1], new[1]], 1), places)
        best = new
    assert best is not None
    merged["patch_value"], merged["patch_place"] = _best(*best, places)
    return merged


def _best(values: Array, where: Array, count: int) -> tuple[Array, Array]:
    """Return the largest values ``(F, P)`` and their places ``(F, P, ...)``; the first of equal ones."""
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(values, order, 1), np.take_along_axis(where, order[..., None], 1)


class _LayerSummary:
    """The summary of one layer, batch by batch."""

    def __init__(self, layer: Layer, places: int) -> None:
        self.layer = layer
        self._places = places
        self._sums = torch.zeros(2, layer.units, dtype=torch.float64)
        self._lowest = torch.full((layer.units,), math.inf)
        self._highest = torch.full((layer.units,), -math.inf)
        self._values = torch.empty(layer.units, 0)
        self._where = torch.empty(layer.units, 0, 3, dtype=torch.int32)
        self._positions = 0
        self._images = 0

    def add(self, maps: Tensor, images: int) -> None:
        """Add the maps of some images."""
        maps_BUT = maps.movedim(self.layer.axis, -1).reshape(images, -1, self.layer.units).transpose(1, 2).float()
        self._sums += torch.stack([maps_BUT.double().sum((0, 2)), (maps_BUT > 0).sum((0, 2)).double()]).cpu()
        self._lowest = torch.minimum(self._lowest, maps_BUT.amin((0, 2)).cpu())
        values_BU, places_BU = (found.cpu() for found in maps_BUT.max(2))
        self._highest = torch.maximum(self._highest, values_BU.amax(0))
        self._remember(values_BU, places_BU, self._width(maps_BUT.shape[2]))
        self._positions += maps_BUT.shape[0] * maps_BUT.shape[2]
        self._images += images

    def finished(self) -> dict[str, Array]:
        """Return the arrays of the layer."""
        means = (self._sums / self._positions).float().numpy()
        summary = dict(zip(SUMMARIES, (means[0], self._lowest.numpy(), self._highest.numpy(), means[1])))
        return {**summary, "patch_value": self._values.numpy(), "patch_place": self._where.numpy()}

    def _width(self, positions: int) -> int:
        size = self.layer.map_size
        return size[1] if size is not None and size[0] * size[1] == positions else positions

    def _remember(self, values_BU: Tensor, places_BU: Tensor, width: int) -> None:
        image = (torch.arange(len(values_BU)) + self._images)[:, None].expand_as(places_BU)
        where = torch.stack([image, places_BU // width, places_BU % width], -1).int().transpose(0, 1)
        values, order = torch.cat([self._values, values_BU.T], 1).sort(dim=1, descending=True, stable=True)
        self._values, order = values[:, : self._places], order[:, : self._places]
        every = torch.cat([self._where, where], 1)
        self._where = every.gather(1, order[..., None].expand(*order.shape, 3))
