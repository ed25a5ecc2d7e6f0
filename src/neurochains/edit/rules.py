"""The rules of compaction: how each kind of operation runs on the channels that are alive.

A rule is a function ``(builder, node) -> Flow`` (a list of flows for operations with several outputs), entered in
`RULES` under the operations that it covers. `Builder` holds the graph being written and what all rules share.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from neurochains.edit.flow import Flow
from neurochains.network.graph import node_shape, tensor_inputs
from neurochains.network.layers import CONVOLUTIONS
from neurochains.network.provenance import DATA_MOVING, KEEPING, POOLING

aten = torch.ops.aten

__all__ = ["RULES", "Builder"]

Rule = Callable[["Builder", fx.Node], Any]
RULES: dict[Any, Rule] = {}


def rule(*targets: Any) -> Callable[[Rule], Rule]:
    """Enter a rule under the operations that it covers."""

    def enter(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(targets, function))
        return function

    return enter


class Builder:
    """The compact graph while it is written: flows by original node, and the parts that rules share."""

    def __init__(self, source: fx.GraphModule, kept: Mapping[fx.Node, Tensor]) -> None:
        self.source = source
        self.kept = kept
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.flows: dict[fx.Node, Any] = {}
        self._fulls: dict[fx.Node | int, fx.Node] = {}
        self._held: dict[str, fx.Node] = {}
        self._images: fx.Node | None = None
        self._batch: fx.Node | None = None

    def start(self, placeholder: fx.Node) -> None:
        """Begin with the images, all channels alive."""
        self._images = self.graph.placeholder("images")
        self.flows[placeholder] = Flow(self._images, node_shape(placeholder))

    def call(self, target: Any, *args: Any) -> fx.Node:
        return self.graph.call_function(target, args)

    def hold(self, tensor: Tensor, name: str = "") -> fx.Node:
        """Return a node that reads a tensor, kept as a buffer; a name makes several readers share it."""
        if name and name in self._held:
            return self._held[name]
        key = name or f"held_{len(self._held)}"
        self.root.register_buffer(key, tensor)
        first = next(iter(self.graph.nodes))
        with self.graph.inserting_before(first):
            self._held[key] = self.graph.get_attr(key)
        return self._held[key]

    def weight(self, node: Any) -> Tensor | None:
        """Return the tensor that a constant node holds; None for None."""
        if node is None:
            return None
        assert isinstance(node, fx.Node) and node.op == "get_attr"
        return getattr(self.source, str(node.target))

    def constant(self, node: fx.Node) -> fx.Node:
        """Return the whole of a parameter or buffer of the original graph."""
        return self.hold(getattr(self.source, str(node.target)), str(node.target))

    def flow(self, node: Any) -> Flow:
        flow = self.flows[node]
        assert isinstance(flow, Flow)
        return flow

    def value(self, argument: Any) -> Any:
        """Return an argument for a node that runs at full width."""
        if not isinstance(argument, fx.Node):
            return argument
        return self.constant(argument) if argument.op == "get_attr" else self.full(argument)

    def full(self, node: fx.Node) -> Any:
        """Return an original node's value at full width."""
        flow = self.flows[node]
        return self.scatter(flow) if isinstance(flow, (Flow, Held)) else flow

    def scatter(self, flow: Flow | Held) -> fx.Node:
        """Return a tensor at full width: alive channels in their places, constants in the others."""
        if isinstance(flow, Held):
            return flow.full(self)
        if flow.dense:
            assert flow.node is not None
            return flow.node
        key = id(flow)
        if key not in self._fulls:
            everything = torch.arange(flow.width)
            node = self.spread(flow, everything).node
            assert node is not None
            self._fulls[key] = node
            self._keep_alive.append(flow)
        return self._fulls[key]

    @property
    def _keep_alive(self) -> list[Flow]:
        return self.__dict__.setdefault("_kept_flows", [])

    def spread(self, flow: Flow, alive: Tensor) -> Flow:
        """Return a flow with more channels alive: those that join carry their constant."""
        assert flow.axis is not None and flow.alive is not None and flow.constant is not None
        if len(alive) == len(flow.alive) and torch.equal(alive, flow.alive):
            return flow
        places = {int(channel): place for place, channel in enumerate(alive)}
        base = self._constants(flow, flow.constant[alive])
        if flow.node is not None:
            index = self.hold(torch.tensor([places[int(channel)] for channel in flow.alive]))
            base = self.call(aten.index_copy.default, base, flow.axis, index, flow.node)
        return replace(flow, node=base, alive=alive)

    def _constants(self, flow: Flow, values: Tensor) -> fx.Node:
        """Return constant channels in the shape of a flow, as a node."""
        assert flow.axis is not None
        sizes: list[Any] = list(flow.shape)
        sizes[0] = self._leading(flow)
        sizes[flow.axis] = len(values)
        view = [1] * len(sizes)
        view[flow.axis] = -1
        return self.call(aten.expand.default, self.hold(values.view(view).to(self.dtype)), sizes)

    def _leading(self, flow: Flow) -> Any:
        """Return the first size of a tensor: the batch, times the windows that a sample was cut into."""
        if self._batch is None:
            self._batch = self.call(aten.sym_size.int, self._images, 0)
        return self._batch if flow.shape[0] == 1 else self.call(operator.mul, self._batch, flow.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        return next((b.dtype for b in self.source.buffers() if b.is_floating_point()), torch.float32)

    def symbolic(self, node: fx.Node) -> Any:
        """Return a size or another number of the original graph."""
        args = [self._size_argument(arg) for arg in node.args]
        return self.graph.call_function(node.target, tuple(args), dict(node.kwargs))  # type: ignore[arg-type]

    def _size_argument(self, argument: Any) -> Any:
        if not isinstance(argument, fx.Node):
            return argument
        flow = self.flows[argument]
        return self.scatter(flow) if isinstance(flow, (Flow, Held)) else flow

    def without_rule(self, node: fx.Node) -> Any:
        """Run an operation at full width."""
        args = fx.map_arg(node.args, self.value)
        kwargs = fx.map_arg(node.kwargs, self.value)
        new = self.graph.call_function(node.target, args, kwargs)  # type: ignore[arg-type]
        value = node.meta.get("val")
        return new if isinstance(value, (list, tuple)) else Flow(new, node_shape(node))

    def elementwise(self, node: fx.Node, flow: Flow, *rest: Any, **kwargs: Any) -> Flow:
        """Run an operation that treats every value alike; constants are computed here and now."""
        kwargs = {**node.kwargs, **kwargs}
        new = self.graph.call_function(node.target, (flow.node, *rest), kwargs) if flow.node else None  # type: ignore[arg-type]
        if flow.dense:
            return replace(flow, node=new, shape=node_shape(node))
        with torch.no_grad():
            constant = node.target(flow.constant, *rest, **kwargs)  # type: ignore[operator]
        return replace(flow, node=new, constant=constant, shape=node_shape(node))

    def scale(self, flow: Any, axis: int, kept: Tensor, score: fx.Node) -> Flow:
        """Multiply the kept channels of a layer by their scores; the others become 0."""
        if isinstance(flow, Held):
            flow = Flow(flow.full(self), flow.shape)
        width = flow.shape[axis]
        flow = self.pick(flow.with_channels(axis), kept)
        node = self.call(aten.mul.Tensor, flow.node, score) if len(kept) else None
        return Flow(node, flow.shape, axis, kept, torch.zeros(width)).simplified()

    def pick(self, flow: Flow, wanted: Tensor) -> Flow:
        """Return a flow whose alive channels are exactly `wanted`, in that order."""
        assert flow.alive is not None and flow.axis is not None
        if torch.equal(flow.alive, wanted):
            return flow
        missing = wanted[~torch.isin(wanted, flow.alive)]
        if len(missing):
            flow = self.spread(flow, torch.cat([flow.alive, missing]))
        assert flow.alive is not None
        if torch.equal(flow.alive, wanted):
            return flow
        places = {int(channel): place for place, channel in enumerate(flow.alive)}
        index = torch.tensor([places[int(channel)] for channel in wanted], dtype=torch.int64)
        node = self.call(aten.index_select.default, flow.node, flow.axis, self.hold(index)) if len(wanted) else None
        return replace(flow, node=node, alive=wanted)

    def revive(self, flow: Flow) -> Flow:
        """Return a flow whose absent channels are all 0: those with another constant are made real."""
        if flow.dense or not len(flow.live_constants):
            return flow
        assert flow.alive is not None
        return self.spread(flow, torch.cat([flow.alive, flow.live_constants]).sort().values)

    def blend(self, entry: Any, exit_: Any, gate: fx.Node) -> Flow:
        """Return ``G * block(x) + (1 - G) * x``."""
        rest = self.call(aten.rsub.Scalar, gate, 1.0)
        parts = []
        for flow, factor in ((exit_, gate), (entry, rest)):
            flow = Flow(flow.full(self), flow.shape) if isinstance(flow, Held) else self.revive(flow)
            node = self.call(aten.mul.Tensor, flow.node, factor) if flow.node is not None else None
            parts.append(replace(flow, node=node))
        return join(self, aten.add.Tensor, *parts)


class Held:
    """A tensor whose channel axis is split for now: the flow it comes from, and where each element comes from."""

    def __init__(self, anchor: Flow, places: Tensor, nodes: Sequence[fx.Node]) -> None:
        self.anchor = anchor
        self.places = places
        self.nodes = tuple(nodes)
        self.shape = tuple(places.shape)

    def full(self, builder: Builder) -> fx.Node:
        """Replay the held operations at full width."""
        value = builder.scatter(self.anchor)
        first = next(arg for arg in tensor_inputs(self.nodes[0]))
        values = {first: value}
        for node in self.nodes:
            args = fx.map_arg(node.args, lambda arg: values[arg] if arg in values else builder.value(arg))
            values[node] = builder.graph.call_function(node.target, args, dict(node.kwargs))  # type: ignore[arg-type]
        return values[self.nodes[-1]]

    def settle(self, builder: Builder) -> Flow | None:
        """Return the tensor as a flow when its elements are the anchor's, with whole channels in some order."""
        anchor = self.anchor
        if self.shape != anchor.shape or anchor.axis is None:
            return None
        grid = torch.arange(math.prod(anchor.shape)).view(anchor.shape)
        stride = math.prod(anchor.shape[anchor.axis + 1 :])
        order = (_channel_vector(self.places, anchor.axis) // stride) % anchor.width
        if not torch.equal(grid.index_select(anchor.axis, order), self.places):
            return None
        assert anchor.alive is not None and anchor.constant is not None
        alive = torch.isin(order, anchor.alive).nonzero().flatten()
        picked = builder.pick(anchor, order[alive])
        return replace(picked, alive=alive, constant=anchor.constant[order])


def _channel_vector(places: Tensor, axis: int) -> Tensor:
    for other in range(places.ndim):
        if other != axis:
            places = places.narrow(other, 0, 1)
    return places.reshape(-1)


def join(builder: Builder, target: Any, left: Flow, right: Flow) -> Flow:
    """Return the sum, difference, product, quotient or maximum of two tensors of one rank."""
    shape = tuple(torch.broadcast_shapes(left.shape, right.shape))
    if left.dense and right.dense:
        return Flow(builder.call(target, left.node, right.node), shape)
    axis = left.axis if left.axis is not None else right.axis
    assert axis is not None
    if len(left.shape) != len(right.shape) or (left.axis or axis) != axis or (right.axis or axis) != axis:
        return Flow(builder.call(target, builder.scatter(left), builder.scatter(right)), shape)
    if left.shape[axis] != right.shape[axis]:
        return _join_broadcast(builder, target, left, right, axis, shape)
    left, right = left.with_channels(axis), right.with_channels(axis)
    alive = _joint_channels(target, left, right)
    constant = target(left.constant, right.constant)
    if not len(alive):
        return Flow(None, shape, axis, alive, constant)
    sides = [builder.pick(side, alive).node for side in (left, right)]
    return Flow(builder.call(target, *sides), shape, axis, alive, constant).simplified()


def _joint_channels(target: Any, left: Flow, right: Flow) -> Tensor:
    """Return the channels that vary: those alive on either side, less what a product with 0 makes 0."""
    varying = ~(left.dead & right.dead)
    assert left.constant is not None and right.constant is not None
    if target is aten.mul.Tensor:
        varying &= ~(left.dead & (left.constant == 0)) & ~(right.dead & (right.constant == 0))
    if target is aten.div.Tensor:
        varying &= ~(left.dead & (left.constant == 0))
    return varying.nonzero().flatten()


def _join_broadcast(
    builder: Builder, target: Any, left: Flow, right: Flow, axis: int, shape: tuple[int, ...]
) -> Flow:
    """Join channels with a single map that goes for all of them (spatial attention)."""
    many, one = (left, right) if left.shape[axis] > 1 else (right, left)
    if target is not aten.mul.Tensor or many.dense:
        return Flow(builder.call(target, builder.scatter(left), builder.scatter(right)), shape)
    many = builder.revive(many)
    node = builder.call(target, many.node, builder.scatter(one)) if many.node is not None else None
    return replace(many, node=node, shape=shape)


# --- layers -----------------------------------------------------------------------------------------------------------


def _kept_rows(builder: Builder, node: fx.Node, rows: int) -> Tensor:
    kept = builder.kept.get(node)
    return torch.arange(rows) if kept is None else kept


@rule(*CONVOLUTIONS)
def convolution(builder: Builder, node: fx.Node) -> Any:
    weight, bias = builder.weight(node.args[1]), builder.weight(_at(node, 2))
    if weight is None or not isinstance(builder.flows[node.args[0]], Flow):
        return builder.without_rule(node)
    flow = builder.flow(node.args[0]).with_channels(1)
    rows = _kept_rows(builder, node, len(weight))
    groups = _at(node, 6, 1)
    if not _is_unpadded(node):
        flow = builder.revive(flow)
    if groups == 1:
        return _plain_convolution(builder, node, flow, weight, bias, rows)
    return _grouped_convolution(builder, node, builder.revive(flow), weight, bias, rows, groups)


def _is_unpadded(node: fx.Node) -> bool:
    padding = _at(node, 4, 0)
    return padding == "valid" if isinstance(padding, str) else not any(_list(padding))


def _plain_convolution(
    builder: Builder, node: fx.Node, flow: Flow, weight: Tensor, bias: Tensor | None, rows: Tensor
) -> Flow:
    assert flow.alive is not None and flow.constant is not None
    bias = _folded_bias(weight.flatten(2).sum(2) if len(flow.live_constants) else None, bias, flow)
    constant = torch.zeros(len(weight)) if bias is None else bias.detach().cpu().clone()
    if flow.node is None or not len(rows):
        return Flow(None, node_shape(node), 1, torch.zeros(0, dtype=torch.int64), constant)
    sliced = weight[rows.to(weight.device)][:, flow.alive.to(weight.device)]
    held = None if bias is None else builder.hold(bias[rows.to(bias.device)].contiguous())
    args = (flow.node, builder.hold(sliced.contiguous()), held, *node.args[3:])
    return Flow(builder.call(node.target, *args), node_shape(node), 1, rows, constant).simplified()


def _folded_bias(columns: Tensor | None, bias: Tensor | None, flow: Flow) -> Tensor | None:
    """Return the bias plus what the constant channels contribute at every position."""
    if columns is None:
        return bias
    dead = flow.live_constants
    assert flow.constant is not None
    extra = columns[:, dead.to(columns.device)] @ flow.constant[dead].to(columns)
    return extra if bias is None else bias + extra


def _grouped_convolution(
    builder: Builder, node: fx.Node, flow: Flow, weight: Tensor, bias: Tensor | None, rows: Tensor, groups: int
) -> Flow:
    """Regroup: each group on its living inputs and kept outputs, filled up to one size with zero weights."""
    assert flow.alive is not None
    per_in, per_out = weight.shape[1], len(weight) // groups
    alive = flow.alive
    inputs = [(alive // per_in == group).nonzero().flatten() for group in range(groups)]
    outputs = [rows[rows // per_out == group] for group in range(groups)]
    live = [g for g in range(groups) if len(inputs[g]) and len(outputs[g])]
    constant = torch.zeros(len(weight)) if bias is None else bias.detach().cpu().clone()
    if not live or flow.node is None:
        return Flow(None, node_shape(node), 1, torch.zeros(0, dtype=torch.int64), constant)
    wide_in, wide_out = max(len(inputs[g]) for g in live), max(len(outputs[g]) for g in live)
    packed, packed_bias = _packed_groups(weight, bias, alive, inputs, outputs, live, (wide_in, wide_out))
    places = torch.cat([_filled(inputs[g], wide_in) for g in live])
    source = flow.node
    if not torch.equal(places, torch.arange(len(alive))):
        source = builder.call(aten.index_select.default, flow.node, 1, builder.hold(places))
    held_bias = None if packed_bias is None else builder.hold(packed_bias)
    args = (source, builder.hold(packed), held_bias, *_conv_options(node), len(live))
    result = builder.call(node.target, *args)
    kept = torch.cat([outputs[g] for g in live])
    real = torch.cat([torch.arange(len(outputs[g])) + i * wide_out for i, g in enumerate(live)])
    if len(real) < len(live) * wide_out:
        result = builder.call(aten.index_select.default, result, 1, builder.hold(real))
    return Flow(result, node_shape(node), 1, kept, constant).simplified()


def _packed_groups(weight, bias, alive, inputs, outputs, live, wide) -> tuple[Tensor, Tensor | None]:
    per_in = weight.shape[1]
    packed = weight.new_zeros(len(live), wide[1], wide[0], *weight.shape[2:])
    packed_bias = None if bias is None else bias.new_zeros(len(live), wide[1])
    for place, group in enumerate(live):
        columns = alive[inputs[group]] - group * per_in
        rows = outputs[group]
        packed[place, : len(rows), : len(columns)] = weight[rows][:, columns]
        if packed_bias is not None and bias is not None:
            packed_bias[place, : len(rows)] = bias[rows]
    return packed.flatten(0, 1), None if packed_bias is None else packed_bias.flatten()


def _filled(indices: Tensor, length: int) -> Tensor:
    return torch.cat([indices, indices[:1].expand(length - len(indices))])


def _conv_options(node: fx.Node) -> list[Any]:
    return [_at(node, 3, [1, 1]), _at(node, 4, [0, 0]), _at(node, 5, [1, 1])]


@rule(aten.linear.default)
def linear(builder: Builder, node: fx.Node) -> Any:
    weight, bias = node.args[1], _at(node, 2)
    constant_weight = isinstance(weight, fx.Node) and weight.op == "get_attr"
    flow = builder.flows[node.args[0]]
    if not constant_weight or not isinstance(flow, Flow):
        return builder.without_rule(node)
    last = len(flow.shape) - 1
    if flow.axis not in (None, last):
        return builder.without_rule(node)
    return _linear(builder, node, flow.with_channels(last), builder.weight(weight), builder.weight(bias))


def _linear(builder: Builder, node: fx.Node, flow: Flow, weight: Any, bias: Tensor | None) -> Flow:
    rows = _kept_rows(builder, node, len(weight))
    bias = _folded_bias(weight if len(flow.live_constants) else None, bias, flow)
    constant = torch.zeros(len(weight)) if bias is None else bias.detach().cpu().clone()
    axis = len(flow.shape) - 1
    if flow.node is None or not len(rows):
        return Flow(None, node_shape(node), axis, torch.zeros(0, dtype=torch.int64), constant)
    sliced = weight[rows.to(weight.device)][:, flow.alive.to(weight.device)].contiguous()  # type: ignore[union-attr]
    held = None if bias is None else builder.hold(bias[rows.to(bias.device)].contiguous())
    new = builder.call(aten.linear.default, flow.node, builder.hold(sliced), held)
    return Flow(new, node_shape(node), axis, rows, constant).simplified()


# --- single channels --------------------------------------------------------------------------------------------------

_NORMS = {"layer_norm", "group_norm", "native_layer_norm", "native_group_norm", "rms_norm", "softmax", "_softmax"}
_ELEMENTWISE = [
    target
    for target in KEEPING
    if target.__name__.split(".")[0] not in _NORMS | {"batch_norm", "prelu", "instance_norm"}
]


@rule(*_ELEMENTWISE)
def elementwise(builder: Builder, node: fx.Node) -> Any:
    flow = builder.flows[node.args[0]]
    if isinstance(flow, Held) or any(isinstance(arg, fx.Node) for arg in node.args[1:]):
        return builder.without_rule(node)
    return builder.elementwise(node, flow, *node.args[1:])


@rule(aten.batch_norm.default)
def batch_norm(builder: Builder, node: fx.Node) -> Any:
    flow = builder.flows[node.args[0]]
    parameters = [builder.weight(arg) for arg in node.args[1:5]]
    if not isinstance(flow, Flow) or flow.axis not in (None, 1):
        return builder.without_rule(node)
    flow = flow.with_channels(1)
    assert flow.alive is not None and flow.constant is not None
    rest = node.args[5:]
    everything = [None if p is None else p.detach().cpu() for p in parameters]
    with torch.no_grad():
        constant = node.target(flow.constant.view(1, -1), *everything, *rest)[0]  # type: ignore[operator]
    if flow.node is None:
        return replace(flow, constant=constant)
    sliced = [None if p is None else builder.hold(p[flow.alive.to(p.device)].contiguous()) for p in parameters]
    return replace(flow, node=builder.call(node.target, flow.node, *sliced, *rest), constant=constant).simplified()


@rule(aten.prelu.default)
def prelu(builder: Builder, node: fx.Node) -> Any:
    flow, weight = builder.flows[node.args[0]], builder.weight(node.args[1])
    if not isinstance(flow, Flow) or weight is None or flow.axis not in (None, 1):
        return builder.without_rule(node)
    flow = flow.with_channels(1)
    assert flow.alive is not None and flow.constant is not None
    constant = torch.where(flow.constant >= 0, flow.constant, flow.constant * weight.cpu())
    slopes = weight if len(weight) == 1 else weight[flow.alive.to(weight.device)]
    node_ = builder.call(node.target, flow.node, builder.hold(slopes)) if flow.node is not None else None
    return replace(flow, node=node_, constant=constant).simplified()


_BINARY = (aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.maximum.default)


@rule(*_BINARY)
def binary(builder: Builder, node: fx.Node) -> Any:
    left, right = node.args[:2]
    nodes = [arg for arg in (left, right) if isinstance(arg, fx.Node)]
    flows = [builder.flows[arg] for arg in nodes if arg.op != "get_attr"]
    if any(not isinstance(flow, Flow) for flow in flows) or node.kwargs:
        return builder.without_rule(node)
    if len(nodes) == 1:
        return _with_number(builder, node, flows[0])
    if len(flows) == 1:
        return _with_parameter(builder, node, flows[0])
    return join(builder, node.target, *flows)


def _with_number(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    if isinstance(node.args[0], fx.Node):
        return builder.elementwise(node, flow, *node.args[1:])
    return builder.without_rule(node)


def _with_parameter(builder: Builder, node: fx.Node, flow: Flow) -> Any:
    """Scale or shift by a parameter: sliced where it has one value a channel."""
    parameter_node = node.args[1]
    if not isinstance(parameter_node, fx.Node) or parameter_node.op != "get_attr" or flow.dense:
        return builder.without_rule(node)
    parameter = builder.weight(parameter_node)
    assert parameter is not None and flow.axis is not None and flow.alive is not None and flow.constant is not None
    padded = parameter.reshape((1,) * (len(flow.shape) - parameter.ndim) + tuple(parameter.shape))
    others = padded.numel() // padded.shape[flow.axis]
    if others > 1:
        return builder.without_rule(node)
    vector = padded.reshape(-1)
    with torch.no_grad():
        constant = node.target(flow.constant, vector.cpu())  # type: ignore[operator]
    if flow.node is None:
        return replace(flow, constant=constant)
    sliced = padded if len(vector) == 1 else padded.index_select(flow.axis, flow.alive.to(padded.device))
    return replace(flow, node=builder.call(node.target, flow.node, builder.hold(sliced)), constant=constant)


# --- places -----------------------------------------------------------------------------------------------------------


@rule(*POOLING)
def pooling(builder: Builder, node: fx.Node) -> Any:
    flow = builder.flows[node.args[0]]
    if not isinstance(flow, Flow) or flow.axis not in (None, 1) or isinstance(node.meta["val"], (list, tuple)):
        return builder.without_rule(node)
    if node.target is aten.avg_pool2d.default and any(_list(_at(node, 3, 0))):
        flow = builder.revive(flow)
    args = fx.map_arg(node.args[1:], builder.value)
    new = builder.graph.call_function(node.target, (flow.node, *args), dict(node.kwargs)) if flow.node else None  # type: ignore[arg-type]
    return replace(flow, node=new, shape=node_shape(node))


@rule(aten.mean.dim, aten.amax.default, aten.amin.default)
def reduction(builder: Builder, node: fx.Node) -> Any:
    flow = builder.flows[node.args[0]]
    axes = _at(node, 1)
    if not isinstance(flow, Flow) or flow.dense or not axes:
        return builder.without_rule(node)
    reduced = {axis % len(flow.shape) for axis in _list(axes)}
    if flow.axis in reduced:
        return builder.without_rule(node)
    assert flow.axis is not None
    keepdim = bool(_at(node, 2, False))
    axis = flow.axis if keepdim else flow.axis - sum(other < flow.axis for other in reduced)
    new = builder.graph.call_function(node.target, (flow.node, *node.args[1:]), dict(node.kwargs)) if flow.node else None  # type: ignore[arg-type]
    return replace(flow, node=new, axis=axis, shape=node_shape(node))


@rule(aten.pad.default, aten.constant_pad_nd.default)
def pad(builder: Builder, node: fx.Node) -> Any:
    flow = builder.flows[node.args[0]]
    if not isinstance(flow, Flow) or flow.dense:
        return builder.without_rule(node)
    assert flow.axis is not None and flow.alive is not None and flow.constant is not None
    pads = _list(node.args[1])
    before, after = _pads_of(pads, len(flow.shape), flow.axis)
    spatial = list(pads)
    place = 2 * (len(flow.shape) - 1 - flow.axis)
    spatial[place : place + 2] = [0] * len(spatial[place : place + 2])
    if any(spatial):
        flow = builder.revive(flow)
    assert flow.alive is not None and flow.constant is not None
    value = _pad_value(node)
    constant = torch.nn.functional.pad(flow.constant, [before, after], value=value)
    rest = list(node.args[2:])
    new = builder.call(node.target, flow.node, spatial, *rest) if flow.node is not None else None
    return Flow(new, node_shape(node), flow.axis, flow.alive + before, constant)


def _pads_of(pads: Sequence[int], dimensions: int, axis: int) -> tuple[int, int]:
    place = 2 * (dimensions - 1 - axis)
    return (pads[place], pads[place + 1]) if len(pads) > place + 1 else (0, 0)


def _pad_value(node: fx.Node) -> float:
    numbers = [arg for arg in node.args[2:] if isinstance(arg, (int, float))]
    return float(numbers[0]) if numbers else 0.0


# --- moves ------------------------------------------------------------------------------------------------------------


@rule(*DATA_MOVING)
def move(builder: Builder, node: fx.Node) -> Any:
    source = node.args[0]
    if node.target is operator.getitem:
        return _item(builder, node)
    if isinstance(source, (list, tuple)):
        return builder.without_rule(node)
    assert isinstance(source, fx.Node)
    flow = builder.flows.get(source)
    if isinstance(flow, Held):
        return _hold_on(builder, node, flow)
    if not isinstance(flow, Flow) or flow.dense:
        return builder.without_rule(node)
    mover = _MOVERS.get(node.target)
    moved = mover(builder, node, flow) if mover else None
    return moved if moved is not None else _hold_on(builder, node, flow)


def _item(builder: Builder, node: fx.Node) -> Any:
    source, index = node.args
    value = builder.flows[source]
    if isinstance(value, list):
        return value[index]  # type: ignore[index]
    return Flow(builder.call(operator.getitem, value, index), node_shape(node))


def _hold_on(builder: Builder, node: fx.Node, flow: Flow | Held) -> Any:
    """Follow where the elements go; once whole channels are back, an index map does it all."""
    if any(isinstance(arg, fx.Node) and isinstance(builder.flows.get(arg), (Flow, Held)) for arg in node.args[1:]):
        return builder.without_rule(node)
    anchor, held = (flow.anchor, flow.nodes) if isinstance(flow, Held) else (flow, ())
    count = math.prod(anchor.shape)
    places = flow.places if isinstance(flow, Held) else torch.arange(count).view(anchor.shape)
    args = fx.map_arg(node.args[1:], lambda arg: _at_batch_one(arg))
    moved = node.target(places, *args, **node.kwargs)  # type: ignore[operator]
    if not isinstance(moved, Tensor):
        return builder.without_rule(node)
    waiting = Held(anchor, moved, (*held, node))
    return waiting.settle(builder) or waiting


def _at_batch_one(node: fx.Node) -> Any:
    value = node.meta["val"]
    if isinstance(value, int):
        return value
    expression = value.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, 1)))


Mover = Callable[[Builder, fx.Node, Flow], Any]
_MOVERS: dict[Any, Mover] = {}


def mover(*targets: Any) -> Callable[[Mover], Mover]:
    """Enter a rule for an operation that moves whole channels."""

    def enter(function: Mover) -> Mover:
        _MOVERS.update(dict.fromkeys(targets, function))
        return function

    return enter


@mover(aten.clone.default, aten.contiguous.default)
def _copy(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    return flow


@mover(aten.permute.default)
def _permute(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    order = [axis % len(flow.shape) for axis in _list(node.args[1])]
    return _moved(builder, node, flow, order.index(flow.axis), *node.args[1:])


@mover(aten.transpose.int)
def _transpose(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    first, second = (axis % len(flow.shape) for axis in node.args[1:3])  # type: ignore[operator]
    axis = {first: second, second: first}.get(flow.axis, flow.axis)
    return _moved(builder, node, flow, axis, *node.args[1:])


@mover(aten.unsqueeze.default)
def _unsqueeze(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    place = node.args[1] % (len(flow.shape) + 1)  # type: ignore[operator]
    assert flow.axis is not None
    return _moved(builder, node, flow, flow.axis + (place <= flow.axis), *node.args[1:])


@mover(aten.slice.Tensor, aten.narrow.default)
def _slice(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    axis = _at(node, 1, 0) % len(flow.shape)
    if axis != flow.axis:
        return _moved(builder, node, flow, flow.axis, *node.args[1:])
    if node.target is not aten.slice.Tensor or any(isinstance(arg, fx.Node) for arg in node.args[1:]):
        return None
    return _channels(builder, flow, torch.arange(flow.width)[slice(_at(node, 2), _at(node, 3), _at(node, 4, 1))])


@mover(aten.index_select.default)
def _index_select(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    index = builder.weight(node.args[2]) if isinstance(node.args[2], fx.Node) and node.args[2].op == "get_attr" else None
    if index is None or node.args[1] % len(flow.shape) != flow.axis:  # type: ignore[operator]
        return None
    return _channels(builder, flow, index.cpu())


@mover(aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)
def _split(builder: Builder, node: fx.Node, flow: Flow) -> list[Flow] | None:
    axis = _at(node, 2, node.kwargs.get("dim", 0)) % len(flow.shape)
    if axis != flow.axis:
        return None
    cut = torch.arange(flow.width)
    parts = cut.chunk(node.args[1]) if node.target is aten.chunk.default else cut.split(node.args[1])  # type: ignore[arg-type]
    return [_channels(builder, flow, part) for part in parts]


@mover(aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.flatten.using_ints)
def _view(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    """Keep the channel axis whole, or flatten it with the positions behind it."""
    assert flow.axis is not None and flow.alive is not None and flow.constant is not None
    new, before = node_shape(node), math.prod(flow.shape[: flow.axis])
    behind = math.prod(flow.shape[flow.axis + 1 :])
    for axis, size in enumerate(new):
        whole = math.prod(new[:axis]) == before and (size != 1 or flow.width == 1)
        if whole and size == flow.width:
            return _viewed(builder, node, flow, axis, flow.alive, flow.constant)
        if whole and size == flow.width * behind:
            inside = torch.arange(behind)
            alive = (flow.alive.unsqueeze(1) * behind + inside).flatten()
            return _viewed(builder, node, flow, axis, alive, flow.constant.repeat_interleave(behind))
    return None


def _viewed(builder: Builder, node: fx.Node, flow: Flow, axis: int, alive: Tensor, constant: Tensor) -> Flow:
    shape = node_shape(node)
    if flow.node is None:
        return Flow(None, shape, axis, alive, constant)
    if node.target is aten.flatten.using_ints:
        new = builder.call(node.target, flow.node, *node.args[1:])
    else:
        sizes = [fx.map_arg(size, builder.value) for size in _list(node.args[1])]
        sizes[axis] = len(alive) if sizes[axis] != -1 else -1
        new = builder.call(aten.reshape.default, flow.node, sizes)
    return Flow(new, shape, axis, alive, constant)


@mover(aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    gone = {axis % len(flow.shape) for axis in _list(node.args[1])}
    gone = {axis for axis in gone if flow.shape[axis] == 1}
    if flow.axis in gone or 0 in gone:
        return None
    assert flow.axis is not None
    axes = sorted(gone)
    axis = flow.axis - sum(other < flow.axis for other in gone)
    if flow.node is None:
        return replace(flow, axis=axis, shape=node_shape(node))
    return replace(flow, node=builder.call(aten.squeeze.dims, flow.node, axes), axis=axis, shape=node_shape(node))


@rule(aten.cat.default)
def cat(builder: Builder, node: fx.Node) -> Any:
    parts: Iterable[fx.Node] = node.args[0]  # type: ignore[assignment]
    flows = [builder.flows.get(part) for part in parts]
    if any(not isinstance(flow, Flow) for flow in flows):
        return builder.without_rule(node)
    axis = _at(node, 1, 0) % len(node_shape(node))
    if all(flow.dense for flow in flows) or any(flow.axis not in (None, axis) for flow in flows):  # type: ignore[union-attr]
        return builder.without_rule(node)
    spelt = [flow.with_channels(axis) for flow in flows]  # type: ignore[union-attr]
    offsets = torch.tensor([0, *[flow.width for flow in spelt]]).cumsum(0)
    alive = torch.cat([flow.alive + offset for flow, offset in zip(spelt, offsets, strict=False)])  # type: ignore[operator]
    constant = torch.cat([flow.constant for flow in spelt])  # type: ignore[misc]
    nodes = [flow.node for flow in spelt if flow.node is not None]
    new = builder.call(aten.cat.default, nodes, axis) if len(nodes) > 1 else (nodes[0] if nodes else None)
    return Flow(new, node_shape(node), axis, alive, constant).simplified()


def _moved(builder: Builder, node: fx.Node, flow: Flow, axis: int | None, *args: Any) -> Flow:
    args = tuple(fx.map_arg(arg, builder.value) for arg in args)
    new = builder.graph.call_function(node.target, (flow.node, *args), dict(node.kwargs)) if flow.node else None  # type: ignore[arg-type]
    return replace(flow, node=new, axis=axis, shape=node_shape(node))


def _channels(builder: Builder, flow: Flow, chosen: Tensor) -> Flow:
    """Return some channels of a flow, renumbered from 0."""
    assert flow.axis is not None and flow.alive is not None and flow.constant is not None
    places = torch.isin(chosen, flow.alive).nonzero().flatten()
    picked = builder.pick(flow, chosen[places])
    shape = (*flow.shape[: flow.axis], len(chosen), *flow.shape[flow.axis + 1 :])
    return Flow(picked.node, shape, flow.axis, places, flow.constant[chosen])


def _at(node: fx.Node, position: int, default: Any = None) -> Any:
    return node.args[position] if len(node.args) > position else default


def _list(value: Any) -> list[Any]:
    return [value] if isinstance(value, (int, float)) else list(value)
