"""Receptive fields: the input pixels that a position of a map can see.

Along each axis, output row ``r`` sees the input rows ``[r * jump + low, r * jump + high]``. A convolution or pooling
with kernel ``k``, stride ``s``, padding ``p`` and dilation ``d`` maps ``(jump, low, high)`` to
``(jump * s, low - p * jump, high + (d * (k - 1) - p) * jump)``; where branches meet, the union is taken; an operation
that mixes positions (global pooling, attention, flatten into a linear layer) sees everything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from neurochains.network.graph import node_shape, tensor_inputs
from neurochains.network.layers import CONVOLUTIONS
from neurochains.network.provenance import KEEPING

aten = torch.ops.aten

__all__ = ["ReceptiveField", "receptive_fields"]


@dataclass(frozen=True, slots=True)
class Reach:
    """What one axis of a map sees: row ``r`` sees input rows ``r * jump + low`` to ``r * jump + high``."""

    jump: float = 1.0
    low: float = 0.0
    high: float = 0.0

    def window(self, kernel: int, stride: int, padding: int, dilation: int) -> Reach:
        span = dilation * (kernel - 1)
        low, high = self.low - padding * self.jump, self.high + (span - padding) * self.jump
        return Reach(self.jump * stride, low, high)


EVERYTHING = Reach(0.0, -math.inf, math.inf)
Pair = tuple[Reach, Reach]


@dataclass(frozen=True, slots=True)
class ReceptiveField:
    """The field of one map: per axis the distance of neighbours and the extent, on an input of ``image`` pixels."""

    rows: Reach
    columns: Reach
    image: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of one position's field; at most the image."""
        extents = [reach.high - reach.low + 1 for reach in (self.rows, self.columns)]
        height, width = (int(min(extent, side)) for extent, side in zip(extents, self.image, strict=True))
        return height, width

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return (top, left, bottom, right) of what one position sees, clipped to the image; ends exclusive."""
        top, bottom = _clip(self.rows, row, self.image[0])
        left, right = _clip(self.columns, column, self.image[1])
        return top, left, bottom, right


def receptive_fields(graph: fx.Graph) -> dict[fx.Node, ReceptiveField]:
    """Return the receptive field of every tensor that has rows and columns."""
    reaches: dict[fx.Node, Pair] = {}
    image = (1, 1)
    for node in graph.nodes:
        if node.op == "placeholder" and len(node_shape(node)) == 4:
            image = node_shape(node)[2:]
            reaches[node] = (Reach(), Reach())
        elif node.op == "call_function" and tensor_inputs(node):
            reaches[node] = _reach(node, [reaches.get(arg, (EVERYTHING, EVERYTHING)) for arg in tensor_inputs(node)])
    return {node: ReceptiveField(*pair, image) for node, pair in reaches.items()}


def _clip(reach: Reach, position: int, side: int) -> tuple[int, int]:
    if math.isinf(reach.high):
        return 0, side
    first, last = position * reach.jump + reach.low, position * reach.jump + reach.high
    start = min(max(math.floor(first), 0), side - 1)
    return start, max(min(math.ceil(last) + 1, side), start + 1)


def _reach(node: fx.Node, inputs: Sequence[Pair]) -> Pair:
    shape, source = node_shape(node), node_shape(tensor_inputs(node)[0])
    if node.target in CONVOLUTIONS:
        return _convolved(node, inputs[0])
    if node.target in _WINDOWS:
        return _pooled(node, inputs[0])
    if node.target in (aten.pad.default, aten.constant_pad_nd.default):
        return _padded(node, inputs[0])
    if node.target is aten.slice.Tensor and len(shape) == 4:
        return _sliced(node, inputs[0])
    if node.target in _KEEP_PLACES or (node.target in KEEPING and len(shape) == 4):
        return _united(inputs) if _maps(shape) and len(shape) == len(source) else (EVERYTHING, EVERYTHING)
    return EVERYTHING, EVERYTHING


_WINDOWS = frozenset({aten.max_pool2d.default, aten.avg_pool2d.default, aten.max_pool2d_with_indices.default})
_KEEP_PLACES = frozenset(
    {
        aten.add.Tensor,
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.div.Tensor,
        aten.maximum.default,
        aten.cat.default,
        aten.permute.default,
        aten.linear.default,
        aten.clone.default,
    }
)


def _maps(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4


def _united(pairs: Sequence[Pair]) -> Pair:
    rows, columns = zip(*pairs, strict=True)
    return _union(rows), _union(columns)


def _union(reaches: Sequence[Reach]) -> Reach:
    known = [reach for reach in reaches if not math.isinf(reach.high)]
    if len(known) < len(reaches):  # a modulation sees everything but moves nothing: the map's own field counts
        return known[0] if len(known) == 1 else EVERYTHING
    if len({reach.jump for reach in known}) > 1:
        return EVERYTHING
    return Reach(known[0].jump, min(reach.low for reach in known), max(reach.high for reach in known))


def _pair(value: Any) -> tuple[int, int]:
    values = [value] if isinstance(value, int) else list(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _argument(node: fx.Node, position: int, default: Any) -> Any:
    value = node.args[position] if len(node.args) > position else default
    return default if value == [] else value


def _convolved(node: fx.Node, pair: Pair) -> Pair:
    if len(node_shape(node)) != 4:
        return EVERYTHING, EVERYTHING
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    kernel = tuple(weight.meta["val"].shape[2:])
    stride, dilation = _pair(_argument(node, 3, 1)), _pair(_argument(node, 5, 1))
    padding = _argument(node, 4, 0)
    if isinstance(padding, str):
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    return _window(pair, kernel, stride, _pair(padding), dilation)


def _pooled(node: fx.Node, pair: Pair) -> Pair:
    kernel = _pair(node.args[1])
    stride, padding = _pair(_argument(node, 2, kernel)), _pair(_argument(node, 3, 0))
    dilation = (1, 1) if node.target is aten.avg_pool2d.default else _pair(_argument(node, 4, 1))
    return _window(pair, kernel, stride, padding, dilation)


def _window(pair: Pair, kernel, stride, padding, dilation) -> Pair:
    rows = pair[0].window(kernel[0], stride[0], padding[0], dilation[0])
    columns = pair[1].window(kernel[1], stride[1], padding[1], dilation[1])
    return rows, columns


def _padded(node: fx.Node, pair: Pair) -> Pair:
    pads = list(node.args[1])  # type: ignore[arg-type]
    left, top = (pads[0] if pads else 0), (pads[2] if len(pads) > 2 else 0)
    return _shift(pair[0], -top), _shift(pair[1], -left)


def _shift(reach: Reach, by: float) -> Reach:
    return Reach(reach.jump, reach.low + by * reach.jump, reach.high + by * reach.jump)


def _sliced(node: fx.Node, pair: Pair) -> Pair:
    axis, start, step = _argument(node, 1, 0), _argument(node, 2, 0) or 0, _argument(node, 4, 1)
    if axis not in (2, 3) or not isinstance(start, int) or start < 0:
        return pair
    moved = _shift(pair[axis - 2], start)
    moved = Reach(moved.jump * step, moved.low, moved.high)
    return (moved, pair[1]) if axis == 2 else (pair[0], moved)
