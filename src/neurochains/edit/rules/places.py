"""Rules for operations on positions: pooling, reductions over rows and columns, padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.edit.builder import Builder
from neurochains.edit.flow import Flow
from neurochains.edit.rules.registry import rule
from neurochains.network.nodes import argument, as_list
from neurochains.network.operations import PADDING, POOLING, REDUCING

aten = torch.ops.aten


@rule(*POOLING)
def pooling(builder: Builder, node: fx.Node) -> Any:
    """Pool what is alive; where averages count the padding, constant channels vary and are made real."""
    flow = builder.source(node)
    if not isinstance(flow, Flow) or not flow.runs_along(1) or not isinstance(node.meta["val"], Tensor):
        return builder.without_rule(node)
    if node.target is aten.avg_pool2d.default and _varies(node):
        flow = builder.revive(flow)
    return replace(flow, node=builder.run(node, flow, *node.args[1:]), value=node.meta["val"])


def _varies(node: fx.Node) -> bool:
    """Return whether the average of a constant may be another number."""
    padded = any(as_list(argument(node, 3, 0))) and argument(node, 5, True)
    return bool(padded or argument(node, 6) is not None)


@rule(*REDUCING)
def reduction(builder: Builder, node: fx.Node) -> Any:
    """Reduce axes other than that of the channels."""
    flow, axes = builder.source(node), argument(node, 1)
    if not isinstance(flow, Flow) or flow.dense or axes is None or axes == []:
        return builder.without_rule(node)
    gone = {axis % len(flow.shape) for axis in as_list(axes)}
    if flow.axis in gone or 0 in gone:
        return builder.without_rule(node)
    axis = flow.axis if argument(node, 2, False) else flow.axis - sum(other < flow.axis for other in gone)
    count = math.prod(flow.shape[other] for other in gone) if node.target is aten.sum.dim_IntList else 1
    new = builder.run(node, flow, *node.args[1:])
    return replace(flow, node=new, axis=axis, value=node.meta["val"], constant=flow.constant * count)


@rule(*PADDING)
def padding(builder: Builder, node: fx.Node) -> Any:
    """Pad positions, and channels (the shortcuts of CIFAR ResNets): channels that are padded are constant."""
    flow, pads = builder.source(node), as_list(node.args[1])
    if not isinstance(flow, Flow) or flow.dense or not all(isinstance(size, int) for size in pads):
        return builder.without_rule(node)
    (before, after), positions = _of_axis(pads, len(flow.shape), flow.axis)
    number = _number(node)
    if any(positions) and number != 0:
        return builder.without_rule(node)
    if (before or after) and (min(before, after) < 0 or not _is_constant_mode(node)):
        return builder.without_rule(node)
    flow = builder.revive(flow) if any(positions) else flow
    constant = torch.nn.functional.pad(flow.constant, [before, after], value=number)
    new = builder.run(node, flow, positions, *node.args[2:]) if any(positions) else flow.node
    return Flow(new, node.meta["val"], flow.axis, flow.alive + before, constant)


def _of_axis(pads: Sequence[int], dimensions: int, axis: int) -> tuple[tuple[int, int], list[int]]:
    """Return the padding of one axis, and the padding of the others."""
    place = 2 * (dimensions - 1 - axis)
    if place >= len(pads):
        return (0, 0), list(pads)
    return (pads[place], pads[place + 1]), [*pads[:place], 0, 0, *pads[place + 2 :]]


def _is_constant_mode(node: fx.Node) -> bool:
    return argument(node, 2, "constant") == "constant" or not isinstance(argument(node, 2), str)


def _number(node: fx.Node) -> float:
    """Return what a constant padding fills in; ``pad`` and ``constant_pad_nd`` have it in different places."""
    numbers = [arg for arg in (*node.args[2:], *node.kwargs.values()) if isinstance(arg, (int, float))]
    return float(numbers[0]) if numbers else 0.0
