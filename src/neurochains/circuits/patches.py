"""The places in the data that a filter answers to most, and what the other filters of its layer answer there.

1. In each image, the position where the filter's map is largest (before the activation): at most one for each image.
2. The images with the largest such values, those above 0 only.
3. At each of these positions, the values of all *other* filters of the layer, negative ones as 0 (Hamblin and Alvarez
   2021, section 4.2).

The images are run twice, in batches, for all filters asked for at once; no more than one batch of maps is kept.

Shapes: N images, U units of the layer, S positions of its map, P patches of one filter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.data import Task
from neurochains.edit import tap
from neurochains.errors import LayerError, SettingsError
from neurochains.network import Filter, Layer, Network

__all__ = ["Patches", "top_patches"]


@dataclass(frozen=True, slots=True, eq=False)
class Patches:
    """The top patches of one filter, the largest value first.

    Attributes:
        filter: whose.
        images: ``(P,)``, the indices of the images in the task, each at most once.
        rows, columns: ``(P,)``, the position on the filter's map; 0 for a layer without rows and columns.
        boxes: ``(P, 4)``, what it sees of the input in pixels: top, left, bottom, right, ends exclusive.
        values: ``(P,)``, the filter's map there, before the activation; above 0.
        vectors: ``(P, U - 1)``, the other filters of the layer there, in their order, at least 0.
    """

    filter: Filter
    images: Tensor
    rows: Tensor
    columns: Tensor
    boxes: Tensor
    values: Tensor
    vectors: Tensor

    def __len__(self) -> int:
        return len(self.images)


def top_patches(
    network: Network,
    task: Task,
    layer: str,
    units: Sequence[int] | None = None,
    *,
    count: int = 300,
    batch_size: int = 64,
) -> tuple[Patches, ...]:
    """Return the top patches of filters of one layer, at most one patch from each image.

    Fewer than ``count`` come back where a filter answers to fewer images; equal values are taken in the order of the
    images.

    Args:
        network: the traced network.
        task: the images to look at; the more, the better.
        layer: dotted name or label.
        units: which filters; all if None.
        count: how many patches of each.
        batch_size: how many images are run at a time; the result does not depend on it.

    Raises:
        LayerError: there is no such layer or filter, or its values do not belong to single images.
        SettingsError: ``count`` or ``batch_size`` is below 1.
    """
    found = network.layer(layer)
    chosen = list(range(found.units)) if units is None else [_unit(found, unit) for unit in units]
    if count < 1 or batch_size < 1:
        raise SettingsError(f"Wanted at least one patch and one image in a batch, got {count} and {batch_size}.")
    maps = _Maps(network, task, found, batch_size)
    peaks, places = _peaks(maps, chosen)
    tops = [_top(peaks[:, column], count) for column in range(len(chosen))]
    vectors = _vectors(maps, tops, places)
    return tuple(
        _patches(network, found, unit, (top, peaks[top, column], places[top, column], vectors[column]))
        for column, (unit, top) in enumerate(zip(chosen, tops, strict=True))
    )


def _patches(network: Network, layer: Layer, unit: int, parts: tuple[Tensor, ...]) -> Patches:
    """Return the patches of one filter from its images, values, places on the flat map and vectors of all filters."""
    images, values, places, vectors = parts
    width = layer.map_size[1] if layer.map_size else 1
    rows, columns = places // width, places % width
    field = network.receptive_field(layer.name)
    boxes = [field.box(row, column) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
    others = torch.arange(vectors.shape[1]) != unit
    seen = torch.tensor(boxes, dtype=torch.int64).reshape(-1, 4)
    return Patches(Filter(layer.name, unit), images, rows, columns, seen, values, vectors[:, others])


def _unit(layer: Layer, unit: int) -> int:
    if not 0 <= unit < layer.units:
        raise LayerError(f"{layer.name} ({layer.label}) has {layer.units} filters, 0 to {layer.units - 1}; got {unit}.")
    return int(unit)


class _Maps:
    """The maps of one layer on the images of a task."""

    def __init__(self, network: Network, task: Task, layer: Layer, batch_size: int) -> None:
        self.units, self.count = layer.units, len(task)
        self._tapped = tap(network, [layer.name])
        self._dtype, self._layer, self._task, self._size = network.dtype, layer, task, batch_size

    @torch.no_grad()
    def of(self, images: Sequence[int]) -> Iterator[Tensor]:
        """Yield the maps ``(B, U, S)`` of some images, batch by batch, float32 on the CPU."""
        for start in range(0, len(images), self._size):
            batch = self._task.images[torch.as_tensor(images[start : start + self._size])].to(self._dtype)
            maps = self._tapped(batch)[1][self._layer.name]
            if maps.shape[0] != len(batch) or maps.ndim < 2:
                raise LayerError(f"The values of {self._layer.name} {tuple(maps.shape)} belong to no single images.")
            maps = maps.movedim(self._layer.axis, 1)
            yield (maps.flatten(2) if maps.ndim > 2 else maps[:, :, None]).float().cpu()


def _peaks(maps: _Maps, units: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the largest value of each image and filter, and the position it has: ``(N, units)`` twice."""
    found = [batch[:, units].max(2) for batch in maps.of(range(maps.count))]
    return torch.cat([peak.values for peak in found]), torch.cat([peak.indices for peak in found])


def _top(peaks: Tensor, count: int) -> Tensor:
    """Return the images with the largest values ``(P,)``, those above 0."""
    order = peaks.argsort(descending=True, stable=True)[:count]
    return order[peaks[order] > 0]


def _vectors(maps: _Maps, tops: Sequence[Tensor], places: Tensor) -> list[Tensor]:
    """Return, for each filter, the values of all filters at its patches: ``(P, U)``, at least 0."""
    wanted = torch.cat(list(tops)).unique().tolist()
    row_of = {image: row for row, image in enumerate(wanted)}
    vectors = [torch.zeros(len(top), maps.units) for top in tops]
    rows = [torch.tensor([row_of[image] for image in top.tolist()], dtype=torch.int64) for top in tops]
    start = 0
    for batch in maps.of(wanted):
        for column, (top, row) in enumerate(zip(tops, rows, strict=True)):
            here = ((row >= start) & (row < start + len(batch))).nonzero().flatten()
            vectors[column][here] = batch[row[here] - start, :, places[top[here], column]].clamp(min=0)
        start += len(batch)
    return vectors
