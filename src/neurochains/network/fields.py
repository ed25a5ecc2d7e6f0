"""Receptive fields: the input pixels that a position of a map can see.

Along each axis, output row ``r`` sees the input rows ``[r * jump + low, r * jump + high]``. A convolution or pooling
with kernel ``k``, stride ``s``, padding ``p`` and dilation ``d`` maps ``(jump, low, high)`` to
``(jump * s, low - p * jump, high + (d * (k - 1) - p) * jump)``; where branches meet, the union is taken; an operation
that mixes positions (global pooling, attention, flatten into a linear layer) sees everything. What only rescales a map
(squeeze-and-excitation, the statistics of a normalisation) does not count.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from neurochains.network.nodes import argument, as_list, node_shape, shape_at, tensor_inputs
from neurochains.network.operations import BINARY, CONVOLUTIONS, KEEPING, PADDING

aten = torch.ops.aten

__all__ = ["ReceptiveField", "receptive_fields"]


@dataclass(frozen=True, slots=True)
class Reach:
    """What one axis of a map sees: row ``r`` sees input rows ``r * jump + low`` to ``r * jump + high``."""

    jump: float = 1.0
    low: float = 0.0
    high: float = 0.0

    def through(self, kernel: int, stride: int, padding: int, dilation: int) -> Reach:
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
    image: tuple[int, int] = (1, 1)
    for node in graph.nodes:
        if node.op == "placeholder" and len(node_shape(node)) == 4:
            image = node_shape(node)[2], node_shape(node)[3]
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


_ANYWHERE: Pair = (EVERYTHING, EVERYTHING)
_WINDOWS = frozenset({aten.max_pool2d.default, aten.avg_pool2d.default, aten.max_pool2d_with_indices.default})
_ENLARGING = frozenset(
    {
        aten.upsample_nearest2d.vec,
        aten.upsample_nearest2d.default,
        aten.upsample_bilinear2d.vec,
        aten.upsample_bilinear2d.default,
    }
)
_SCALING = frozenset({aten.mul.Tensor, aten.div.Tensor})
_JOINING = (BINARY - _SCALING) | {aten.cat.default}
_STAYING = KEEPING | {aten.clone.default, aten.contiguous.default, aten.linear.default, operator.getitem}
_TO_LAST, _TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


def _reach(node: fx.Node, inputs: Sequence[Pair]) -> Pair:
    if len(_sizes(node)) != 4 or len(_sizes(tensor_inputs(node)[0])) != 4:
        return _ANYWHERE
    for operations, rule in _RULES:
        if node.target in operations:
            return rule(node, inputs[0])
    if node.target in _JOINING:
        return _united(inputs)
    if node.target in _SCALING:
        return _united([pair for pair in inputs if pair != _ANYWHERE])
    return inputs[0] if node.target in _STAYING else _ANYWHERE


def _sizes(node: fx.Node) -> tuple[int, ...]:
    """Return a tensor's shape, the first one's of a list."""
    value = node.meta["val"]
    return shape_at(value[0] if isinstance(value, (tuple, list)) else value)


def _united(pairs: Sequence[Pair]) -> Pair:
    if not pairs:
        return _ANYWHERE
    rows, columns = zip(*pairs, strict=True)
    return _union(rows), _union(columns)


def _union(reaches: Sequence[Reach]) -> Reach:
    if len({reach.jump for reach in reaches}) > 1:
        return EVERYTHING
    return Reach(reaches[0].jump, min(reach.low for reach in reaches), max(reach.high for reach in reaches))


def _both(value: Any) -> tuple[int, int]:
    values = as_list(value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _convolved(node: fx.Node, pair: Pair) -> Pair:
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    kernel = tuple(weight.meta["val"].shape[2:])
    stride, dilation = _both(argument(node, 3, 1)), _both(argument(node, 5, 1))
    padding = argument(node, 4, 0)
    if isinstance(padding, str):
        padding = [d * (k - 1) // 2 if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)]
    return _window(pair, (kernel, stride, _both(padding), dilation))


def _pooled(node: fx.Node, pair: Pair) -> Pair:
    kernel = _both(node.args[1])
    stride, padding = _both(argument(node, 2) or kernel), _both(argument(node, 3, 0))
    dilation = (1, 1) if node.target is aten.avg_pool2d.default else _both(argument(node, 4, 1))
    return _window(pair, (kernel, stride, padding, dilation))


def _window(pair: Pair, options: tuple[Sequence[int], ...]) -> Pair:
    """Slide a window over both axes; ``options`` are kernel, stride, padding and dilation, for rows and columns."""
    rows, columns = (reach.through(*(option[axis] for option in options)) for axis, reach in enumerate(pair))
    return rows, columns


def _padded(node: fx.Node, pair: Pair) -> Pair:
    if argument(node, 2) == "circular":
        return _ANYWHERE
    pads = [*as_list(node.args[1]), 0, 0, 0, 0]
    return _shift(pair[0], -pads[2]), _shift(pair[1], -pads[0])


def _shift(reach: Reach, by: float) -> Reach:
    return Reach(reach.jump, reach.low + by * reach.jump, reach.high + by * reach.jump)


def _sliced(node: fx.Node, pair: Pair) -> Pair:
    axis, start, step = argument(node, 1, 0) % 4, argument(node, 2, 0) or 0, argument(node, 4, 1)
    source = node_shape(tensor_inputs(node)[0])
    if axis < 2:
        return pair
    moved = _shift(pair[axis - 2], start + source[axis] if start < 0 else start)
    moved = Reach(moved.jump * step, moved.low, moved.high)
    return (moved, pair[1]) if axis == 2 else (pair[0], moved)


def _permuted(node: fx.Node, pair: Pair) -> Pair:
    order = [axis % 4 for axis in as_list(node.args[1])]
    return pair if order in (_TO_LAST, _TO_FIRST) else _ANYWHERE


def _enlarged(node: fx.Node, pair: Pair) -> Pair:
    """Row ``r`` of a map enlarged ``s`` times reads row ``r / s``; interpolation reads its neighbours as well."""
    source, result = node_shape(tensor_inputs(node)[0])[2:], node_shape(node)[2:]
    rows, columns = (
        Reach(reach.jump * old / new, reach.low - reach.jump, reach.high + reach.jump)
        for reach, old, new in zip(pair, source, result, strict=True)
    )
    return rows, columns


_RULES = (
    (CONVOLUTIONS, _convolved),
    (_WINDOWS, _pooled),
    (_ENLARGING, _enlarged),
    (PADDING, _padded),
    (frozenset({aten.slice.Tensor}), _sliced),
    (frozenset({aten.permute.default}), _permuted),
)
