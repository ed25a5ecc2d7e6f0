"""The network with a query's scores on it: which filters are shown, which kernels between them, and how many there are.

1. Of each layer, the filters that together carry a share of its score.
2. Into each of these, the kernels from shown filters (or the image) that together carry a share of what comes in.
3. Of all these, the `MOST_EDGES` with the largest share of their layer.

Shapes: O filters of a layer, I input channels per group, N nodes, E edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.circuits.bundle_document import BundleLayer
from neurochains.explorer.asking import Answer, above, answer
from neurochains.explorer.desk import Desk
from neurochains.explorer.view import View
from neurochains.network import Filter
from neurochains.pictures.explorer_view import Arc, NetworkView

__all__ = ["MOST_EDGES", "Drawn", "balance", "draw", "reach"]

Array = NDArray[Any]
MOST_EDGES = 2000


@dataclass(frozen=True, eq=False)
class Drawn:
    """The network as it is drawn.

    Attributes:
        view: what the figures need.
        units: the filter of each node; those of ``"input"`` come first.
        kernels: of each edge the filter and the column, 0 to I - 1.
        total: how many kernels there would be without the limit.
        filters: how many filters are shown, of how many.
    """

    view: NetworkView
    units: tuple[Filter, ...]
    kernels: tuple[tuple[Filter, int], ...]
    total: int
    filters: tuple[int, int]

    def node(self, unit: Filter | None) -> int:
        """Return the number of a filter's node, -1 where it has none."""
        return -1 if unit is None else self._nodes.get(unit, -1)

    @cached_property
    def _nodes(self) -> dict[Filter, int]:
        return {unit: number for number, unit in enumerate(self.units)}


def draw(desk: Desk, view: View) -> Drawn:
    """Return the network as a view draws it.

    Raises:
        NotMeasured: the query has to be measured first.
        ExpressionError, SettingsError, LayerError, ArtifactError: it cannot be answered.
    """
    names = ("expression", "target", "criterion", "normalise", "layers", "filters", "kernels", "projection")
    key = tuple(view.part(*names).values())
    found = answer(desk, view)
    return desk.graphs.get(key, lambda: _draw(desk, view, found))


def reach(desk: Desk, layer: BundleLayer, kept: Mapping[str, Array]) -> Array:
    """Return which input channels of a layer, over all groups, a kept filter or the image reaches: bool ``(C,)``."""
    return np.array(
        [
            any(unit.layer == "input" or (unit.layer in kept and kept[unit.layer][unit.index]) for unit in channel)
            for channel in desk.sources(layer.name)
        ]
    )


def balance(weights: Array) -> Array:
    """Return ``sum(w) / sum |w|`` over the last axis, of flat kernels: -1 inhibits, 1 excites, 0 where all is 0."""
    flat = weights.astype(np.float32)
    sizes = np.abs(flat).sum(-1)
    return np.divide(flat.sum(-1), sizes, out=np.zeros_like(sizes), where=sizes > 0)


def _draw(desk: Desk, view: View, found: Answer) -> Drawn:
    layers = [layer for layer in desk.bundle.spans.layers if layer.name in found.filters]
    kept = {layer.name: above(found.filters[layer.name], view.filters) for layer in layers}
    parts = [_Part.of(desk, view, layer, found, kept) for layer in layers]
    shown = _strongest(parts)
    units = _units(desk, layers)
    places = {unit: number for number, unit in enumerate(units)}
    edges = list(_edges(desk, parts, shown, kept, places))
    columns = np.array([row for row, *_ in edges], np.int32).reshape(-1, 2)
    values = np.array([row[2:] for row in edges], np.float32).reshape(-1, 2)
    network = _network_view(desk, view, layers, found, kept, units, columns, values)
    kernels = tuple(row[1] for row in edges)
    counts = (sum(int(mask.sum()) for mask in kept.values()), sum(len(mask) for mask in kept.values()))
    return Drawn(network, units, kernels, sum(len(part.rows) for part in parts), counts)


@dataclass(frozen=True, eq=False)
class _Part:
    """The kernels of one layer that pass the threshold: filter, column, share of the layer's largest, balance."""

    layer: BundleLayer
    rows: Array
    columns: Array
    strength: Array
    balance: Array

    @classmethod
    def of(cls, desk: Desk, view: View, layer: BundleLayer, found: Answer, kept: Mapping[str, Array]) -> _Part:
        chosen = np.flatnonzero(kept[layer.name])
        channels = reach(desk, layer, kept)
        offsets = chosen // (layer.units // layer.groups) * layer.shape[1]
        columns = np.arange(layer.shape[1])
        scores = found.kernels[layer.name][chosen] * channels[offsets[:, None] + columns]
        rows, cols = np.nonzero(above(scores, view.kernels)) if scores.size else (np.zeros(0, int),) * 2
        strength = scores[rows, cols] / (scores.max(initial=0) or 1)
        flat = desk.weights(layer.name).reshape(*layer.shape, math.prod(layer.kernel))
        return cls(layer, chosen[rows], cols, strength, balance(flat[chosen[rows], cols]))


def _strongest(parts: list[_Part]) -> list[Array]:
    """Return which kernels of each part to draw: the strongest of all together, in order of strength."""
    strengths = np.concatenate([part.strength for part in parts]) if parts else np.zeros(0)
    if len(strengths) <= MOST_EDGES:
        return [np.arange(len(part.rows)) for part in parts]
    chosen = np.sort(np.argpartition(-strengths, MOST_EDGES)[:MOST_EDGES])
    ends = np.cumsum([len(part.rows) for part in parts])
    cuts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [cut - start for cut, start in zip(cuts, [0, *ends[:-1]])]


def _units(desk: Desk, layers: list[BundleLayer]) -> tuple[Filter, ...]:
    inputs = [Filter("input", channel) for channel in range(desk.bundle.document.input_shape[0])]
    return (*inputs, *(Filter(layer.name, index) for layer in layers for index in range(layer.units)))


def _edges(
    desk: Desk, parts: list[_Part], shown: list[Array], kept: Mapping[str, Array], places: Mapping[Filter, int]
) -> Iterator[tuple[Any, ...]]:
    """Yield (source node, target node), (filter, column), strength, balance; one for each filter behind a channel."""
    for part, chosen in zip(parts, shown):
        sources = desk.sources(part.layer.name) if len(chosen) else ()
        width, per_group = part.layer.shape[1], part.layer.units // part.layer.groups
        for index in chosen.tolist():
            unit = Filter(part.layer.name, int(part.rows[index]))
            column = int(part.columns[index])
            channel = unit.index // per_group * width + column
            strength, tone = float(part.strength[index]), float(part.balance[index])
            source = _loudest(sources[channel], kept)
            if source is not None and source in places:
                yield (places[source], places[unit]), (unit, column), strength, tone


def _loudest(units: tuple[Filter, ...], kept: Mapping[str, Array]) -> Filter | None:
    """Return the filter to draw a kernel from: of those behind its channel that are shown, the nearest to it."""
    shown = [u for u in units if u.layer == "input" or (u.layer in kept and kept[u.layer][u.index])]
    return shown[-1] if shown else None


def _network_view(
    desk: Desk, view: View, layers: list[BundleLayer], found: Answer, kept: Mapping[str, Array],
    units: tuple[Filter, ...], edges: Array, values: Array,
) -> NetworkView:  # fmt: skip
    inputs = desk.bundle.document.input_shape[0]
    spread = np.linspace(-0.3, 0.3, inputs) if inputs > 1 else np.zeros(1)
    places = [np.stack([np.zeros(inputs), spread], 1), *(desk.places(x.name, view.projection) for x in layers)]
    scores = [found.filters[layer.name] for layer in layers]
    return NetworkView(
        layers=("input", *(layer.label for layer in layers)),
        column=np.repeat(np.arange(len(layers) + 1), [inputs, *(layer.units for layer in layers)]),
        places=np.concatenate(places).astype(np.float32),
        scores=np.concatenate([np.full(inputs, np.nan), *scores]),
        relative=np.concatenate([np.ones(inputs), *(values / (values.max() or 1) for values in scores)]),
        shown=np.concatenate([np.ones(inputs, bool), *(kept[layer.name] for layer in layers)]),
        labels=tuple(desk.label(unit) for unit in units),
        edges=edges,
        strength=values[:, 0],
        balance=values[:, 1],
        arcs=tuple(_arcs(desk, layers)),
    )


def _arcs(desk: Desk, layers: list[BundleLayer]) -> Iterator[Arc]:
    """Yield what passes layers by: blocks that can be skipped, and streams that reach further than the next layer."""
    numbers = {layer.name: place for place, layer in enumerate(layers, 1)}
    for place, layer in enumerate(layers, 1):
        before = {numbers[u.layer] for channel in desk.sources(layer.name) for u in channel if u.layer in numbers}
        far = sorted(before - {place - 1})
        if far and place - 1 in before:
            yield Arc(far[-1], place, "stream")
    for block in desk.bundle.blocks:
        inside = [numbers[name] for name in block.layers if name in numbers]
        if inside and min(inside) > 0:
            yield Arc(min(inside) - 1, max(inside), f"block {block.label}", block.name)
