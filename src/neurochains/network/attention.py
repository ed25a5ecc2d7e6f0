"""Attention, found in the graph: what the heads read, and the logits that decide from which tokens.

1. Fused attention is one operation, `scaled_dot_product_attention`.
2. Otherwise it is a softmax along the last axis whose argument comes from a product of two computed tensors, and whose
   result, perhaps mixed between heads, multiplies a third: the values.

Shapes: B images, H heads, Q queries, K keys, D numbers a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import fx

from neurochains.network.nodes import argument, batch_axis, module_path, node_shape, tensor_inputs
from neurochains.network.operations import BINARY, KEEPING, MOVING

aten = torch.ops.aten

__all__ = ["FUSED", "PRODUCTS", "Attention", "find_attentions", "other_attention"]

FUSED = aten.scaled_dot_product_attention.default
PRODUCTS = frozenset({aten.matmul.default, aten.bmm.default, aten.baddbmm.default})
_MULTIPLYING = PRODUCTS | {aten.einsum.default}
_SOFTMAX = frozenset({aten.softmax.int, aten._softmax.default})
_PASSING = KEEPING | MOVING | {aten.linear.default, aten.conv2d.default}


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention of the graph.

    Attributes:
        name: dotted path of the module that it was called in.
        read: the node ``(B, H, Q, D)`` of what the heads read, before they are joined and projected.
        softmax: the node of the attention maps ``(B, H, Q, K)``; None for fused attention, which makes none.
        heads: how many; 0 where their axis is not the second of four, the images' being the first, so that they cannot
            be scored.
        mixed: whether heads exchange their maps after the softmax (talking heads).
    """

    name: str
    read: fx.Node
    softmax: fx.Node | None
    heads: int
    mixed: bool

    @property
    def fused(self) -> bool:
        """Whether it is one operation."""
        return self.softmax is None

    @property
    def maps(self) -> fx.Node:
        """The first node of the attention: the softmax, or the fused operation."""
        return self.read if self.softmax is None else self.softmax


def find_attentions(graph: fx.Graph) -> tuple[Attention, ...]:
    """Return the attentions in order of execution."""
    found = []
    for node in graph.nodes:
        if node.target is FUSED:
            found.append(Attention(module_path(node)[0], node, None, _heads(node), mixed=False))
        elif node.target in _SOFTMAX and (unfused := _unfused(node)):
            found.append(unfused)
    return tuple(found)


def other_attention(graph: fx.Graph) -> str:
    """Return in words what of a network is like attention but weights no values by keys; empty where nothing is."""
    softmaxes = _count_other_softmaxes(graph)
    if softmaxes:
        return f"Softmaxes that weight something else than values by keys, as in factorised attention: {softmaxes}"
    products = 0 if find_attentions(graph) else _count_products(graph)
    if products:
        return f"Products of two tensors of the image without a softmax, as in linear attention: {products}"
    return ""


def _count_products(graph: fx.Graph) -> int:
    return sum(node.target in _MULTIPLYING and len(_factors(node)) > 1 for node in graph.nodes)


def _factors(product: fx.Node) -> list[fx.Node]:
    """Return the computed factors of a product; what `baddbmm` adds is none."""
    computed = tensor_inputs(product)
    return computed[1:] if product.target is aten.baddbmm.default else computed


def _count_other_softmaxes(graph: fx.Graph) -> int:
    """Return how many softmaxes inside a network are no attention."""
    known = {attention.softmax for attention in find_attentions(graph)}
    softmaxes = [node for node in graph.nodes if node.target in _SOFTMAX and node not in known]
    return sum(any(user.op != "output" for user in node.users) for node in softmaxes)


def _unfused(softmax: fx.Node) -> Attention | None:
    shape = node_shape(softmax)
    if len(shape) < 3 or argument(softmax, 1) % len(shape) != len(shape) - 1 or not _from_product(softmax):
        return None
    path = list(_to_product(softmax))
    if not path or path[-1].target not in _MULTIPLYING:
        return None
    mixed = any(node.target in (aten.linear.default, aten.conv2d.default) for node in path)
    return Attention(module_path(path[-1])[0], path[-1], softmax, _heads(path[-1]), mixed)


def _from_product(softmax: fx.Node) -> bool:
    """Return whether the argument of a softmax was a product of two computed tensors, shifted and scaled perhaps."""
    queue, seen = tensor_inputs(softmax), set()
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.target in _MULTIPLYING:
            return True
        if node.target in BINARY or (node.target in _PASSING and node.target is not torch.ops.aten.cat.default):
            queue.extend(tensor_inputs(node))
    return False


def _to_product(softmax: fx.Node) -> Iterator[fx.Node]:
    """Yield what follows the attention maps, up to the product with the values."""
    node = softmax
    while len(node.users) == 1:
        (node,) = node.users
        yield node
        if node.target in _MULTIPLYING or not (node.target in _PASSING or node.target in BINARY):
            return


def _heads(read: fx.Node) -> int:
    shape, images = node_shape(read), batch_axis(read.meta["val"])
    return shape[1] if len(shape) == 4 and images is not None and images[0] == 0 else 0
