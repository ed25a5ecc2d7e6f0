"""The network as a bundle keeps it: layers and blocks, kernels and where they come from, places for the filters.

Shapes: O filters of a layer, I input channels per group, C over all groups, S sets, E edges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.circuits.bundle_document import BundleBlock, BundleLayer
from neurochains.circuits.projections import MOST_EDGES, grid, place, rotate
from neurochains.network import Filter, Layer, Network

__all__ = ["describe_blocks", "describe_layers", "edges_between", "graph_tensors", "place_filters"]

Array = NDArray[Any]
Sources = Sequence[Sequence[Filter]]
_LARGEST_HALF = 6e4


def describe_layers(network: Network, scored: Sequence[Layer]) -> tuple[BundleLayer, ...]:
    """Return all layers of a network, with what is known of them without it."""
    names = {layer.name for layer in scored}
    return tuple(_described(network, layer, layer.name in names) for layer in network.layers)


def describe_blocks(network: Network) -> tuple[BundleBlock, ...]:
    """Return the blocks of a network."""
    return tuple(BundleBlock(block.name, block.label, block.layers) for block in network.blocks)


def graph_tensors(network: Network, layers: Sequence[BundleLayer]) -> dict[str, Array]:
    """Return, for each scored layer, by its place among all: its kernels, and the filters behind each input channel.

    ``source_layers/N`` and ``source_units/N`` hold the filters of all channels, -1 being the image; ``source_ends/N``
    ``(C,)`` where those of each channel end.
    """
    places = {"input": -1, **{layer.name: index for index, layer in enumerate(layers)}}
    found: dict[str, Array] = {}
    for index, layer in enumerate(layers):
        if layer.scored:
            kernels = network.kernels(layer.name)
            found[f"weight/{index}"] = _half(kernels.weight.detach().float().cpu().numpy())
            filters = [source for channel in kernels.sources for source in channel]
            found[f"source_ends/{index}"] = np.cumsum([len(channel) for channel in kernels.sources], dtype=np.int64)
            found[f"source_layers/{index}"] = np.array([places[source.layer] for source in filters], np.int32)
            found[f"source_units/{index}"] = np.array([source.index for source in filters], np.int32)
    return found


def place_filters(
    layers: Sequence[BundleLayer],
    rows_of: Callable[[BundleLayer], Array | None],
    edges_of: Callable[[BundleLayer], tuple[Array, Sources]],
    *,
    method: str,
    seed: int,
    tell: Callable[[], None] = lambda: None,
) -> dict[str, Array]:
    """Return by layer name a place ``(O, 2)`` for each filter, each layer turned towards those before it.

    Args:
        layers: in order of execution.
        rows_of: gives the numbers ``(O, D)`` that describe the filters of a layer; None puts them on a grid.
        edges_of: gives the weights of a layer's kernels ``(O, I)``, and the filters behind each input channel.
        method: of `projections.METHODS`.
        seed: of UMAP.
        tell: called after each layer.
    """
    largest = max(layer.units for layer in layers)
    found: dict[str, Array] = {}
    for layer in layers:
        rows = rows_of(layer)
        if rows is None:
            found[layer.name] = grid(layer.units, largest=largest)
        else:
            points = place(rows, method=method, largest=largest, seed=seed)
            found[layer.name] = rotate(points, edges_between(layer, *edges_of(layer), found))
        tell()
    return found


def _described(network: Network, layer: Layer, scored: bool) -> BundleLayer:
    field = None if layer.map_size is None else network.receptive_field(layer.name)
    names = ("name", "label", "kind", "role", "units", "inputs", "groups", "map_size", "kernel", "stride")
    return BundleLayer(**{name: getattr(layer, name) for name in names}, scored=scored, field=field)


def _half(values: Array) -> Array:
    return values.astype(np.float16) if abs(values).max(initial=0) < _LARGEST_HALF else values


def edges_between(
    layer: BundleLayer, weights_OI: Array, sources: Sources, placed: Mapping[str, Array]
) -> tuple[Array, Array, Array]:
    """Return the heaviest kernels of a layer as edges from filters that have a place, as `rotate` takes them.

    Args:
        layer: whose kernels.
        weights_OI: how heavy each is; its absolute value counts.
        sources: the filters behind each input channel.
        placed: by layer name, the places ``(O, 2)`` of its filters.
    """
    sizes = np.abs(weights_OI).ravel()
    heaviest = np.argsort(-sizes, kind="stable")[:MOST_EDGES]
    targets, columns = np.divmod(heaviest, layer.shape[1])
    channels = targets // (layer.units // layer.groups) * layer.shape[1] + columns
    edges = [
        (target, placed[source.layer][source.index], sizes[kernel])
        for kernel, target, channel in zip(heaviest, targets, channels)
        for source in sources[channel]
        if source.layer in placed
    ]
    if not edges:
        return np.zeros(0, np.int64), np.zeros((0, 2)), np.zeros(0)
    found = tuple(np.array(column) for column in zip(*edges))
    return found[0], found[1], found[2]
