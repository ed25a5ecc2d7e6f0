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

from neurochains.edit.builder import Builder
from neurochains.edit.joins import blend
from neurochains.edit.rules import RULES
from neurochains.edit.scores import shape_gate, shape_scores
from neurochains.errors import LayerError, did_you_mean
from neurochains.network.blocks import Block
from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.nodes import output_node

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
        blended = [shape_gate(gates.get(block.name), block) for block in self.blocks]
        return self.graph(self._network.check(images), *shaped, *blended)


class SubNetwork(nn.Module):
    """A plain module: the kept filters as exact copies, their scores baked in. ``(B, C, H, W) -> (B, outputs)``."""

    def __init__(self, compact_network: CompactNetwork, scores: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.body = _bake(compact_network, scores)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        return self.body(images)


def compact(
    network: Network,
    keep: Mapping[str, Tensor],
    scores: Mapping[str, Tensor] | None = None,
    *,
    skipped: Sequence[str] = (),
) -> SubNetwork:
    """Return a plain module that computes what the scored network computes, on the kept units only.

    Args:
        network: the traced model, which shares no memory with the result.
        keep: by layer name, the indices of the units to keep, or a mask ``(units,)``; layers not named keep all.
        scores: by layer name, ``(units,)`` over the *full* width; layers not named count as 1.
        skipped: names of blocks to leave out.

    Raises:
        LayerError: a name means no layer or block, or a layer has no such unit.
    """
    layers = {name: network.layer(name) for name in keep}
    small = CompactNetwork(
        network,
        {layer.name: keep[name] for name, layer in layers.items()},
        layers=tuple(layers.values()),
        skipped=skipped,
    )
    full = {network.layer(name).name: values for name, values in (scores or {}).items()}
    kept = {name: full[name].detach().cpu()[indices] for name, indices in small.kept.items() if name in full}
    return SubNetwork(small, kept).to(network.device)


def _indices(keep: Tensor | None, layer: Layer) -> Tensor:
    """Return the kept units in ascending order, each once."""
    if keep is None:
        return torch.arange(layer.units)
    keep = torch.as_tensor(keep).cpu()
    if keep.dtype == torch.bool and keep.shape != (layer.units,):
        raise LayerError(f"A mask of {layer.name} has shape ({layer.units},); got {tuple(keep.shape)}.")
    indices = keep.nonzero().flatten() if keep.dtype == torch.bool else keep.long().unique()
    if len(indices) and not 0 <= int(indices[0]) <= int(indices[-1]) < layer.units:
        raise LayerError(f"{layer.name} has units 0 to {layer.units - 1}; got {int(indices[0])} to {int(indices[-1])}.")
    return indices


def _blocks(network: Network, names: Sequence[str]) -> dict[fx.Node, Block]:
    """Return the blocks of some names by the node whose value a skip replaces."""
    known = {block.name: block for block in network.blocks}
    for name in names:
        if name not in known:
            raise LayerError(f"No block is called {name!r}. {did_you_mean(name, known)}".rstrip())
    return {known[name].exit: known[name] for name in names}


class _Walk:
    """One pass over the original graph that writes the compact one."""

    def __init__(self, network: Network, small: CompactNetwork) -> None:
        self._source = network.module
        self._builder = Builder(network.module, {layer.producer: small.kept[layer.name] for layer in small.layers})
        self._layers = {layer.site: layer for layer in small.layers}
        self._kept = small.kept
        self._gated = {block.exit: block for block in small.blocks}
        self._skipped = _blocks(network, small.skipped)
        self._scores: dict[str, fx.Node] = {}
        self._gates: dict[str, fx.Node] = {}

    def module(self) -> fx.GraphModule:
        builder = self._builder
        for node in self._source.graph.nodes:
            if node.op == "placeholder":
                self._inputs(node)
            elif node.op == "call_function":
                builder.flows[node] = self._edited(node, self._written(node))
        builder.graph.output(builder.value(output_node(self._source.graph)))
        builder.graph.eliminate_dead_code()
        return fx.GraphModule(builder.root, builder.graph)

    def _inputs(self, node: fx.Node) -> None:
        graph = self._builder.graph
        self._builder.start(node)
        self._scores = {layer.name: graph.placeholder(f"score_{layer.index}") for layer in self._layers.values()}
        self._gates = {b.name: graph.placeholder(f"gate_{i}") for i, b in enumerate(self._gated.values())}

    def _written(self, node: fx.Node) -> Any:
        value = node.meta.get("val")
        if isinstance(value, (Tensor, list, tuple)):
            return RULES.get(node.target, Builder.without_rule)(self._builder, node)
        return None if value is None else self._builder.size(value)

    def _edited(self, node: fx.Node, flow: Any) -> Any:
        """Apply what is asked for behind a node: a score, a gate, a skip."""
        if node in self._layers:
            layer = self._layers[node]
            flow = self._builder.scale(flow, layer.axis, self._kept[layer.name], self._scores[layer.name])
        if node in self._skipped:
            return self._builder.flows[self._skipped[node].entry]
        if node in self._gated:
            block = self._gated[node]
            return blend(self._builder, self._builder.flows[block.entry], flow, self._gates[block.name])
        return flow


def _bake(small: CompactNetwork, scores: Mapping[str, Tensor]) -> fx.GraphModule:
    """Return the compact graph with its scores as constants; scores that are all 1 cost nothing."""
    graph, root = fx.Graph(), nn.Module()
    for name, buffer in small.graph.named_buffers():
        root.register_buffer(name, buffer.clone())
    layers = {f"score_{layer.index}": layer for layer in small.layers}
    copies: dict[fx.Node, fx.Node | None] = {}
    for node in small.graph.graph.nodes:
        if node.op == "placeholder" and node.name in layers:
            copies[node] = _baked(graph, root, layers[node.name], scores)
        elif node.target is aten.mul.Tensor and copies.get(node.args[1], node) is None:
            copies[node] = copies[node.args[0]]
        else:
            copies[node] = graph.node_copy(node, copies.__getitem__)  # type: ignore[arg-type]
    module = fx.GraphModule(root, graph)
    module.delete_all_unused_submodules()
    return module


def _baked(graph: fx.Graph, root: nn.Module, layer: Layer, scores: Mapping[str, Tensor]) -> fx.Node | None:
    """Return a node that reads a layer's scores; None when they are all 1."""
    values = scores.get(layer.name)
    if values is None or bool((values == 1).all()):
        return None
    name = f"score_{layer.index}"
    root.register_buffer(name, torch.as_tensor(shape_scores(values, layer)).clone())
    return graph.get_attr(name)
