"""The numbers of a bundle: how those of all layers lie behind one another, and how they are packed.

The filters of all scored layers are one vector, and so are their kernels, layer by layer in order of execution and row
by row within a layer. Kernels are kept as float16, each layer divided by its largest absolute value: what is read back
is within 0.05 % of the value, or 3e-8 of the layer's largest. All else is float32.

Shapes: F filters and K kernels of all L scored layers, P patches, N images, S sets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.circuits.bundle_document import BundleLayer

__all__ = ["SUMMARIES", "Spans", "pack", "unpack"]

SUMMARIES = ("mean", "lowest", "highest", "active")
"""Of a filter's map before the activation, over images and positions; ``active`` is the share of values above 0."""

Array = NDArray[Any]


@dataclass(frozen=True)
class Spans:
    """Where each scored layer lies in the vectors of filters and kernels."""

    layers: Sequence[BundleLayer]

    @cached_property
    def filters(self) -> int:
        """How many filters there are."""
        return sum(layer.units for layer in self.layers)

    @cached_property
    def kernels(self) -> int:
        """How many kernels there are."""
        return sum(math.prod(layer.shape) for layer in self.layers)

    @cached_property
    def starts(self) -> dict[str, tuple[int, int]]:
        """By layer name, the places of its first filter and its first kernel."""
        found, filters, kernels = {}, 0, 0
        for layer in self.layers:
            found[layer.name] = filters, kernels
            filters, kernels = filters + layer.units, kernels + math.prod(layer.shape)
        return found

    def filters_of(self, flat: Array) -> dict[str, Array]:
        """Return the vector of filters cut into layers, ``(O,)`` each; views."""
        return {
            layer.name: flat[self.starts[layer.name][0] : self.starts[layer.name][0] + layer.units]
            for layer in self.layers
        }

    def kernels_of(self, flat: Array) -> dict[str, Array]:
        """Return the vector of kernels cut into layers, ``(O, I)`` each; views."""
        parts = {}
        for layer in self.layers:
            start = self.starts[layer.name][1]
            parts[layer.name] = flat[start : start + math.prod(layer.shape)].reshape(layer.shape)
        return parts

    def joined(self, parts: Mapping[str, Array], *, kernels: bool) -> Array:
        """Return the vector that layers make, float64; those that are not given are 0."""
        shapes = [layer.shape if kernels else (layer.units,) for layer in self.layers]
        found = [
            np.asarray(parts[layer.name], np.float64).reshape(-1) if layer.name in parts else np.zeros(math.prod(shape))
            for layer, shape in zip(self.layers, shapes)
        ]
        return np.concatenate(found)

    def bytes_of_a_set(self, images: int, patches: int, *, kernels: bool) -> int:
        """Return the length of a set's file without its pictures."""
        numbers = 4 * self.filters * (1 + len(SUMMARIES))
        chosen = 16 * self.filters * min(images, patches)
        packed = 2 * self.kernels + 4 * len(self.layers) if kernels else 0
        return numbers + chosen + packed + 8 * images + _HEADER

    def wanted(self, *, kernels: bool) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Return the types and shapes of a set's importances and summaries, as `BundleFolder.read` wants them."""
        found: dict[str, tuple[str, tuple[int | None, ...]]] = {"filters": ("F32", (self.filters,))}
        found |= dict.fromkeys(SUMMARIES, ("F32", (self.filters,)))
        return found | (self.wanted_kernels() if kernels else {})

    def wanted_kernels(self) -> dict[str, tuple[str, tuple[int | None, ...]]]:
        """Return the same of a set's kernels alone."""
        return {"kernels": ("F16", (self.kernels,)), "scales": ("F32", (len(self.layers),))}


_HEADER = 2048


def pack(flat: Array, spans: Spans) -> dict[str, Array]:
    """Return a vector of kernels ``(K,)`` as it is kept: ``kernels`` float16 and ``scales`` ``(L,)`` float32."""
    scales = np.array([abs(part).max(initial=0) for part in spans.kernels_of(flat).values()], np.float32)
    return {"kernels": (flat / _spread(scales, spans)).astype(np.float16), "scales": scales}


def unpack(packed: Mapping[str, Array], spans: Spans) -> Array:
    """Return the vector of kernels ``(K,)`` that `pack` packed, float32."""
    flat = packed["kernels"].astype(np.float32)
    for part, scale in zip(spans.kernels_of(flat).values(), packed["scales"]):
        part *= scale
    return flat


def _spread(scales: Array, spans: Spans) -> Array:
    """Return, for each kernel, what it is divided by; 1 in a layer of zeros."""
    sizes = [math.prod(layer.shape) for layer in spans.layers]
    return np.repeat(np.where(scales > 0, scales, 1).astype(np.float64), sizes)
