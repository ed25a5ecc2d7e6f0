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

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.network.graph import node_shape
from neurochains.network.layers import CONVOLUTIONS, Layer

aten = torch.ops.aten

__all__ = ["DATA_MOVING", "Provenance", "trace_provenance"]

NOTHING = 0

DATA_MOVING = frozenset(
    {
        aten.view.default,
        aten.reshape.default,
        aten._unsafe_view.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten.permute.default,
        aten.transpose.int,
        aten.t.default,
        aten.movedim.int,
        aten.squeeze.default,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.unsqueeze.default,
        aten.expand.default,
        aten.repeat.default,
        aten.cat.default,
        aten.stack.default,
        aten.split.Tensor,
        aten.split_with_sizes.default,
        aten.chunk.default,
        aten.unbind.int,
        aten.slice.Tensor,
        aten.select.int,
        aten.narrow.default,
        aten.index_select.default,
        aten.roll.default,
        aten.flip.default,
        aten.clone.default,
        aten.contiguous.default,
        aten.pixel_shuffle.default,
        aten.pixel_unshuffle.default,
        operator.getitem,
    }
)
_VIEWS = frozenset({aten.view.default, aten._unsafe_view.default})
_PADS = frozenset({aten.pad.default, aten.constant_pad_nd.default})
KEEPING = frozenset(
    getattr(aten, name).default
    for name in (
        "relu hardtanh gelu silu hardswish hardsigmoid sigmoid tanh elu leaky_relu mish prelu softplus "
        "batch_norm dropout alias detach exp sqrt rsqrt abs neg log reciprocal clamp clamp_min clamp_max relu6 "
        "layer_norm group_norm instance_norm native_layer_norm native_group_norm rms_norm selu celu "
        "log_sigmoid softsign zeros_like ones_like"
    ).split()
    if hasattr(aten, name) and hasattr(getattr(aten, name), "default")
) | {
    aten.pow.Tensor_Scalar,
    aten.softmax.int,
    aten._softmax.default,
    aten._to_copy.default,
    aten.to.dtype,
    aten.mul.Scalar,
    aten.add.Scalar,
    aten.div.Scalar,
}
_BINARY = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.maximum.default})
_REDUCING = frozenset({aten.mean.dim, aten.sum.dim_IntList, aten.amax.default, aten.amin.default})
POOLING = frozenset(
    {
        aten.max_pool2d.default,
        aten.avg_pool2d.default,
        aten.adaptive_avg_pool2d.default,
        aten.adaptive_max_pool2d.default,
        aten.max_pool2d_with_indices.default,
        aten.upsample_nearest2d.vec,
        aten.upsample_bilinear2d.vec,
        aten.upsample_bicubic2d.vec,
        aten.upsample_nearest2d.default,
        aten.upsample_bilinear2d.default,
    }
)


class Provenance:
    """The sets of units behind each layer's input channels; units are numbered over input channels, then layers."""

    def __init__(self, module: fx.GraphModule, layers: Sequence[Layer]) -> None:
        self.without_rule: dict[str, int] = {}
        self._layers = {layer.producer: layer for layer in layers}
        self._sets: list[frozenset[int]] = [frozenset()]
        self._ids: dict[frozenset[int], int] = {frozenset(): NOTHING}
        self._units = 0
        self.first_unit: dict[str, int] = {}
        self.inputs: dict[str, list[frozenset[int]]] = {}
        self._values: dict[fx.Node, Any] = {}
        self._modulating: set[fx.Node] = set()
        for node in module.graph.nodes:
            self._values[node] = self._visit(node)
        self._values.clear()

    def _visit(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._spread(self._fresh("input", node_shape(node)[1]), node_shape(node), 1)
        if node.op != "call_function":
            return None
        if not isinstance(node.meta.get("val"), (Tensor, list, tuple)):
            return self._symbolic(node)
        shadows = [value for value in self._shadows(node) if value is not None]
        if not shadows:
            return torch.zeros(1, dtype=torch.int64).expand(node_shape(node)) if node_shape(node) else None
        if node in self._layers:
            return self._layer(self._layers[node], shadows[0])
        return self._rule(node)(node, shadows)

    def _shadows(self, node: fx.Node) -> list[Any]:
        return [self._values[arg] for arg in node.all_input_nodes if isinstance(self._values[arg], (Tensor, list, tuple))]

    def _symbolic(self, node: fx.Node) -> Any:
        """Return a size: the batch is 1, so it can be computed."""
        value = node.meta.get("val")
        if value is None:
            return None
        return int(value) if isinstance(value, (int, bool)) else _one(value)

    def _rule(self, node: fx.Node) -> Callable[[fx.Node, list[Any]], Any]:
        target = node.target
        if target in DATA_MOVING or target in _PADS:
            return self._move
        if target in KEEPING:
            return lambda node, shadows: self._reshape_like(shadows[0], node)
        if target in _BINARY:
            return self._combine
        if target in POOLING:
            return lambda node, shadows: self._spread(self._per_channel(shadows[0], 1), node_shape(node), 1)
        if target in _REDUCING:
            return self._reduce
        if target is aten.linear.default or target in CONVOLUTIONS:
            return self._mix
        return self._unite_all

    def _move(self, node: fx.Node, shadows: list[Any]) -> Any:
        values = {arg: self._values.get(arg) for arg in node.all_input_nodes}
        args, kwargs = (fx.map_arg(part, lambda arg: values[arg]) for part in (node.args, node.kwargs))
        if node.target in _PADS:
            return _pad(args)
        target = aten.reshape.default if node.target in _VIEWS else node.target
        try:
            return target(*args, **kwargs)  # type: ignore[operator]
        except (RuntimeError, TypeError, IndexError):
            return self._unite_all(node, shadows)

    def _combine(self, node: fx.Node, shadows: list[Any]) -> Any:
        if len(shadows) == 1:
            return self._reshape_like(shadows[0], node)
        left, right = shadows
        if node.target in (aten.mul.Tensor, aten.div.Tensor):
            for carrier, factor in ((left, right), (right, left)):
                if carrier.numel() > factor.numel():
                    return self._reshape_like(carrier, node)
        return self._unite(left, right)

    def _unite(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the sets united pair by pair; what repeats along a stride-0 axis is computed once."""
        left, right = torch.broadcast_tensors(left, right)
        shape = left.shape
        flat = [axis for axis in range(left.ndim) if left.stride(axis) == 0 and right.stride(axis) == 0]
        for axis in flat:
            left, right = left.narrow(axis, 0, 1), right.narrow(axis, 0, 1)
        pairs, places = torch.unique(torch.stack([left.reshape(-1), right.reshape(-1)]), dim=1, return_inverse=True)
        united = [self._intern(self._sets[a] | self._sets[b]) for a, b in pairs.T.tolist()]
        return torch.tensor(united)[places].view(left.shape).expand(shape)

    def _reduce(self, node: fx.Node, shadows: list[Any]) -> Any:
        shadow = shadows[0]
        axes = [axis % shadow.ndim for axis in _axes(node, shadow)]
        for axis in axes:
            shadow = self._collapse(shadow, axis)
        return shadow.expand(node_shape(node)) if shadow.ndim == len(node_shape(node)) else shadow.reshape(node_shape(node))

    def _collapse(self, shadow: Tensor, axis: int) -> Tensor:
        first = shadow.narrow(axis, 0, 1)
        if shadow.stride(axis) == 0 or bool((shadow == first).all()):
            return first
        columns = shadow.movedim(axis, 0).flatten(1).T.tolist()
        united = [self._intern(frozenset().union(*(self._sets[i] for i in set(column)))) for column in columns]
        return torch.tensor(united).view(first.movedim(axis, 0).shape).movedim(0, axis)

    def _mix(self, node: fx.Node, shadows: list[Any]) -> Tensor:
        """A matrix product that is no layer of its own (its weight is computed): all inputs reach all outputs."""
        return self._everything(shadows, node_shape(node))

    def _unite_all(self, node: fx.Node, shadows: list[Any]) -> Any:
        name = str(node.target)
        self.without_rule[name] = self.without_rule.get(name, 0) + 1
        value = node.meta.get("val")
        if isinstance(value, (list, tuple)):
            return [self._everything(shadows, tuple(_one(size) for size in part.shape)) for part in value]
        return self._everything(shadows, node_shape(node))

    def _everything(self, shadows: Iterable[Any], shape: tuple[int, ...]) -> Tensor:
        flat = [part for shadow in shadows for part in (shadow if isinstance(shadow, (list, tuple)) else [shadow])]
        ids = {int(i) for part in flat for i in torch.unique(part)}
        united = self._intern(frozenset().union(*(self._sets[i] for i in ids)))
        return torch.tensor(united).expand(shape)

    def _layer(self, layer: Layer, shadow: Tensor) -> Tensor:
        axis = shadow.ndim - 1 if layer.kind == "linear" else 1
        self.inputs[layer.name] = [self._sets[i] for i in self._per_channel(shadow, axis).tolist()]
        return self._spread(self._fresh(layer.name, layer.units), node_shape(layer.producer), layer.axis)

    def _fresh(self, name: str, units: int) -> Tensor:
        self.first_unit[name] = self._units
        self._units += units
        return torch.tensor([self._intern(frozenset([self._units - units + unit])) for unit in range(units)])

    def _intern(self, units: frozenset[int]) -> int:
        if units not in self._ids:
            self._ids[units] = len(self._sets)
            self._sets.append(units)
        return self._ids[units]

    def _per_channel(self, shadow: Tensor, axis: int) -> Tensor:
        for other in range(shadow.ndim):
            if other != axis:
                shadow = self._collapse(shadow, other)
        return shadow.reshape(-1)

    def _spread(self, ids: Tensor, shape: tuple[int, ...], axis: int) -> Tensor:
        view = [1] * len(shape)
        view[axis] = -1
        return ids.view(view).expand(shape)

    def _reshape_like(self, shadow: Any, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if isinstance(value, (list, tuple)):  # native_layer_norm and the like: values, mean, deviation
            return [shadow, *[None] * (len(value) - 1)]
        return shadow if tuple(shadow.shape) == node_shape(node) else shadow.expand(node_shape(node))


def trace_provenance(module: fx.GraphModule, layers: Sequence[Layer]) -> Provenance:
    """Return the provenance of every layer's input channels."""
    return Provenance(module, layers)


def _one(size: Any) -> int:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


def _axes(node: fx.Node, shadow: Tensor) -> list[int]:
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    if axes is None or axes == []:
        return list(range(shadow.ndim))
    return [axes] if isinstance(axes, int) else list(axes)  # type: ignore[arg-type]


def _pad(args: Sequence[Any]) -> Tensor:
    mode = args[2] if len(args) > 2 and isinstance(args[2], str) else "constant"
    if mode == "constant":
        return torch.nn.functional.pad(args[0], list(args[1]), value=NOTHING)
    return torch.nn.functional.pad(args[0].double(), list(args[1]), mode=mode).long()
