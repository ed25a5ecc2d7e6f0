"""Rules for operations on single values: run on what is alive, constants computed at once on the full vector."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.edit.builder import Builder
from neurochains.edit.flow import Flow
from neurochains.edit.joins import join
from neurochains.edit.rules.registry import rule
from neurochains.network.nodes import is_constant
from neurochains.network.operations import BINARY, KEEPING, NORMALISING

aten = torch.ops.aten

_BY_CHANNEL = frozenset({aten.batch_norm.default, aten.prelu.default})
_COMMUTATIVE = frozenset({aten.add.Tensor, aten.mul.Tensor})


@rule(*(KEEPING - NORMALISING - _BY_CHANNEL))
def elementwise(builder: Builder, node: fx.Node) -> Any:
    """Treat every value alike."""
    flow = builder.source(node)
    if not isinstance(flow, Flow) or not all(isinstance(arg, (int, float, str, type(None))) for arg in node.args[1:]):
        return builder.without_rule(node)
    new = builder.run(node, flow, *node.args[1:])
    return replace(flow, node=new, value=node.meta["val"], constant=_constant(node, flow.constant, *node.args[1:]))


def _constant(node: fx.Node, constant: Tensor, *rest: Any) -> Tensor:
    """Return what an operation makes of the constants of channels; nothing of those of a dense flow."""
    if not len(constant):
        return constant
    target: Any = node.target
    kwargs = {name: value for name, value in node.kwargs.items() if name not in ("device", "pin_memory", "layout")}
    with torch.no_grad():
        return target(constant, *rest, **kwargs)


@rule(aten.batch_norm.default)
def batch_norm(builder: Builder, node: fx.Node) -> Any:
    """Normalise each channel by its running statistics."""
    flow = builder.source(node)
    if not isinstance(flow, Flow) or not flow.runs_along(1) or not all(map(is_constant, node.args[1:])):
        return builder.without_rule(node)
    flow = flow.with_channels(1)
    weights = [builder.weight(arg) for arg in node.args[1:5]]
    on_cpu = [None if weight is None else weight.cpu() for weight in weights]
    constant = _constant(node, flow.constant[None], *on_cpu, *node.args[5:])[0]
    parts = [builder.hold_part(arg, flow.alive) for arg in node.args[1:5]]
    new = builder.run(node, flow, *parts, *node.args[5:])
    return replace(flow, node=new, value=node.meta["val"], constant=constant).simplified()


@rule(aten.prelu.default)
def prelu(builder: Builder, node: fx.Node) -> Any:
    """Scale negative values by a slope of each channel, or one for all."""
    flow, slopes = builder.source(node), builder.weight(node.args[1])
    if not isinstance(flow, Flow) or slopes is None or not flow.runs_along(1):
        return builder.without_rule(node)
    flow = flow.with_channels(1)
    constant = torch.where(flow.constant >= 0, flow.constant, flow.constant * slopes.cpu())
    part = builder.hold(slopes if len(slopes) == 1 else slopes[flow.alive.to(slopes.device)])
    new = None if flow.node is None else builder.call(node.target, flow.node, part)
    return replace(flow, node=new, value=node.meta["val"], constant=constant).simplified()


@rule(*BINARY)
def binary(builder: Builder, node: fx.Node) -> Any:
    """Combine two tensors, or a tensor with a number or a parameter."""
    left, right = node.args[:2]
    if node.target in _COMMUTATIVE and is_constant(left):
        left, right = right, left
    flow, other = builder.flows.get(left), builder.flows.get(right)  # type: ignore[arg-type]
    if not isinstance(flow, Flow) or node.kwargs:
        return builder.without_rule(node)
    if isinstance(right, (int, float)):
        constant = _constant(node, flow.constant, right)
        return replace(flow, node=builder.run(node, flow, right), value=node.meta["val"], constant=constant)
    if isinstance(other, Flow):
        return join(builder, node.target, flow, other, node.meta["val"])
    weight = builder.weight(right)
    return builder.without_rule(node) if weight is None or flow.dense else _with_parameter(builder, node, flow, weight)


def _with_parameter(builder: Builder, node: fx.Node, flow: Flow, weight: Tensor) -> Any:
    """Scale or shift by a parameter with one value for each channel, or one for all."""
    if weight.ndim > len(flow.shape):
        return builder.without_rule(node)
    padded = weight.reshape((1,) * (len(flow.shape) - weight.ndim) + tuple(weight.shape))
    vector = padded.flatten()
    if padded.shape[flow.axis] != len(vector):
        return builder.without_rule(node)
    constant = _constant(node, flow.constant, vector.cpu())
    part = padded if len(vector) == 1 else padded.index_select(flow.axis, flow.alive.to(padded.device))
    new = None if flow.node is None else builder.call(node.target, flow.node, builder.hold(part))
    return replace(flow, node=new, value=node.meta["val"], constant=constant)
