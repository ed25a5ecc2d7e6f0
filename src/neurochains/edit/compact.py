"""Compaction: the graph rewritten on the surviving channels only.

Node by node, each tensor of the new graph is a `Flow`: the channels that are physically there, and the constant value
of those that are not. Removing a filter makes its channel a constant 0; behind a batch norm, a sigmoid or a shift a
removed channel may become another constant, which the next convolution folds into its bias.

1. A layer keeps the weight rows of its kept units and the columns of the channels that are alive: exact copies.
2. Operations on single channels run on what is alive; their constants are computed once, on the full vector.
3. Adds and concatenations join what is alive on either side through index maps.
4. A view that splits the channel axis is held back until the axis is whole again (channel shuffle: one index map).
5. Before an operation without a rule, the tensor is scattered back to full width: always right, merely not faster.

The rules live in `neurochains.edit.rules`; this module walks the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from neurochains.edit.rules import RULES, Builder
from neurochains.edit.scores import shape_gate, shape_scores
from neurochains.network.blocks import Block
from neurochains.network.graph import node_shape, output_node
from neurochains.network.layers import Layer
from neurochains.network.network import Network

aten = torch.ops.aten

__all__ = ["CompactNetwork", "SubNetwork", "compact"]


class CompactNetwork(nn.Module):
    """A network on its kept units, with their scores and the gates of its blocks as inputs of each call.

    `kept` has the indices of the kept units by layer name. Blocks in `skipped` are left out.
    """

    def __init__(
        self,
        network: Network,
        keep: Mapping[str, Tensor],
        *,
        layers: Sequence[Layer] | None = None,
        gated: Sequence[Block] = (),
        skipped: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.layers = tuple(network.scored() if layers is None else layers)
        self.kept = {layer.name: _indices(keep.get(layer.name), layer) for layer in self.layers}
        self.blocks = tuple(gated)
        self.skipped = tuple(skipped)
        self._network = network
        self.graph = _Walk(network, self).module().to(network.device)

    def forward(
        self, images: Tensor, scores: Mapping[str, Tensor] | None = None, gates: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logits ``(B, outputs)``.

        Args:
            images: ``(B, C, H, W)``.
            scores: by layer name, one for each *kept* unit: ``(kept,)`` or ``(B, kept)``; absent layers count as 1.
            gates: by block name, a number or ``(B,)``.
        """
        scores, gates = scores or {}, gates or {}
        shaped = [shape_scores(scores.get(layer.name), layer) for layer in self.layers]
        blended = [shape_gate(gates.get(block.name), len(node_shape(block.exit))) for block in self.blocks]
        return self.graph(self._network.check(images), *shaped, *blended)


class SubNetwork(nn.Module):
    """A plain module: the kept filters as exact copies, their scores baked in. ``(B, C, H, W) -> (B, outputs)``."""

    def __init__(self, compact_network: CompactNetwork, scores: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.graph = _bake(compact_network, scores)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        return self.graph(images)


def compact(
    network: Network, keep: Mapping[str, Tensor], scores: Mapping[str, Tensor] | None = None, *, skipped: Sequence[str] = ()
) -> SubNetwork:
    """Return a plain module that computes what the scored network computes, on the kept units only.

    Args:
        keep: by layer name, the indices of the units to keep; layers not named keep all.
        scores: by layer name, ``(units,)`` over the *full* width; layers not named count as 1.
        skipped: names of blocks to leave out.
    """
    layers = [network.layer(name) for name in keep]
    small = CompactNetwork(network, keep, layers=layers, skipped=skipped)
    kept = {name: scores[name].detach().cpu()[small.kept[name]] for name in keep if scores and name in scores}
    return SubNetwork(small, kept).to(network.device)


def _indices(keep: Tensor | None, layer: Layer) -> Tensor:
    if keep is None:
        return torch.arange(layer.units)
    keep = keep.cpu()
    return keep.nonzero().flatten() if keep.dtype == torch.bool else keep.long().sort().values


class _Walk:
    """One pass over the original graph that writes the compact one."""

    def __init__(self, network: Network, small: CompactNetwork) -> None:
        self.network = network
        self.builder = Builder(network.module, {layer.producer: small.kept[layer.name] for layer in small.layers})
        self.sites = {layer.site: layer for layer in small.layers}
        self.kept = small.kept
        self.layers = small.layers
        self.gated = {block.exit: block for block in small.blocks}
        self.skipped = {block.exit: block for block in network.blocks if block.name in small.skipped}
        self.scores: dict[str, fx.Node] = {}
        self.gates: dict[str, fx.Node] = {}

    def module(self) -> fx.GraphModule:
        for node in self.network.module.graph.nodes:
            if node.op == "placeholder":
                self._inputs(node)
            elif node.op == "call_function":
                self.builder.flows[node] = self._edit(node, self._visit(node))
        self.builder.graph.output(self.builder.full(output_node(self.network.module.graph)))
        self.builder.graph.eliminate_dead_code()
        return fx.GraphModule(self.builder.root, self.builder.graph)

    def _inputs(self, node: fx.Node) -> None:
        self.builder.start(node)
        self.scores = {layer.name: self.builder.graph.placeholder(f"score_{layer.index}") for layer in self.layers}
        self.gates = {b.name: self.builder.graph.placeholder(f"gate_{i}") for i, b in enumerate(self.gated.values())}

    def _visit(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if not isinstance(value, (Tensor, list, tuple)):
            return self.builder.symbolic(node)
        return RULES.get(node.target, Builder.without_rule)(self.builder, node)

    def _edit(self, node: fx.Node, flow: Any) -> Any:
        """Apply what is asked for behind a node: a score, a gate, a skip."""
        if node in self.sites:
            layer = self.sites[node]
            flow = self.builder.scale(flow, layer.axis, self.kept[layer.name], self.scores[layer.name])
        if node in self.skipped:
            return self.builder.flows[self.skipped[node].entry]
        if node in self.gated:
            block = self.gated[node]
            return self.builder.blend(self.builder.flows[block.entry], flow, self.gates[block.name])
        return flow


def _bake(small: CompactNetwork, scores: Mapping[str, Tensor]) -> fx.GraphModule:
    """Return the compact graph with its scores as constants; scores that are all 1 cost nothing."""
    graph = fx.Graph()
    root = nn.Module()
    for name, buffer in small.graph.named_buffers():
        root.register_buffer(name, buffer)
    nodes: dict[fx.Node, fx.Node] = {}
    baked = {f"score_{layer.index}": (layer, scores.get(layer.name)) for layer in small.layers}
    placeholders = {node for node in small.graph.graph.nodes if node.op == "placeholder" and node.name in baked}
    for node in small.graph.graph.nodes:
        if node in placeholders:
            layer, values = baked[node.name]
            if values is not None and not bool((values == 1).all()):
                root.register_buffer(node.name, torch.as_tensor(shape_scores(values, layer)).clone())
                nodes[node] = graph.get_attr(node.name)
        elif node.target is aten.mul.Tensor and node.args[1] in placeholders - nodes.keys():
            nodes[node] = nodes[node.args[0]]
        else:
            nodes[node] = graph.node_copy(node, lambda old: nodes[old])
    graph.eliminate_dead_code()
    module = fx.GraphModule(root, graph)
    module.delete_all_unused_submodules()
    return module
