"""What the figures of the explorer draw: a network with scores on it, as arrays.

Shapes: N nodes (input channels and filters), E edges (kernels), L + 1 columns: the input and L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Arc", "CircuitView", "NetworkView", "typed"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Arc:
    """What passes layers by, from one column to another; `block` names a block that can be skipped."""

    start: int
    end: int
    said: str
    block: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class NetworkView:
    """A network with scores.

    Attributes:
        layers: the labels of the columns, ``"input"`` first, ``(L + 1,)``.
        column: of each node, ``(N,)``.
        places: of each node in the plane of its column, ``(N, 2)``.
        scores: of each node, ``(N,)``; NaN for input channels.
        relative: the same as a share of the largest of the layer, ``(N,)``, from 0 to 1.
        shown: which nodes pass the threshold, bool ``(N,)``.
        labels: of each node, such as ``"L3_5"``.
        edges: source and target node of each kernel, ``(E, 2)``.
        strength: of each kernel, as a share of the largest of its layer, ``(E,)``.
        balance: of each kernel, from -1 (inhibits) to 1 (excites), ``(E,)``.
        arcs: what passes layers by.
    """

    layers: Sequence[str]
    column: Array
    places: Array
    scores: Array
    relative: Array
    shown: Array
    labels: Sequence[str]
    edges: Array
    strength: Array
    balance: Array
    arcs: Sequence[Arc] = ()


@dataclass(frozen=True, slots=True, eq=False)
class CircuitView:
    """A part of a network small enough to be read: some nodes and edges of a `NetworkView`, with pictures.

    Attributes:
        network: the whole.
        nodes: the nodes that are drawn, by number.
        edges: the edges that are drawn, by number.
        thumbnails: by node, a picture as a data address.
        kernels: by edge, its kernel as a picture.
    """

    network: NetworkView
    nodes: Sequence[int]
    edges: Sequence[int]
    thumbnails: dict[int, str]
    kernels: dict[int, str]


def typed(values: Any, kind: str = "f4") -> dict[str, str]:
    """Return numbers as plotly reads them fastest and shortest: their bytes in base64, with their shape.

    >>> typed([1, 2], "i1")
    {'dtype': 'i1', 'bdata': 'AQI='}
    """
    import base64

    array = np.ascontiguousarray(values, dtype=f"<{kind}" if kind[-1] != "1" else kind)
    found = {"dtype": kind, "bdata": base64.b64encode(array.tobytes()).decode("ascii")}
    return found if array.ndim == 1 else {**found, "shape": ", ".join(map(str, array.shape))}
