"""The graph that reads tokens, rewritten so that patches may leave it: ``(stream, *steps) -> logits``, or the maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from neurochains.edit.token_steps import TokenStep
from neurochains.network.attention import FUSED
from neurochains.network.layouts import BATCH, Layout, TokenAxis, token_axes
from neurochains.network.nodes import argument, as_list, node_shape, output_node, tensor_inputs
from neurochains.network.operations import BINARY
from neurochains.network.tokens import Tokens

aten = torch.ops.aten

__all__ = ["read_graph"]

_COMBINING = BINARY | {aten.index_add.default}
_VIEWS = (aten.reshape.default, aten.unflatten.int)


def read_graph(module: fx.GraphModule, tokens: Tokens, *, maps: bool = False) -> fx.GraphModule:
    """Return the graph from the first entry on: ``(stream, *steps)`` to the logits, or to the maps of each head."""
    return _Walk(module, tokens, maps).module()


class _Walk:
    """One walk through the nodes, in order; `_step` and `_stream` are those of the block it is in."""

    def __init__(self, module: fx.GraphModule, tokens: Tokens, maps: bool) -> None:
        self._source = module
        self._tokens = tokens
        self._entries = {block.entry: place for place, block in enumerate(tokens.blocks)}
        attentions = [attention for block in tokens.blocks for attention in block.attentions]
        self._softmaxes = {attention.softmax for attention in attentions if attention.softmax}
        self._reads = {attention.read: attention for attention in attentions}
        self._graph = fx.Graph()
        self._stream = self._graph.placeholder("stream")
        self._steps = [self._graph.placeholder(f"step_{place}") for place in range(len(tokens.blocks))]
        self._step = self._steps[0]
        self._entered = False
        self._new: dict[fx.Node, fx.Node] = {}
        self._maps: list[fx.Node] | None = [] if maps else None

    def module(self) -> fx.GraphModule:
        """Return the rewritten graph."""
        made: set[fx.Node] = set()  # what holds values of the images before there are tokens
        for node in self._source.graph.nodes:
            if node.op == "output":
                break
            if node in self._entries:
                self._enter(node)
            elif not self._entered and _is_made(node, made):
                made.add(node)
            else:
                self._new[node] = self._written(node)
        result = self._new[output_node(self._source.graph)] if self._maps is None else self._maps
        self._graph.output(result)
        self._graph.eliminate_dead_code()
        return fx.GraphModule(self._source, self._graph)

    def _enter(self, entry: fx.Node) -> None:
        stream = self._written(entry) if self._entered else self._stream
        self._entered = True
        self._step = self._steps[self._entries[entry]]
        self._stream = self._call(move, stream, self._step, self._tokens.special)
        self._new[entry] = self._stream

    def _written(self, node: fx.Node) -> fx.Node:
        """Return what a node becomes."""
        if node.target is aten.sym_size.int and node.args[0] not in self._new:
            return self._call(aten.sym_size.int, self._stream, 0)
        layout = self._tokens.layouts.get(node)
        if node.target is FUSED and node in self._reads:
            return self._fused(node)
        if node in self._tokens.pools:
            return self._pooled(node)
        if layout is None or isinstance(layout, list):
            return self._copied(node)
        if node.target in _VIEWS:
            return self._call(aten.reshape.default, self._new[node.args[0]], self._sizes(layout))  # type: ignore[index]
        if node.target is aten.expand.default:
            return self._expanded(node, layout)
        return self._weighed(node, layout)

    def _weighed(self, node: fx.Node, layout: Layout) -> fx.Node:
        """Write an operation; the logits of a softmax get their bias, the maps of talking heads their weights."""
        attention = self._reads.get(node)
        if node in self._softmaxes:
            return self._softmax(node)
        if attention and attention.mixed:
            keys = self._lead(node.args[-2], -1)
            maps = self._call(masked, self._new[node.args[-2]], self._step, keys)  # type: ignore[index]
            args = (*map(self._value, node.args[:-2]), maps, self._value(node.args[-1]))
            return self._graph.call_function(node.target, args)  # type: ignore[arg-type]
        return self._taking(node, layout) if node.target in _COMBINING else self._copied(node)

    def _softmax(self, node: fx.Node) -> fx.Node:
        (source,) = tensor_inputs(node)
        logits = self._call(biased, self._new[source], self._step, self._lead(source, -1))
        maps = self._graph.call_function(node.target, (logits, *node.args[1:]), dict(node.kwargs))  # type: ignore[arg-type]
        if self._maps is not None:
            self._maps.append(self._call(by_head, maps, self._stream))
        return maps

    def _fused(self, node: fx.Node) -> fx.Node:
        query, key, value = (self._value(arg) for arg in node.args[:3])
        mask = self._mask(node)
        options = {name: argument(node, place, default) for place, name, default in _FUSED_OPTIONS}
        lead = self._lead(node.args[1], -2)
        if self._maps is not None:
            self._maps.append(
                self._call(fused_maps, query, key, mask, self._step, lead, options["scale"], options["is_causal"])
            )
        return self._graph.call_function(attend, (query, key, value, mask, self._step, lead), options)

    def _mask(self, node: fx.Node) -> Any:
        mask = argument(node, 3)
        if not isinstance(mask, fx.Node):
            return mask
        dimensions = len(node_shape(node))
        axes = {dimensions - 1: self._lead(node.args[1], -2)}
        if self._tokens.layouts.get(node.args[0]):  # type: ignore[call-overload]
            axes[dimensions - 2] = self._lead(node.args[0], -2)
        return self._taken(mask, axes, dimensions)

    def _pooled(self, node: fx.Node) -> fx.Node:
        source = node.args[0]
        layout = self._tokens.layouts[source]  # type: ignore[index]
        over = [axis % len(layout) for axis in as_list(node.args[1])]
        ((axis, tokens),) = [item for item in token_axes(layout).items() if item[0] in over]
        return self._call(pooled, self._new[source], self._step, over, argument(node, 2, False), axis, tokens.lead)  # type: ignore[index]

    def _expanded(self, node: fx.Node, layout: Layout) -> fx.Node:
        sizes = [
            -1 if any(isinstance(f, TokenAxis) for f in axis) else self._value(size)
            for axis, size in zip(layout, as_list(node.args[1]), strict=True)
        ]
        return self._call(aten.expand.default, self._value(node.args[0]), sizes)

    def _taking(self, node: fx.Node, layout: Layout) -> fx.Node:
        """Write an operation whose constants are read at the tokens that are there."""
        axes = {axis: tokens.lead for axis, tokens in token_axes(layout).items()}
        args = [self._operand(arg, axes, len(layout)) for arg in node.args]
        kwargs = fx.map_arg(node.kwargs, self._value)
        return self._graph.call_function(node.target, tuple(args), kwargs)  # type: ignore[arg-type]

    def _operand(self, arg: Any, axes: dict[int, int], dimensions: int) -> Any:
        if not isinstance(arg, fx.Node) or arg in self._tokens.layouts or not isinstance(arg.meta.get("val"), Tensor):
            return fx.map_arg(arg, self._value)
        return self._taken(arg, axes, dimensions)

    def _taken(self, constant: fx.Node, axes: dict[int, int], dimensions: int) -> fx.Node:
        shape = (1,) * (dimensions - len(node_shape(constant))) + node_shape(constant)
        along = {axis: lead for axis, lead in axes.items() if shape[axis] > 1}
        return (
            self._call(take, self._value(constant), self._step, along, dimensions) if along else self._value(constant)
        )

    def _sizes(self, layout: Layout) -> list[Any]:
        return [self._size(axis) for axis in layout]

    def _size(self, axis: Sequence[Any]) -> Any:
        leads = [factor.lead for factor in axis if isinstance(factor, TokenAxis)]
        number = math.prod(factor for factor in axis if isinstance(factor, int))
        if not leads and BATCH not in axis:
            return number
        return self._call(size_of, self._stream, number, BATCH in axis, leads, self._tokens.special)

    def _lead(self, node: Any, axis: int) -> int:
        (tokens,) = self._tokens.layouts[node][axis]
        return tokens.lead

    def _value(self, argument_: Any) -> Any:
        return self._new[argument_] if isinstance(argument_, fx.Node) else argument_

    def _copied(self, node: fx.Node) -> fx.Node:
        return self._graph.node_copy(node, self._value)

    def _call(self, target: Any, *args: Any) -> fx.Node:
        return self._graph.call_function(target, args)


def _is_made(node: fx.Node, made: set[fx.Node]) -> bool:
    """Return whether a node holds values of the images, rather than constants or sizes."""
    if node.op == "placeholder":
        return True
    return not isinstance(node.meta.get("val"), torch.SymInt) and bool(made & set(node.all_input_nodes))


_FUSED_OPTIONS = ((4, "dropout_p", 0.0), (5, "is_causal", False), (6, "scale", None), (7, "enable_gqa", False))


# --- what the rewritten graph calls -----------------------------------------------------------------------------------


def move(stream: Tensor, step: TokenStep, lead: int) -> Tensor:
    """Return the stream ``(B, T, W)`` without the patches that leave it."""
    if step.move is None:
        return stream
    places = step.move[..., None].expand(-1, -1, stream.shape[2])
    return torch.cat([stream[:, :lead], stream[:, lead:].gather(1, places)], 1)


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, step: TokenStep, lead: int, **options: Any
) -> Tensor:
    """Return fused attention ``(B, H, Q, D)`` with the weights of the keys."""
    bias = _key_bias(step, lead, query)
    if bias is not None:
        mask = bias if mask is None else _additive(mask, bias) + bias
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, **options)


def fused_maps(
    query: Tensor, key: Tensor, mask: Tensor | None, step: TokenStep, lead: int, scale: float | None, causal: bool
) -> Tensor:
    """Return the maps ``(B, H, Q, K)`` of fused attention."""
    logits = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        logits = logits + torch.full_like(logits, -math.inf).triu(1)
    for shift in (None if mask is None else _additive(mask, logits), _key_bias(step, lead, query)):
        logits = logits if shift is None else logits + shift
    return logits.softmax(-1)


def by_head(maps: Tensor, stream: Tensor) -> Tensor:
    """Return maps ``(B, H, Q, K)``, also where images and heads were joined."""
    return maps if maps.ndim == 4 else maps.unflatten(0, (len(stream), -1))


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype is not torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(~mask, -math.inf)


def _key_bias(step: TokenStep, lead: int, like: Tensor) -> Tensor | None:
    return None if step.bias is None else F.pad(step.bias, (lead, 0))[:, None, None].to(like.dtype)


def biased(logits: Tensor, step: TokenStep, lead: int) -> Tensor:
    """Return logits ``(B, H, Q, K)``, or with images and heads joined, with the weights of the keys."""
    if step.bias is None:
        return logits
    rows = F.pad(step.bias, (lead, 0)).to(logits.dtype).repeat_interleave(len(logits) // len(step.bias), 0)
    return logits + rows.view(len(rows), *(1,) * (logits.ndim - 2), -1)


def masked(maps: Tensor, step: TokenStep, lead: int) -> Tensor:
    """Return maps whose keys count what they weigh; those of talking heads are not 0 where the softmax was."""
    if step.weight is None:
        return maps
    rows = F.pad(step.weight, (lead, 0), value=1.0).to(maps.dtype).repeat_interleave(len(maps) // len(step.weight), 0)
    return maps * rows.view(len(rows), *(1,) * (maps.ndim - 2), -1)


def pooled(values: Tensor, step: TokenStep, axes: Sequence[int], keep: bool, axis: int, lead: int) -> Tensor:
    """Return the average over tokens, each counted by its weight."""
    if step.weight is None:
        return values.mean(list(axes), keep)
    shape = [1] * values.ndim
    weight = F.pad(step.weight, (lead, 0), value=1.0).to(values.dtype)
    shape[0], shape[axis] = weight.shape
    total = (values * weight.view(shape)).mean(list(axes), True) * weight.shape[1]
    mean = total / weight.sum(1).view(-1, *(1,) * (values.ndim - 1))
    return mean if keep else mean.squeeze(list(axes))


def take(constant: Tensor, step: TokenStep, axes: dict[int, int], dimensions: int) -> Tensor:
    """Return a constant at the tokens that are there, along the axes given with their leading tokens."""
    if step.ids is None:
        return constant
    constant = constant.reshape((1,) * (dimensions - constant.ndim) + tuple(constant.shape))
    for axis, lead in axes.items():
        first = torch.arange(lead, device=step.ids.device).expand(len(step.ids), -1)
        index = torch.cat([first, step.ids + lead], 1)
        shape = [1] * dimensions
        shape[0], shape[axis] = index.shape
        constant = torch.take_along_dim(constant, index.view(shape), axis)
    return constant


def size_of(stream: Tensor, number: int, images: bool, leads: Sequence[int], special: int) -> int:
    """Return the size of an axis that counts images, tokens and other things."""
    tokens = math.prod(stream.shape[1] - special + lead for lead in leads)
    return number * tokens * (len(stream) if images else 1)
