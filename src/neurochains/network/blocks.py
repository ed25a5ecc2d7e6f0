"""Blocks: the stretches of a network that can be skipped because what comes out has the shape of what goes in.

1. The *spine* is every node that all paths from input to output pass through.
2. The spine is cut behind each group of layers and the activation that ends it.
3. A cut stretch with equal input and output shape and at least one scored layer is a block. In VGG these are single
   layers, in ResNet the blocks with an identity shortcut, in a transformer attention and MLP apart.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx

from neurochains.network.layers import Layer
from neurochains.network.nodes import node_shape, output_node, tensor_inputs
from neurochains.network.operations import KEEPING, NORMALISING

aten = torch.ops.aten

__all__ = ["Block", "find_blocks", "spine"]

_SCORED = ("filter", "hidden", "projection")
_ENDINGS = (KEEPING - NORMALISING) | {aten.batch_norm.default, aten.clone.default, aten.contiguous.default}


@dataclass(frozen=True, slots=True)
class Block:
    """A skippable stretch: `entry` is the node that it reads, `exit` the node whose value a skip replaces by it."""

    name: str
    label: str
    layers: tuple[str, ...]
    entry: fx.Node
    exit: fx.Node


def find_blocks(graph: fx.Graph, layers: Sequence[Layer]) -> tuple[Block, ...]:
    """Return the blocks in order of execution; blocks do not overlap."""
    trunk = spine(graph)
    order = {node: position for position, node in enumerate(graph.nodes)}
    blocks: dict[str, Block] = {}
    for entry, last in _stretches(trunk, layers):
        inside = [layer for layer in layers if order[entry] < order[layer.producer] <= order[last]]
        if _is_skippable(entry, last, inside, layers):
            block = _block(entry, last, inside)
            name = block.name if block.name not in blocks else f"{block.name}@{order[last]}"
            blocks[name] = replace(block, name=name)
    return tuple(blocks.values())


def _is_skippable(entry: fx.Node, last: fx.Node, inside: Sequence[Layer], layers: Sequence[Layer]) -> bool:
    """Return whether a stretch can be left out; classifier layers behind filters are none."""
    if node_shape(entry) != node_shape(last) or not any(layer.role in _SCORED for layer in inside):
        return False
    return len(node_shape(entry)) > 2 or not any(layer.role == "filter" for layer in layers)


def _block(entry: fx.Node, last: fx.Node, inside: Sequence[Layer]) -> Block:
    names = tuple(layer.name for layer in inside)
    if len(inside) == 1:
        return Block(names[0], inside[0].label, names, entry, last)
    name = _common_path(names)
    label = os.path.commonprefix([layer.label for layer in inside if layer.role != "modulation"])
    return Block(name, label.rstrip("C") if "B" in label else name, names, entry, last)


def _common_path(names: Sequence[str]) -> str:
    parts = [name.split(".") for name in names]
    common = os.path.commonprefix(parts)
    return ".".join(common) or names[0]


def spine(graph: fx.Graph) -> list[fx.Node]:
    """Return the tensors that every path from the input to the output passes through, in order."""
    alive = _ancestors(output_node(graph)) & _made_of_images(graph)
    trunk, open_edges = [], 0
    for node in graph.nodes:
        if node not in alive:
            continue
        open_edges -= sum(source in alive for source in tensor_inputs(node))
        if open_edges == 0:
            trunk.append(node)
        open_edges += sum(user in alive for user in node.users)
    return trunk


def _made_of_images(graph: fx.Graph) -> set[fx.Node]:
    """Return the tensors that hold values of the images; a mask that is made on the way holds none."""
    made: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or any(source in made for source in tensor_inputs(node)):
            made.add(node)
    return made


def _ancestors(node: fx.Node) -> set[fx.Node]:
    queue, seen = [node], set()
    while queue:
        current = queue.pop()
        if current not in seen:
            seen.add(current)
            queue.extend(tensor_inputs(current))
    return seen


def _stretches(trunk: Sequence[fx.Node], layers: Sequence[Layer]) -> list[tuple[fx.Node, fx.Node]]:
    """Return (entry, last) pairs: one layer or one branching region each, with the activations that end it."""
    producers = {layer.producer for layer in layers}
    pairs: list[tuple[fx.Node, fx.Node]] = []
    for before, node in itertools.pairwise(trunk):
        core = node in producers or before not in tensor_inputs(node) or len(tensor_inputs(node)) > 1
        if core:
            pairs.append((before, node))
        elif pairs and pairs[-1][1] is before and node.target in _ENDINGS:
            pairs[-1] = (pairs[-1][0], node)
    return pairs
