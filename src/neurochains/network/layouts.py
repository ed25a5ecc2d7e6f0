"""Layouts: which axes of a tensor hold the images and which the tokens, followed from operation to operation.

A layout writes each axis as a product of factors: numbers, `BATCH`, and `TokenAxis`, so that a view that joins tokens
with images, or cuts channels into heads, is a regrouping of factors. What cannot be written so ends the search with
`LostTokensError`: a view that cuts the tokens up, a convolution over them, a sum over them that no softmax weights.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from neurochains.network.attention import FUSED, PRODUCTS
from neurochains.network.nodes import argument, as_list, module_path, shape_at
from neurochains.network.operations import BINARY, KEEPING

aten = torch.ops.aten

__all__ = ["BATCH", "BIG", "Factor", "Layout", "LostTokensError", "TokenAxis", "follow", "token_axes"]

BATCH = "images"
BIG = 10007  # a batch whose size is no other size of a graph


@dataclass(frozen=True, slots=True)
class TokenAxis:
    """`lead` tokens that are always there (class token and the like), then all `patches`."""

    lead: int
    patches: int

    @property
    def size(self) -> int:
        """All tokens on the axis."""
        return self.lead + self.patches


Factor = int | str | TokenAxis
Axis = tuple[Factor, ...]
Layout = tuple[Axis, ...]
"""One tuple of factors for each axis; an axis of size 1 has none."""


class LostTokensError(Exception):
    """Tokens cannot be followed through an operation; says why. Never leaves the package."""


_ALIGNED = KEEPING | {aten.type_as.default, aten.contiguous.default, aten.clone.default, aten.to.other}

Rule = Callable[[fx.Node, list[Any]], Any]
_RULES: dict[Any, Rule] = {}


def _rule(*targets: Any) -> Callable[[Rule], Rule]:
    def enter(function: Rule) -> Rule:
        _RULES.update(dict.fromkeys(targets, function))
        return function

    return enter


def follow(node: fx.Node, layouts: Mapping[fx.Node, Any], reads: Iterable[fx.Node]) -> Any:
    """Return the layout of a node that reads tokens: one, a list of them, or None when no tokens are left.

    Args:
        node: an operation of the graph.
        layouts: of the nodes before it; those that hold no tokens are left out.
        reads: the products that are known to weight tokens by a softmax.

    Raises:
        LostTokensError: the operation does something to tokens that cannot be followed.
    """
    inputs = [layouts.get(arg) for arg in _arguments(node)]
    if node.target in PRODUCTS:
        return _product(node, inputs, node in set(reads))
    if node.target in _RULES:
        return _RULES[node.target](node, inputs)
    if node.target in BINARY or node.target in _ALIGNED or len(inputs) == 1 == len(node.args):
        return _aligned(node, inputs)
    raise LostTokensError(f"{_said(node)} is not followed")


def token_axes(layout: Layout) -> dict[int, TokenAxis]:
    """Return the axes that hold tokens alone."""
    return {place: axis[0] for place, axis in enumerate(layout) if len(axis) == 1 and isinstance(axis[0], TokenAxis)}


def _arguments(node: fx.Node) -> list[fx.Node]:
    first = node.args[0] if node.args else None
    parts = as_list(first) if isinstance(first, (list, tuple)) else list(node.args)
    return [part for part in parts if isinstance(part, fx.Node)]


def _said(node: fx.Node) -> str:
    path, kind = module_path(node)
    return f"{node.target} in {path or 'the model'}{f' ({kind})' if kind else ''}"


def _has_tokens(axis: Axis) -> bool:
    return any(isinstance(factor, TokenAxis) for factor in axis)


def _plain(size: int) -> Axis:
    return () if size == 1 else ((BATCH,) if size == BIG else (size,))


def _size(factor: Factor) -> int:
    if isinstance(factor, TokenAxis):
        return factor.size
    return BIG if factor == BATCH else int(factor)


def _sizes(node: fx.Node) -> tuple[int, ...]:
    return shape_at(node.meta["val"], BIG)


def _kept(layout: Layout) -> Layout | None:
    """Return a layout, None where it has no tokens left."""
    return layout if any(map(_has_tokens, layout)) else None


def _only(inputs: Sequence[Any]) -> Layout:
    return next(layout for layout in inputs if layout is not None)


def _aligned(node: fx.Node, inputs: Sequence[Any]) -> Layout:
    """Join what is combined value by value; axes are counted from the last."""
    _check_norm(node, _only(inputs))
    sizes = _sizes(node)
    result: list[Axis] = [_plain(size) for size in sizes]
    for layout in inputs:
        for place, axis in enumerate(layout or ()):
            place += len(sizes) - len(layout)
            if not _has_tokens(axis):
                result[place] = result[place] if _has_tokens(result[place]) or not axis else axis
            elif _has_tokens(result[place]) and result[place] != axis:
                raise LostTokensError(f"{_said(node)} combines tokens of different kinds")
            else:
                result[place] = axis
    return tuple(result)


def _check_norm(node: fx.Node, layout: Layout) -> None:
    """Refuse statistics over tokens."""
    over: Sequence[Axis] = ()
    if node.target in (aten.layer_norm.default, aten.native_layer_norm.default, aten.rms_norm.default):
        over = layout[-len(as_list(node.args[1])) :]
    elif node.target in (aten.group_norm.default, aten.instance_norm.default, aten.native_group_norm.default):
        over = layout
    if any(map(_has_tokens, over)):
        raise LostTokensError(f"{_said(node)} normalises over the tokens")


@_rule(aten.linear.default)
def _linear(node: fx.Node, inputs: list[Any]) -> Layout:
    layout = _only(inputs)
    if _has_tokens(layout[-1]):
        raise LostTokensError(f"{_said(node)} mixes the tokens by fixed weights")
    return (*layout[:-1], _plain(_sizes(node)[-1]))


@_rule(aten.reshape.default, aten.flatten.using_ints, aten.unflatten.int)
def _view(node: fx.Node, inputs: list[Any]) -> Layout:
    factors = [factor for axis in _only(inputs) for factor in axis]
    result = []
    for size in _sizes(node):
        axis: list[Factor] = []
        while math.prod(map(_size, axis)) != size:
            wanted = size // math.prod(map(_size, axis))
            if not factors:
                raise LostTokensError(f"{_said(node)} cuts the tokens up")
            first, factors = factors[0], factors[1:]
            if _size(first) > wanted or wanted % _size(first):
                if not isinstance(first, int) or first % wanted:
                    raise LostTokensError(f"{_said(node)} cuts the tokens up")
                factors = [first // wanted, *factors]
                first = wanted
            axis.append(first)
        result.append(tuple(axis))
    return tuple(result)


@_rule(aten.permute.default)
def _permute(node: fx.Node, inputs: list[Any]) -> Layout:
    layout = _only(inputs)
    return tuple(layout[axis] for axis in as_list(node.args[1]))


@_rule(aten.transpose.int)
def _transpose(node: fx.Node, inputs: list[Any]) -> Layout:
    layout = list(_only(inputs))
    first, second = (argument(node, place) % len(layout) for place in (1, 2))
    layout[first], layout[second] = layout[second], layout[first]
    return tuple(layout)


@_rule(aten.unsqueeze.default)
def _unsqueeze(node: fx.Node, inputs: list[Any]) -> Layout:
    layout = _only(inputs)
    place = argument(node, 1) % (len(layout) + 1)
    return (*layout[:place], (), *layout[place:])


@_rule(aten.squeeze.dim, aten.squeeze.dims)
def _squeeze(node: fx.Node, inputs: list[Any]) -> Layout:
    layout = _only(inputs)
    gone = {axis % len(layout) for axis in as_list(node.args[1])}
    return tuple(axis for place, axis in enumerate(layout) if axis or place not in gone)


@_rule(aten.expand.default, aten.expand_as.default, aten.repeat.default)
def _expand(node: fx.Node, inputs: list[Any]) -> Layout:
    layout, sizes = _only(inputs), _sizes(node)
    extra = len(sizes) - len(layout)
    grown = [_plain(size) for size in sizes]
    return tuple(
        grown[place] if place < extra or not layout[place - extra] else layout[place - extra]
        for place in range(len(sizes))
    )


@_rule(aten.select.int)
def _select(node: fx.Node, inputs: list[Any]) -> Layout | None:
    layout = _only(inputs)
    place, index = argument(node, 1) % len(layout), argument(node, 2)
    if _has_tokens(layout[place]):
        (axis,) = layout[place] if len(layout[place]) == 1 else (None,)
        if not isinstance(axis, TokenAxis) or not isinstance(index, int) or not 0 <= index < axis.lead:
            raise LostTokensError(f"{_said(node)} picks single patches")
    return _kept((*layout[:place], *layout[place + 1 :]))


@_rule(aten.slice.Tensor)
def _slice(node: fx.Node, inputs: list[Any]) -> Layout | None:
    layout = list(_only(inputs))
    place = argument(node, 1, 0) % len(layout)
    if not _has_tokens(layout[place]):
        layout[place] = layout[place] if layout[place] == (BATCH,) else _plain(_sizes(node)[place])
        return tuple(layout)
    axis = layout[place][0] if len(layout[place]) == 1 else None
    start, end, step = argument(node, 2) or 0, argument(node, 3), argument(node, 4, 1)
    if isinstance(axis, TokenAxis) and step == 1 and isinstance(start, int) and 0 <= start <= axis.lead:
        if end is None or end >= axis.size:
            layout[place] = (TokenAxis(axis.lead - start, axis.patches),)
            return tuple(layout)
        if 0 <= end <= axis.lead:
            layout[place] = _plain(_sizes(node)[place])
            return _kept(tuple(layout))
    raise LostTokensError(f"{_said(node)} picks some of the patches")


@_rule(aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int)
def _split(node: fx.Node, inputs: list[Any]) -> list[Layout]:
    layout = _only(inputs)
    place = argument(node, 1 if node.target is aten.unbind.int else 2, 0) % len(layout)
    if _has_tokens(layout[place]):
        raise LostTokensError(f"{_said(node)} takes the tokens apart")
    parts = [shape_at(value, BIG) for value in node.meta["val"]]
    if node.target is aten.unbind.int:
        return [(*layout[:place], *layout[place + 1 :]) for _ in parts]
    return [(*layout[:place], _plain(shape[place]), *layout[place + 1 :]) for shape in parts]


@_rule(operator.getitem)
def _getitem(node: fx.Node, inputs: list[Any]) -> Layout:
    parts = _only(inputs)
    return parts[as_list(node.args)[1]] if isinstance(parts, list) else parts


@_rule(aten.stack.default)
def _stack(node: fx.Node, inputs: list[Any]) -> Layout:
    layout = _only(inputs)
    place = argument(node, 1, 0) % (len(layout) + 1)
    if any(other != layout for other in inputs):
        raise LostTokensError(f"{_said(node)} stacks tokens of different kinds")
    return (*layout[:place], _plain(len(inputs)), *layout[place:])


@_rule(aten.index_add.default, aten.index_select.default)
def _index(node: fx.Node, inputs: list[Any]) -> Layout:
    layout = _only(inputs)
    place = argument(node, 1) % len(layout)
    if _has_tokens(layout[place]):
        raise LostTokensError(f"{_said(node)} picks some of the patches")
    return (*layout[:place], _plain(_sizes(node)[place]), *layout[place + 1 :])


@_rule(aten.cat.default)
def _cat(node: fx.Node, inputs: list[Any]) -> Layout:
    layout, sizes = _only(inputs), _sizes(node)
    place = argument(node, 1, 0) % len(layout)
    if not _has_tokens(layout[place]):
        if any(other != layout and (other is None or other[:place] != layout[:place]) for other in inputs):
            raise LostTokensError(f"{_said(node)} joins tokens with something else")
        return (*layout[:place], _plain(sizes[place]), *layout[place + 1 :])
    axis = layout[place][0] if len(layout[place]) == 1 else None
    before = inputs.index(layout)
    if not isinstance(axis, TokenAxis) or before != len(inputs) - 1:
        raise LostTokensError(f"{_said(node)} puts tokens behind the patches")
    return (*layout[:place], (TokenAxis(sizes[place] - axis.patches, axis.patches),), *layout[place + 1 :])


@_rule(aten.mean.dim)
def _mean(node: fx.Node, inputs: list[Any]) -> Layout | None:
    layout = _only(inputs)
    gone = {axis % len(layout) for axis in as_list(argument(node, 1) or list(range(len(layout))))}
    if any(_has_tokens(layout[place]) and len(layout[place]) > 1 for place in gone):
        raise LostTokensError(f"{_said(node)} averages over tokens and images at once")
    kept = [(() if argument(node, 2, False) else None) if place in gone else axis for place, axis in enumerate(layout)]
    return _kept(tuple(axis for axis in kept if axis is not None))


@_rule(aten.sum.dim_IntList)
def _sum(node: fx.Node, inputs: list[Any]) -> Layout | None:
    layout = _only(inputs)
    if any(_has_tokens(layout[axis]) for axis in as_list(node.args[1] or list(range(len(layout))))):
        raise LostTokensError(f"{_said(node)} sums over tokens without a softmax that weights them")
    return _mean(node, inputs)


@_rule(FUSED)
def _fused(node: fx.Node, inputs: list[Any]) -> Layout | None:
    query, key, value = (*inputs, None, None)[:3]
    if key is None or value is None or key[-2] != value[-2] or not _has_tokens(key[-2]):
        raise LostTokensError(f"{_said(node)} reads keys that are no tokens")
    rest = query or tuple(_plain(size) for size in _sizes(node))
    return _kept((*rest[:-1], value[-1]))


def _product(node: fx.Node, inputs: list[Any], weighted: bool) -> Layout | None:
    left, right = inputs[-2:]
    sizes = _sizes(node)
    left = left or tuple(_plain(size) for size in shape_at(node.args[-2].meta["val"], BIG))  # type: ignore[union-attr]
    right = right or tuple(_plain(size) for size in shape_at(node.args[-1].meta["val"], BIG))  # type: ignore[union-attr]
    if (_has_tokens(left[-1]) or _has_tokens(right[-2])) and not (weighted and left[-1] == right[-2]):
        raise LostTokensError(f"{_said(node)} sums over tokens without a softmax that weights them")
    if len(left) != len(right) or any(map(_has_tokens, left[:-2])) or len(left) != len(sizes):
        raise LostTokensError(f"{_said(node)} multiplies tokens in another way than attention does")
    return _kept((*left[:-1], right[-1]))
