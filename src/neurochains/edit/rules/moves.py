"""Rules for operations that move values: whole channels are followed; a split channel axis is held back until whole."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.edit.builder import Builder
from neurochains.edit.flow import Flow, Held
from neurochains.edit.rules.registry import rule
from neurochains.network.nodes import argument, as_list, node_shape, shape_at, size_at
from neurochains.network.operations import MOVING

aten = torch.ops.aten

Mover = Callable[[Builder, fx.Node, Flow], Any]
"""Writes an operation on whole channels; returns None for one that takes channels apart."""

_MOVERS: dict[Any, Mover] = {}
_PROBE = 2  # the batch for which positions of elements are followed; 1 would hide the batch axis


def mover(*targets: Any) -> Callable[[Mover], Mover]:
    """Enter a rule for an operation that moves whole channels."""

    def enter(function: Mover) -> Mover:
        _MOVERS.update(dict.fromkeys(targets, function))
        return function

    return enter


@rule(*MOVING)
def move(builder: Builder, node: fx.Node) -> Any:
    """Follow the channels; hold back what splits them."""
    source = node.args[0]
    flow = builder.flows.get(source) if isinstance(source, fx.Node) else None
    if isinstance(flow, Held):
        return _held_back(builder, node, flow)
    if not isinstance(flow, Flow) or flow.dense:
        return builder.without_rule(node)
    rule_of = _MOVERS.get(node.target)
    moved = rule_of(builder, node, flow) if rule_of else None
    return _held_back(builder, node, flow) if moved is None else moved


@rule(operator.getitem)
def item(builder: Builder, node: fx.Node) -> Any:
    """Return one of several results."""
    value, index = builder.source(node), as_list(node.args)[1]
    return value[index] if isinstance(value, list) else Flow(builder.call(operator.getitem, value, index), _value(node))


@rule(aten.cat.default)
def cat(builder: Builder, node: fx.Node) -> Any:
    """Put channels side by side; tensors with channels on another axis are joined at full width."""
    flows: list[Any] = [builder.flows.get(part) for part in as_list(node.args[0])]
    axis = argument(node, 1, 0) % len(node_shape(node))
    fitting = all(isinstance(flow, Flow) and flow.runs_along(axis) for flow in flows)
    if not fitting or all(flow.dense for flow in flows):
        return builder.without_rule(node)
    spelt = [flow.with_channels(axis) for flow in flows]
    offsets = torch.tensor([0, *[flow.width for flow in spelt]]).cumsum(0)
    alive = torch.cat([flow.alive + offset for flow, offset in zip(spelt, offsets, strict=False)])
    nodes = [flow.node for flow in spelt if flow.node is not None]
    new = builder.call(aten.cat.default, nodes, axis) if len(nodes) > 1 else (nodes[0] if nodes else None)
    return Flow(new, _value(node), axis, alive, torch.cat([flow.constant for flow in spelt])).simplified()


def _held_back(builder: Builder, node: fx.Node, flow: Flow | Held) -> Any:
    """Follow where the elements go; once whole channels are back, an index map does it all."""
    rest = (node.args[1:], node.kwargs)
    if _reads_tensors(rest):
        return builder.without_rule(node)
    anchor, nodes = (flow.anchor, flow.nodes) if isinstance(flow, Held) else (flow, ())
    shape = shape_at(anchor.value, _PROBE)
    places = flow.places if isinstance(flow, Held) else torch.arange(math.prod(shape)).view(shape)
    args, kwargs = fx.map_arg(rest, lambda arg: size_at(arg.meta["val"], _PROBE))
    target: Any = node.target
    moved = target(places, *args, **kwargs)
    if not isinstance(moved, Tensor):
        return builder.without_rule(node)
    held = Held(anchor, moved, (*nodes, node))
    return _settled(builder, held) or held


def _reads_tensors(arguments: Any) -> bool:
    found: list[fx.Node] = []
    fx.map_arg(arguments, lambda arg: found.append(arg) or arg)
    return any(isinstance(node.meta.get("val"), Tensor) for node in found)


def _settled(builder: Builder, held: Held) -> Flow | None:
    """Return what was held back as a flow when its elements are the anchor's, with whole channels in some order."""
    anchor = held.anchor
    shape = shape_at(anchor.value, _PROBE)
    if tuple(held.places.shape) != shape:
        return None
    first = [slice(None) if axis == anchor.axis else 0 for axis in range(len(shape))]
    order = held.places[tuple(first)] // math.prod(shape[anchor.axis + 1 :]) % anchor.width
    elements = torch.arange(math.prod(shape)).view(shape)
    if not torch.equal(elements.index_select(anchor.axis, order), held.places):
        return None
    return _chosen(builder, anchor, order, _value(held.nodes[-1]))


@mover(aten.clone.default, aten.contiguous.default)
def _copy(builder: Builder, node: fx.Node, flow: Flow) -> Flow:  # noqa: ARG001 - nothing writes in place, so no copy
    return flow


@mover(aten.permute.default)
def _permute(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    order = [axis % len(flow.shape) for axis in as_list(node.args[1])]
    return _moved(builder, node, flow, order.index(flow.axis))


@mover(aten.transpose.int)
def _transpose(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    first, second = (argument(node, position) % len(flow.shape) for position in (1, 2))
    return _moved(builder, node, flow, {first: second, second: first}.get(flow.axis, flow.axis))


@mover(aten.unsqueeze.default)
def _unsqueeze(builder: Builder, node: fx.Node, flow: Flow) -> Flow:
    place = argument(node, 1) % (len(flow.shape) + 1)
    return _moved(builder, node, flow, flow.axis + (place <= flow.axis))


@mover(aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    gone = {axis % len(flow.shape) for axis in as_list(node.args[1])}
    gone = {axis for axis in gone if shape_at(flow.value, _PROBE)[axis] == 1}
    if flow.axis in gone:
        return None
    new = None if flow.node is None else builder.call(aten.squeeze.dims, flow.node, sorted(gone))
    return replace(flow, node=new, axis=flow.axis - sum(axis < flow.axis for axis in gone), value=_value(node))


@mover(aten.select.int)
def _select(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    axis = argument(node, 1) % len(flow.shape)
    return None if axis == flow.axis else _moved(builder, node, flow, flow.axis - (axis < flow.axis))


@mover(aten.roll.default)
def _roll(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    axes = {axis % len(flow.shape) for axis in as_list(argument(node, 2, []))}
    return _moved(builder, node, flow, flow.axis) if axes and flow.axis not in axes else None


@mover(aten.slice.Tensor)
def _slice(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    if argument(node, 1, 0) % len(flow.shape) != flow.axis:
        return _moved(builder, node, flow, flow.axis)
    bounds = [argument(node, position) for position in (2, 3, 4)]
    if any(isinstance(bound, fx.Node) for bound in bounds):
        return None
    return _chosen(builder, flow, torch.arange(flow.width)[slice(*bounds)], _value(node))


@mover(aten.index_select.default)
def _index_select(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    index = builder.weight(argument(node, 2))
    if index is None or argument(node, 1) % len(flow.shape) != flow.axis:
        return None
    return _chosen(builder, flow, index.cpu(), _value(node))


@mover(aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default)
def _split(builder: Builder, node: fx.Node, flow: Flow) -> list[Flow] | None:
    sizes: Any = node.args[1]
    if argument(node, 2, 0) % len(flow.shape) != flow.axis:
        return None
    every = torch.arange(flow.width)
    parts = every.chunk(sizes) if node.target is aten.chunk.default else every.split(sizes)
    return [_chosen(builder, flow, part, value) for part, value in zip(parts, node.meta["val"], strict=True)]


@mover(aten.expand.default, aten.expand_as.default)
def _expand(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    sizes = [builder.size(size) for size in _value(node).shape]
    axis = len(sizes) - len(flow.shape) + flow.axis
    if sizes[axis] != flow.width:
        return None
    sizes[axis] = len(flow.alive)
    new = None if flow.node is None else builder.call(aten.expand.default, flow.node, sizes)
    return replace(flow, node=new, axis=axis, value=_value(node))


@mover(aten.reshape.default, aten.flatten.using_ints)
def _view(builder: Builder, node: fx.Node, flow: Flow) -> Flow | None:
    """Keep the channel axis whole, or flatten it with the positions behind it."""
    old, new = shape_at(flow.value, _PROBE), shape_at(_value(node), _PROBE)
    before, behind = math.prod(old[: flow.axis]), math.prod(old[flow.axis + 1 :])
    for axis, size in enumerate(new):
        if math.prod(new[:axis]) != before or (size == 1 and flow.width > 1):
            continue
        if size == flow.width:
            return _viewed(builder, node, flow, axis, 1)
        if size == flow.width * behind:
            return _viewed(builder, node, flow, axis, behind)
    return None


def _viewed(builder: Builder, node: fx.Node, flow: Flow, axis: int, behind: int) -> Flow:
    """Return a view in which each channel takes `behind` places of an axis."""
    alive = (flow.alive[:, None] * behind + torch.arange(behind)).flatten()
    sizes = [builder.size(size) for size in _value(node).shape]
    sizes[axis] = len(alive)
    new = None if flow.node is None else builder.call(aten.reshape.default, flow.node, sizes)
    return Flow(new, _value(node), axis, alive, flow.constant.repeat_interleave(behind))


def _value(node: fx.Node) -> Tensor:
    return node.meta["val"]


def _moved(builder: Builder, node: fx.Node, flow: Flow, axis: int) -> Flow:
    """Return an operation that leaves whole channels, which are on `axis` afterwards."""
    return replace(flow, node=builder.run(node, flow, *node.args[1:]), axis=axis, value=_value(node))


def _chosen(builder: Builder, flow: Flow, chosen: Tensor, value: Tensor) -> Flow:
    """Return some channels of a flow, in some order, renumbered from 0."""
    places = torch.isin(chosen, flow.alive).nonzero().flatten()
    picked = builder.select(flow, chosen[places])
    return Flow(picked.node, value, flow.axis, places, flow.constant[chosen]).simplified()
