"""Where two tensors meet: sums, products and the like of what is alive on either side, and the blend of a gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.edit.builder import Builder
from neurochains.edit.flow import Flow, Held
from neurochains.network.nodes import shape_at

aten = torch.ops.aten

__all__ = ["blend", "join"]


def join(builder: Builder, target: Any, left: Flow, right: Flow, value: Tensor) -> Flow:
    """Return the sum, difference, product, quotient, maximum or minimum of two tensors.

    Either may be broadcast; `value` is the original graph's record of the result.
    """
    axis = max(left.axis, right.axis)
    aligned = len(left.shape) == len(right.shape) and left.runs_along(axis) and right.runs_along(axis)
    if not aligned or (left.dense and right.dense):
        return Flow(builder.call(target, builder.whole(left), builder.whole(right)), value)
    if left.shape[axis] != right.shape[axis]:
        return _join_single(builder, target, left, right, value)
    left, right = left.with_channels(axis), right.with_channels(axis)
    alive, constant = _joint_channels(target, left, right), target(left.constant, right.constant)
    if target is aten.div.Tensor:  # a removed channel stays 0, whatever it is divided by
        constant[left.dead & (left.constant == 0) & ~right.dead] = 0
    if not len(alive):
        return Flow(None, value, axis, alive, constant)
    node = _added(builder, left, right, alive) if target is aten.add.Tensor else None
    if node is None:
        node = builder.call(target, *(builder.pick(side, alive).node for side in (left, right)))
    return Flow(node, value, axis, alive, constant).simplified()


def _added(builder: Builder, left: Flow, right: Flow, alive: Tensor) -> fx.Node | None:
    """Return a sum in which one side is added to some channels of the other; None where it has to be added to all."""
    large, small = (left, right) if len(left.alive) >= len(right.alive) else (right, left)
    absent = alive[~torch.isin(alive, small.alive)]
    if small.node is None or not len(absent) or bool(small.constant[absent].any()) or not _same_sizes(left, right):
        return None
    whole = builder.pick(large, alive).node
    assert whole is not None
    part = builder.call(aten.to.other, small.node, whole)  # under autocast, they may differ in type
    return builder.add_at(whole, small, alive, part)


def _same_sizes(left: Flow, right: Flow) -> bool:
    """Return whether neither side is broadcast, whatever the batch."""
    return all(shape_at(left.value, batch) == shape_at(right.value, batch) for batch in (1, 2))


def blend(builder: Builder, entry: Flow | Held, exit_: Flow | Held, gate: fx.Node) -> Flow:
    """Return ``G * block(x) + (1 - G) * x``, with a new node for the gate ``G``."""
    rest = builder.call(aten.rsub.Scalar, gate, 1.0)
    parts = []
    for part, factor in ((exit_, gate), (entry, rest)):
        flow = builder.revive(builder.as_flow(part))
        node = None if flow.node is None else builder.call(aten.mul.Tensor, flow.node, factor)
        parts.append(replace(flow, node=node))
    return join(builder, aten.add.Tensor, parts[0], parts[1], parts[0].value)


def _joint_channels(target: Any, left: Flow, right: Flow) -> Tensor:
    """Return the channels that vary: those alive on either side, less what a product with 0 makes 0."""
    varying = ~(left.dead & right.dead)
    if target in (aten.mul.Tensor, aten.div.Tensor):
        varying &= ~(left.dead & (left.constant == 0))
    if target is aten.mul.Tensor:
        varying &= ~(right.dead & (right.constant == 0))
    return varying.nonzero().flatten()


def _join_single(builder: Builder, target: Any, left: Flow, right: Flow, value: Tensor) -> Flow:
    """Join channels with a single map that goes for all of them (spatial attention)."""
    axis = max(left.axis, right.axis)
    many, one = (left, right) if left.shape[axis] > 1 else (right, left)
    if target is not aten.mul.Tensor or many.dense:
        return Flow(builder.call(target, builder.whole(left), builder.whole(right)), value)
    many = builder.revive(many)
    node = None if many.node is None else builder.call(target, many.node, builder.whole(one))
    return replace(many, node=node, value=value)
