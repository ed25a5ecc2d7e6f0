"""Scores, gates and taps at full width: the edited network that everything else is checked against.

A score multiplies a unit's map after its batch norm or bias, before the activation, so that 0 removes it exactly. A
gate ``G`` blends a block with a skip of it: ``G * block(x) + (1 - G) * x`` (Eq. 7 of the NeuroChains paper). A tap
returns a layer's scored map beside the outputs.

Scores are inputs of the graph, shared ``(units,)`` or one row for each sample ``(B, units)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from neurochains.errors import DataError
from neurochains.network.blocks import Block
from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.nodes import batch_axis, output_node

aten = torch.ops.aten

__all__ = ["ScoredNetwork", "TappedNetwork", "tap"]


class ScoredNetwork(nn.Module):
    """A network whose units and blocks are scaled by what each call gives; what is not given counts as 1."""

    def __init__(
        self,
        network: Network,
        *,
        layers: Sequence[Layer] | None = None,
        blocks: Sequence[Block] = (),
        taps: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.layers = tuple(network.scored() if layers is None else layers)
        self.blocks = tuple(blocks)
        self.taps = tuple(network.layer(name) for name in taps)
        self._network = network
        self.graph = _scored_graph(network, self.layers, self.blocks, self.taps)

    def forward(
        self,
        images: Tensor,
        scores: Mapping[str, Tensor] | None = None,
        gates: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits ``(B, outputs)`` and the tapped maps by layer name.

        Args:
            images: ``(B, C, H, W)``.
            scores: by layer name, ``(units,)`` or ``(B, units)``.
            gates: by block name, a number or ``(B,)``.
        """
        scores, gates = scores or {}, gates or {}
        images = self._network.check(images)
        shaped = [shape_scores(scores.get(layer.name), layer) for layer in self.layers]
        blended = [shape_gate(gates.get(block.name), block) for block in self.blocks]
        logits, maps = self.graph(images, *shaped, *blended)
        return logits, {layer.name: value for layer, value in zip(self.taps, maps, strict=True)}


class TappedNetwork(nn.Module):
    """A network that gives back the maps of some layers beside its outputs."""

    def __init__(self, network: Network, layers: Sequence[str]) -> None:
        super().__init__()
        self._scored = ScoredNetwork(network, layers=(), taps=layers)

    def forward(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the logits ``(B, outputs)`` and, by layer name, the maps before the activation."""
        return self._scored(images)


def tap(network: Network, layers: Sequence[str]) -> TappedNetwork:
    """Return the network with the maps of some layers (dotted names or labels) as further outputs."""
    return TappedNetwork(network, layers)


def shape_scores(scores: Tensor | None, layer: Layer) -> Tensor | float:
    """Return scores ``(units,)`` or ``(B, units)`` in the shape that multiplies the layer's map."""
    if scores is None:
        return 1.0
    value = layer.site.meta["val"]
    shape = [1] * value.ndim
    shape[layer.axis] = scores.shape[-1]
    if scores.ndim == 2:
        scores = _by_image(scores, value, shape)
    return scores.view(shape)


def shape_gate(gate: Tensor | None, block: Block) -> Tensor:
    """Return a gate, a number or ``(B,)``, in the shape that multiplies a block's output."""
    if gate is None or not gate.ndim:
        return torch.ones(()) if gate is None else gate
    value = block.exit.meta["val"]
    shape = [1] * value.ndim
    return _by_image(gate, value, shape).view(shape)


def _by_image(rows: Tensor, value: Tensor, shape: list[int]) -> Tensor:
    """Return one row for each image as one for each place on the batch axis, whose size goes into `shape`.

    Where an image was cut into windows, its row is repeated for each of them.
    """
    found = batch_axis(value)
    if found is None:
        raise DataError(f"This map {tuple(value.shape)} is the same for all images: it takes one score for each unit.")
    axis, windows = found
    shape[axis] = len(rows) * windows
    return rows.repeat_interleave(windows, 0) if windows > 1 else rows


def _scored_graph(
    network: Network, layers: Sequence[Layer], blocks: Sequence[Block], taps: Sequence[Layer]
) -> fx.GraphModule:
    """Return the graph of ``(images, *scores, *gates) -> (logits, maps)``, node by node."""
    graph = fx.Graph()
    nodes: dict[fx.Node, fx.Node] = {}
    scores: dict[fx.Node, fx.Node] = {}
    gates: dict[fx.Node, tuple[fx.Node, fx.Node]] = {}
    for node in network.module.graph.nodes:
        if node.op == "output":
            continue
        copied = graph.node_copy(node, lambda old: nodes[old])
        if node.op == "placeholder":
            scores = {layer.site: graph.placeholder(f"score_{layer.index}") for layer in layers}
            gates = {b.exit: (b.entry, graph.placeholder(f"gate_{i}")) for i, b in enumerate(blocks)}
        if node in scores:
            copied = graph.call_function(aten.mul.Tensor, (copied, scores[node]))
        if node in gates:
            entry, gate = gates[node]
            copied = _blend(graph, nodes[entry], copied, gate)
        nodes[node] = copied
    graph.output((nodes[output_node(network.module.graph)], [nodes[layer.site] for layer in taps]))
    return fx.GraphModule(network.module, graph)


def _blend(graph: fx.Graph, entry: fx.Node, exit_: fx.Node, gate: fx.Node) -> fx.Node:
    """Return ``G * block(x) + (1 - G) * x``, written so that G = 1 leaves the block's value untouched."""
    kept = graph.call_function(aten.mul.Tensor, (exit_, gate))
    rest = graph.call_function(aten.rsub.Scalar, (gate, 1.0))
    return graph.call_function(aten.add.Tensor, (kept, graph.call_function(aten.mul.Tensor, (entry, rest))))
