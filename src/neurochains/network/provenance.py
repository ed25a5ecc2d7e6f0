"""Provenance: which filters each channel of each tensor comes from.

Every tensor is shadowed by a tensor of integers of the same shape (batch 1), where each integer names a set of units.

1. Input channels and the outputs of layers get fresh sets of one unit.
2. Operations that move data (view, permute, cat, split, pad, slice, ...) are *executed* on the integers.
3. Element-wise operations and normalisations keep them; the sum or product of two tensors unites them, except that a
   modulation (squeeze-and-excitation) leaves the channel that it rescales as it is.
4. Pooling and reductions unite what they reduce.
5. An operation without a rule unites everything that goes in, and is reported.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.network.layers import Layer
from neurochains.network.nodes import (
    argument,
    as_list,
    before_expansion,
    node_shape,
    part_shapes,
    shape_at,
    size_at,
    tensor_inputs,
)
from neurochains.network.operations import BINARY, CONVOLUTIONS, KEEPING, MOVING, PADDING, POOLING, REDUCING

aten = torch.ops.aten

__all__ = ["Provenance", "trace_provenance"]

_NOTHING = 0
_COPIES = frozenset({aten.clone.default, aten.contiguous.default})


class Provenance:
    """The sets of units behind each layer's input channels; units are numbered over input channels, then layers.

    Attributes:
        inputs: by layer name, for each input channel the set of units that reach it.
        first_unit: by layer name (``"input"`` for the image), the number of its first unit.
        without_rule: by operation, how often it united all that goes in for want of a rule.
    """

    def __init__(self, module: fx.GraphModule, layers: Sequence[Layer]) -> None:
        self.inputs: dict[str, list[frozenset[int]]] = {}
        self.first_unit: dict[str, int] = {}
        self.without_rule: Counter[str] = Counter()
        self._module = module
        self._layers = {layer.producer: layer for layer in layers}
        self._sets = _Sets()
        self._units = 0
        self._values: dict[fx.Node, Any] = {}
        for node in module.graph.nodes:
            self._values[node] = self._visit(node)
        self._values.clear()

    def _visit(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return _spread(self._fresh("input", node_shape(node)[1]), node_shape(node), 1)
        value = node.meta.get("val")
        if node.op != "call_function" or value is None:
            return None
        if not isinstance(value, (Tensor, list, tuple)):
            return size_at(value)
        shadows = [self._values[arg] for arg in node.all_input_nodes if _is_shadow(self._values[arg])]
        if not shadows:  # made from nothing: torch.zeros, positions
            return torch.tensor(_NOTHING).expand(node_shape(node))
        if node in self._layers:
            return self._layer(self._layers[node], shadows[0])
        return self._rule(node)(node, shadows)

    def _rule(self, node: fx.Node) -> Callable[[fx.Node, list[Any]], Any]:
        target = node.target
        if target in CONVOLUTIONS and argument(node, 6, 1) == node_shape(node)[1]:  # a fixed filter: blurring
            return self._pool
        if target is aten.linear.default or target in CONVOLUTIONS:
            return self._unite_all
        rules = ((MOVING, self._move), (PADDING, self._pad), (KEEPING, self._keep), (BINARY, self._combine))
        for operations, rule in (*rules, (POOLING, self._pool), (REDUCING, self._reduce)):
            if target in operations:
                return rule
        return self._without_rule

    def _layer(self, layer: Layer, shadow: Tensor) -> Tensor:
        axis = shadow.ndim - 1 if layer.kind == "linear" else 1
        self.inputs[layer.name] = [self._sets[i] for i in self._per_channel(shadow, axis).tolist()]
        return _spread(self._fresh(layer.name, layer.units), node_shape(layer.producer), layer.axis)

    def _fresh(self, name: str, units: int) -> Tensor:
        first = self.first_unit[name] = self._units
        self._units += units
        return torch.tensor([self._sets.number(frozenset([first + unit])) for unit in range(units)])

    def _move(self, node: fx.Node, shadows: list[Any]) -> Any:
        if node.target in _COPIES:
            return shadows[0]
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._operand)
        target: Any = node.target
        try:
            return target(*args, **kwargs)
        except (RuntimeError, TypeError, IndexError):  # sizes that hold for some batches only
            return self._without_rule(node, shadows)

    def _operand(self, node: fx.Node) -> Any:
        """Return what takes a node's place when an operation is executed: indices themselves, nothing for weights."""
        if node.op != "get_attr":
            return self._values[node]
        constant: Tensor = getattr(self._module, str(node.target))
        return torch.full(constant.shape, _NOTHING) if constant.is_floating_point() else constant.cpu()

    def _pad(self, node: fx.Node, shadows: list[Any]) -> Tensor:
        pads = as_list(node.args[1])
        mode = argument(node, 2, "constant")
        if not isinstance(mode, str) or mode == "constant":
            return torch.nn.functional.pad(shadows[0], pads, value=_NOTHING)
        return torch.nn.functional.pad(shadows[0].double(), pads, mode=mode).long()

    def _keep(self, node: fx.Node, shadows: list[Any]) -> Any:
        if isinstance(node.meta["val"], (list, tuple)):  # native_layer_norm and the like: values, mean, deviation
            return [shadows[0], *[None] * (len(node.meta["val"]) - 1)]
        return shadows[0].expand(node_shape(node))

    def _combine(self, node: fx.Node, shadows: list[Any]) -> Tensor:
        if len(shadows) == 1:
            return shadows[0].expand(node_shape(node))
        left, right = shadows
        if node.target in (aten.mul.Tensor, aten.div.Tensor):
            sizes = [math.prod(node_shape(before_expansion(arg))) for arg in tensor_inputs(node)]
            if sizes[0] != sizes[1]:
                return (left if sizes[0] > sizes[1] else right).expand(node_shape(node))
        return self._sets.united(left, right)

    def _pool(self, node: fx.Node, shadows: list[Any]) -> Any:
        ids = self._per_channel(shadows[0], 1)
        if isinstance(node.meta["val"], (list, tuple)):
            return [_spread(ids, shape, 1) for shape in part_shapes(node)]
        return _spread(ids, node_shape(node), 1)

    def _reduce(self, node: fx.Node, shadows: list[Any]) -> Tensor:
        (shadow,) = shadows
        axes = as_list(argument(node, 1) or list(range(shadow.ndim)))
        for axis in axes:
            shadow = self._sets.collapsed(shadow, axis % shadow.ndim)
        return shadow.reshape(node_shape(node))

    def _without_rule(self, node: fx.Node, shadows: list[Any]) -> Any:
        self.without_rule[str(node.target)] += 1
        return self._unite_all(node, shadows)

    def _unite_all(self, node: fx.Node, shadows: list[Any]) -> Any:
        everything = torch.tensor(self._sets.union(_flat(shadows)))
        value = node.meta["val"]
        if isinstance(value, (list, tuple)):
            return [everything.expand(shape_at(part)) for part in value]
        return everything.expand(node_shape(node))

    def _per_channel(self, shadow: Tensor, axis: int) -> Tensor:
        for other in range(shadow.ndim):
            if other != axis:
                shadow = self._sets.collapsed(shadow, other)
        return shadow.reshape(-1)


class _Sets:
    """Sets of units by number, each set once; number 0 is the empty set."""

    def __init__(self) -> None:
        self._sets: list[frozenset[int]] = [frozenset()]
        self._numbers: dict[frozenset[int], int] = {frozenset(): _NOTHING}

    def __getitem__(self, number: int) -> frozenset[int]:
        return self._sets[number]

    def number(self, units: frozenset[int]) -> int:
        if units not in self._numbers:
            self._numbers[units] = len(self._sets)
            self._sets.append(units)
        return self._numbers[units]

    def union(self, numbers: Iterable[int]) -> int:
        return self.number(frozenset().union(*(self._sets[number] for number in set(numbers))))

    def united(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the sets united pair by pair; what repeats along a stride-0 axis is computed once."""
        left, right = torch.broadcast_tensors(left, right)
        shape = left.shape
        for axis in range(left.ndim):
            if left.stride(axis) == 0 and right.stride(axis) == 0:
                left, right = left.narrow(axis, 0, 1), right.narrow(axis, 0, 1)
        base = len(self._sets)
        pairs, places = torch.unique(left * base + right, return_inverse=True)
        numbers = torch.tensor([self.union(divmod(pair, base)) for pair in pairs.tolist()])
        return numbers[places].expand(shape)

    def collapsed(self, shadow: Tensor, axis: int) -> Tensor:
        """Return the sets united along one axis, which stays with size 1."""
        first = shadow.narrow(axis, 0, 1)
        if shadow.stride(axis) == 0 or bool((shadow == first).all()):
            return first
        columns = shadow.movedim(axis, 0).flatten(1).T.tolist()
        numbers = torch.tensor([self.union(column) for column in columns])
        return numbers.view(first.movedim(axis, 0).shape).movedim(0, axis)


def trace_provenance(module: fx.GraphModule, layers: Sequence[Layer]) -> Provenance:
    """Return the provenance of every layer's input channels."""
    return Provenance(module, layers)


def _is_shadow(value: Any) -> bool:
    return isinstance(value, (Tensor, list, tuple))


def _flat(shadows: Iterable[Any]) -> set[int]:
    parts = [part for shadow in shadows for part in as_list(shadow) if part is not None]
    return {int(number) for part in parts for number in torch.unique(part)}


def _spread(ids: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
    view = [1] * len(shape)
    view[axis] = -1
    return ids.view(view).expand(shape)
