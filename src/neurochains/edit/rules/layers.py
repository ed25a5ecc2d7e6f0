"""Rules for layers: the weight rows of the kept units and the columns of the channels that are alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.edit.builder import Builder
from neurochains.edit.flow import Flow
from neurochains.edit.rules.registry import rule
from neurochains.network.nodes import argument, as_list
from neurochains.network.operations import CONVOLUTIONS

aten = torch.ops.aten


@rule(*CONVOLUTIONS)
def convolution(builder: Builder, node: fx.Node) -> Any:
    """Convolve what is alive; where there is padding, constant channels cannot go into the bias and are made real."""
    flow, weight = builder.source(node), builder.weight(node.args[1])
    if weight is None or not isinstance(flow, Flow) or not flow.runs_along(1):
        return builder.without_rule(node)
    flow = flow.with_channels(1)
    groups = argument(node, 6, 1)
    if groups > 1:
        return _grouped(builder, node, builder.revive(flow), weight, groups)
    if not _is_unpadded(node):
        flow = builder.revive(flow)
    return _sliced(builder, node, flow, weight, axis=1)


@rule(aten.linear.default)
def linear(builder: Builder, node: fx.Node) -> Any:
    """Multiply what is alive."""
    flow, weight = builder.source(node), builder.weight(node.args[1])
    if weight is None or not isinstance(flow, Flow) or not flow.runs_along(len(flow.shape) - 1):
        return builder.without_rule(node)
    axis = len(flow.shape) - 1
    return _sliced(builder, node, flow.with_channels(axis), weight, axis=axis)


def _is_unpadded(node: fx.Node) -> bool:
    padding = argument(node, 4, 0)
    return padding == "valid" if isinstance(padding, str) else not any(as_list(padding))


def _kept_rows(builder: Builder, node: fx.Node, rows: int) -> Tensor:
    kept = builder.kept.get(node)
    return torch.arange(rows) if kept is None else kept


def _sliced(builder: Builder, node: fx.Node, flow: Flow, weight: Tensor, *, axis: int) -> Flow:
    """Return a layer on its kept rows and living columns; constant inputs go into the bias."""
    rows = _kept_rows(builder, node, len(weight))
    bias = builder.weight(argument(node, 2))
    folded = _folded_bias(weight, bias, flow)
    constant = torch.zeros(len(weight), dtype=flow.value.dtype) if folded is None else folded.cpu()
    if flow.node is None or not len(rows):
        return Flow(None, node.meta["val"], axis, rows[:0], constant)
    held = builder.hold_part(argument(node, 2), rows)
    if folded is not bias and folded is not None:
        held = builder.hold(folded[rows.to(folded.device)])
    new = builder.run(node, flow, builder.hold_part(node.args[1], rows, flow.alive), held, *node.args[3:])
    return Flow(new, node.meta["val"], axis, rows, constant).simplified()


def _folded_bias(weight: Tensor, bias: Tensor | None, flow: Flow) -> Tensor | None:
    """Return the bias plus what the constant channels contribute at every position."""
    dead = flow.live_constants
    if not len(dead):
        return bias
    columns = (
        weight[:, dead.to(weight.device)].flatten(2).sum(2) if weight.ndim > 2 else weight[:, dead.to(weight.device)]
    )
    extra = columns @ flow.constant[dead].to(columns)
    return extra if bias is None else bias + extra


@dataclass(frozen=True, slots=True)
class _Groups:
    """Which inputs and outputs of a grouped convolution live on, group by group; groups without either are gone.

    `inputs` has places among the alive channels, `columns` the same as columns of the weight, `outputs` rows of it.
    """

    inputs: list[Tensor]
    columns: list[Tensor]
    outputs: list[Tensor]

    @classmethod
    def of(cls, alive: Tensor, rows: Tensor, per_in: int, per_out: int) -> _Groups:
        """Return the living groups of the channels `alive` and the kept rows."""
        homes, targets = alive // per_in, rows // per_out
        live = [group for group in homes.unique().tolist() if bool((targets == group).any())]
        inputs = [(homes == group).nonzero().flatten() for group in live]
        columns = [alive[places] % per_in for places in inputs]
        return cls(inputs, columns, [rows[targets == group] for group in live])

    @property
    def widths(self) -> tuple[int, int]:
        """The largest number of inputs and of outputs of a group, which all groups are filled up to."""
        return max(map(len, self.inputs)), max(map(len, self.outputs))


def _grouped(builder: Builder, node: fx.Node, flow: Flow, weight: Tensor, groups: int) -> Flow:
    """Regroup: each group on its living inputs and kept outputs, filled up to one size with zero weights."""
    rows = _kept_rows(builder, node, len(weight))
    bias = builder.weight(argument(node, 2))
    constant = torch.zeros(len(weight), dtype=flow.value.dtype) if bias is None else bias.cpu()
    per_in, per_out = weight.shape[1], len(weight) // groups
    if per_in == per_out == 1:
        return _depthwise(builder, node, flow, rows, constant)
    living = _Groups.of(flow.alive, rows, per_in, per_out)
    if not living.inputs:
        return Flow(None, node.meta["val"], 1, rows[:0], constant)
    places = torch.cat([_filled(inputs, living.widths[0]) for inputs in living.inputs])
    source = _indexed(builder, flow, flow.node, places, len(flow.alive))
    held = [None if part is None else builder.hold(part) for part in _packed(weight, bias, living)]
    new: Any = builder.call(node.target, source, *held, *_options(node), len(living.inputs))
    real = [torch.arange(len(rows)) + place * living.widths[1] for place, rows in enumerate(living.outputs)]
    new = _indexed(builder, flow, new, torch.cat(real), len(living.inputs) * living.widths[1])
    return Flow(new, node.meta["val"], 1, torch.cat(living.outputs), constant).simplified()


def _depthwise(builder: Builder, node: fx.Node, flow: Flow, rows: Tensor, constant: Tensor) -> Flow:
    """Return one group for each channel that is both alive and kept."""
    rows = rows[torch.isin(rows, flow.alive)]
    source = builder.select(flow, rows).node
    if source is None:
        return Flow(None, node.meta["val"], 1, rows, constant)
    held = [builder.hold_part(argument(node, position), rows) for position in (1, 2)]
    new = builder.call(node.target, source, *held, *_options(node), len(rows))
    return Flow(new, node.meta["val"], 1, rows, constant).simplified()


def _packed(weight: Tensor, bias: Tensor | None, living: _Groups) -> tuple[Tensor, Tensor | None]:
    """Return the weight and bias of the living groups, group after group, filled up with zeros."""
    count, (wide_in, wide_out) = len(living.inputs), living.widths
    packed = weight.new_zeros(count, wide_out, wide_in, *weight.shape[2:])
    packed_bias = None if bias is None else bias.new_zeros(count, wide_out)
    for place, (columns, rows) in enumerate(zip(living.columns, living.outputs, strict=True)):
        packed[place, : len(rows), : len(columns)] = weight[rows.to(weight.device)][:, columns.to(weight.device)]
        if packed_bias is not None and bias is not None:
            packed_bias[place, : len(rows)] = bias[rows.to(bias.device)]
    return packed.flatten(0, 1), None if packed_bias is None else packed_bias.flatten()


def _filled(indices: Tensor, length: int) -> Tensor:
    """Return indices repeated up to a length; the weights of the repetitions are zero."""
    return torch.cat([indices, indices[:1].expand(length - len(indices))])


def _indexed(builder: Builder, flow: Flow, node: Any, places: Tensor, count: int) -> Any:
    """Return some of the channels of a new node laid out as a flow, itself when these are all of them in order."""
    if len(places) == count and torch.equal(places, torch.arange(count)):
        return node
    return builder.index(aten.index_select.default, flow, node, places)


def _options(node: fx.Node) -> list[Any]:
    """Return stride, padding and dilation."""
    ones = [1] * (len(node.meta["val"].shape) - 2)
    return [argument(node, 3, ones), argument(node, 4, [0] * len(ones)), argument(node, 5, ones)]
