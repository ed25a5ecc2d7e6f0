"""Roles in networks with attention: which linear layers have hidden units, which only project, and the layers of heads.

A linear layer projects when attention reads it (queries, keys, values), when it joins what the heads read, or when what
it makes is added to the stream without an activation on the way. The others have hidden units, which are scored after
their activation. The heads of one attention are a layer of their own: a score multiplies what a head reads, before it
is projected.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence

import torch
from torch import fx

from neurochains.network.attention import Attention
from neurochains.network.nodes import is_constant, node_shape, tensor_inputs
from neurochains.network.operations import KEEPING, MOVING, NORMALISING

aten = torch.ops.aten

__all__ = ["behind_activation", "find_projections", "head_layers_of"]

_QUIET = frozenset(
    {aten.dropout.default, aten.clone.default, aten.contiguous.default, aten.to.dtype, aten._to_copy.default}
)
_ACTIVATIONS = KEEPING - NORMALISING - _QUIET - {aten.batch_norm.default, aten.mul.Scalar, aten.zeros_like.default}
_PASSING = MOVING | _QUIET | NORMALISING | {aten.batch_norm.default, aten.sum.dim_IntList}
_ADDS = frozenset({aten.add.Tensor, aten.sub.Tensor})


def find_projections(producers: Collection[fx.Node], attentions: Sequence[Attention]) -> set[fx.Node]:
    """Return the linear producers without hidden units of their own."""
    if not attentions:
        return set()
    linear = {node for node in producers if node.target is aten.linear.default}
    near = {node for attention in attentions for node in _sources(attention, set(producers))}
    near |= {last for attention in attentions for last in _after(attention.read)}
    return {node for node in linear if node in near or _joins_stream(node)}


def _after(read: fx.Node) -> Iterator[fx.Node]:
    """Yield what follows the heads one by one, up to the projection that joins them."""
    node = read
    while len(node.users) == 1 and (node is read or node.target in _PASSING):
        (node,) = node.users
        yield node


def _sources(attention: Attention, producers: set[fx.Node]) -> Iterator[fx.Node]:
    """Yield the producers of queries, keys and values; those that mix the maps of heads too."""
    queue, seen = [attention.read], set()
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in producers:
            yield node
            mixes_maps = node_shape(node)[1:3] == node_shape(attention.maps)[2:] if attention.mixed else False
            queue.extend(tensor_inputs(node) if mixes_maps else ())
        else:
            queue.extend(tensor_inputs(node))


def _joins_stream(producer: fx.Node) -> bool:
    """Return whether what a layer makes is added to something computed, with no activation on the way."""
    node = producer
    while len(node.users) == 1:
        (user,) = node.users
        if user.target in _ADDS and not any(map(is_constant, user.args[:2])):
            return True
        scales = user.target in (aten.mul.Tensor, *_ADDS) and any(map(is_constant, user.args[:2]))
        if not (scales or user.target in _PASSING):
            return False
        node = user
    return False


def behind_activation(site: fx.Node) -> fx.Node:
    """Return the activation that follows a layer's site; the site itself where none does."""
    node = site
    while len(node.users) == 1:
        (user,) = node.users
        if user.target in _ACTIVATIONS and node_shape(user) == node_shape(node):
            return user
        if user.target not in _QUIET:
            return site
        node = user
    return site


def head_layers_of(attentions: Sequence[Attention]) -> Iterator[tuple[str, int, Attention]]:
    """Yield the attentions whose heads can be scored: the name of their layer, the number of its call, themselves."""
    calls: Counter[str] = Counter()
    for attention in attentions:
        name = f"{attention.name or 'attention'}.heads"
        if attention.heads > 1:
            yield name, calls[name], attention
        calls[name] += 1
