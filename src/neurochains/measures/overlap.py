"""The overlap of sub-networks: which filters they have in common, layer by layer.

With the sets A and B of kept filters, their scores s and t, and a and b of them kept in a layer of n:

- overlap ``|A & B| / |A | B|`` (intersection over union), of a layer or of all;
- weighted: ``sum min(s, t) / sum max(s, t)`` over all filters (Ruzicka), where scores of a chain sum to 1;
- by chance: what sets of the same sizes, drawn at random in each layer, would have on average, to first order:
  ``sum ab/n / (|A| + |B| - sum ab/n)``.

Shapes: C chains, L layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["by_chance", "by_layer", "chance_by_layer", "join", "overlap", "weighted"]

Array = NDArray[np.float64]
Units = Sequence[Mapping[str, Tensor]]


def overlap(kept: Units) -> Array:
    """Return the intersection over union ``(C, C)`` of all filters; two empty sets overlap wholly."""
    flat = np.stack([np.concatenate([values.numpy() != 0 for values in units.values()]) for units in kept])
    return _ratio(flat.astype(float))


def by_layer(kept: Units) -> Array:
    """Return the intersection over union ``(L, C, C)`` in each layer; NaN where neither chain keeps a filter there."""
    layers = [np.stack([units[name].numpy() != 0 for units in kept]).astype(float) for name in kept[0]]
    return np.stack([_ratio(flags, empty=np.nan) for flags in layers])


def weighted(kept: Units) -> Array:
    """Return the overlap ``(C, C)`` weighted by score, each chain's scores divided by their sum."""
    flat = np.stack([np.concatenate([values.numpy() for values in units.values()]) for units in kept]).astype(float)
    flat /= np.maximum(flat.sum(1, keepdims=True), 1e-12)
    found = np.ones((len(flat), len(flat)))
    for row, values in enumerate(flat):
        smaller, larger = np.minimum(values, flat).sum(1), np.maximum(values, flat).sum(1)
        found[row] = np.where(larger > 0, smaller / np.maximum(larger, 1e-12), 1.0)
    return found


def by_chance(kept: Units) -> Array:
    """Return the overlap ``(C, C)`` that chance would give sets of these sizes in each layer; 1 on the diagonal."""
    shared, total = (part.sum(0) for part in _expected(kept))
    found = np.where(total > shared, shared / np.maximum(total - shared, 1e-12), 1.0)
    np.fill_diagonal(found, 1.0)
    return found


def chance_by_layer(kept: Units) -> Array:
    """Return the same in each layer ``(L, C, C)``; NaN where neither chain keeps a filter there."""
    shared, total = _expected(kept)
    return np.where(total > shared, shared / np.maximum(total - shared, 1e-12), np.nan)


def _expected(kept: Units) -> tuple[Array, Array]:
    """Return by layer ``(L, C, C)`` the expected size of the intersection, and the sum of both sizes."""
    sizes = np.stack([[int(values.count_nonzero()) for values in units.values()] for units in kept], 1).astype(float)
    widths = np.array([len(values) for values in kept[0].values()], dtype=float)
    return sizes[:, :, None] * sizes[:, None] / widths[:, None, None], sizes[:, :, None] + sizes[:, None]


def join(distance: Array) -> Array:
    """Return the tree of average linkage (UPGMA) ``(C - 1, 4)``: what is joined, at what distance, how many chains.

    Rows are ordered by distance; the node that row i makes has the number C + i. The pair with the smaller numbers is
    joined first among equals.
    """
    count = len(distance)
    nodes = dict.fromkeys(range(count), 1)
    between = {(a, b): float(distance[a, b]) for a in range(count) for b in range(a + 1, count)}
    rows = []
    for step in range(count - 1):
        (a, b), height = min(between.items(), key=lambda item: (item[1], item[0]))
        size = nodes[a] + nodes[b]
        rows.append((a, b, height, size))
        for other in nodes.keys() - {a, b}:
            apart = [between.pop(_ordered(other, part)) * nodes[part] for part in (a, b)]
            between[other, count + step] = sum(apart) / size
        del between[a, b], nodes[a], nodes[b]
        nodes[count + step] = size
    return np.array(rows, dtype=float).reshape(-1, 4)


def _ratio(flags: Array, *, empty: float = 1.0) -> Array:
    """Return the intersection over union ``(C, C)`` of flags ``(C, n)``."""
    both = flags @ flags.T
    either = flags.sum(1)[:, None] + flags.sum(1)[None] - both
    return np.where(either > 0, both / np.maximum(either, 1.0), empty)


def _ordered(one: int, other: int) -> tuple[int, int]:
    return (one, other) if one < other else (other, one)
