"""What a bundle holds of all sets together: the overall importance, the best patches, and places for the filters.

Shapes: F filters, K kernels, S sets, P patches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.circuits.bundle_document import BundleLayer
from neurochains.circuits.bundle_files import BundleFolder, set_file
from neurochains.circuits.bundle_graph import place_filters
from neurochains.circuits.bundle_numbers import SUMMARIES, Spans, pack, unpack
from neurochains.circuits.summaries import merge
from neurochains.network import Network

__all__ = ["overall", "projection"]

Array = NDArray[Any]
_PATCHES = ("patch_value", "patch_place")


def overall(
    folder: BundleFolder, spans: Spans, counts: Sequence[int], *, kernels: bool, patches: int
) -> dict[str, Array]:
    """Return the numbers over all images, each image counting the same.

    Args:
        folder: of the bundle, with the files of all sets.
        spans: where each layer lies.
        counts: how many images each set has.
        kernels: whether the sets hold those of kernels.
        patches: how many places to keep for each filter.

    Returns:
        As of a set, and ``sets`` ``(S, F)``: the importance of each filter for each set.
    """
    total, sums = sum(counts), np.zeros(spans.kernels if kernels else 0)
    filters, parts = [], []
    for index, count in enumerate(counts):
        found = folder.read(set_file(index), _wanted(spans, min(count, patches), kernels))
        filters.append(found["filters"])
        if kernels:
            sums += unpack(found, spans) * (count / total)
        parts.append((count, {key: found[key] for key in (*SUMMARIES, *_PATCHES)}))
    every = np.stack(filters)
    numbers = {"sets": every, "filters": (np.array(counts) / total @ every).astype(np.float32)}
    return {**numbers, **(pack(sums, spans) if kernels else {}), **merge(parts, places=patches)}


def projection(
    kind: str,
    network: Network,
    layers: Sequence[BundleLayer],
    rows: Mapping[str, Array],
    numbers: Mapping[str, Array],
    *,
    method: str,
    seed: int,
    tell: Callable[[], None],
) -> dict[str, Array]:
    """Return the tensors of a projection's file: by the place of a layer among all, ``(O, 2)``.

    Args:
        kind: ``"grid"``, or what describes the filters otherwise.
        network: the traced network.
        layers: all layers.
        rows: by layer name ``(O, D)``, what describes each filter.
        numbers: the overall numbers; the kernels among them weigh the edges, else the size of the weights does.
        method: of `projections.METHODS`.
        seed: of UMAP.
        tell: called after each layer.
    """
    scored = [layer for layer in layers if layer.scored]
    spans = Spans(scored)
    kernels = spans.kernels_of(unpack(numbers, spans)) if "kernels" in numbers else {}
    found = place_filters(
        scored,
        lambda layer: None if kind == "grid" else rows[layer.name],
        lambda layer: (kernels.get(layer.name, _sizes(network, layer)), network.sources(layer.name)),
        method=method,
        seed=seed,
        tell=tell,
    )
    places = {layer.name: str(index) for index, layer in enumerate(layers)}
    return {places[name]: points.astype(np.float32) for name, points in found.items()}


def _sizes(network: Network, layer: BundleLayer) -> Array:
    """Return the mean absolute weight of each kernel of a layer, ``(O, I)``."""
    weight = network.kernels(layer.name).weight.detach().abs().cpu().float()
    return weight.reshape(*layer.shape, -1).mean(-1).numpy()


def _wanted(spans: Spans, places: int, kernels: bool) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    shape = (spans.filters, places)
    patches = {"patch_value": ("F32", shape), "patch_place": ("I32", (*shape, 3))}
    return {**spans.wanted(kernels=kernels), **patches}
