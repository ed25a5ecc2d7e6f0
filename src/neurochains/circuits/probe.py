"""The network as far as a target, opened at the layers that lead there.

A `Probe` gives, for a batch of images, the target of each image, and for each layer: what it reads, what it computes
(the sum of its kernels' maps and the bias), and its map after the batch norm, before the activation; then the gradients
of the summed target at both. Weights may be given with each call, which masks kernels without touching the model.

Only what the target needs is computed, and nothing is differentiated in front of the first layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from neurochains.circuits.targets import Target
from neurochains.data import Task
from neurochains.errors import LayerError, SettingsError
from neurochains.network import Layer, Network
from neurochains.network.nodes import size_at

__all__ = ["Opened", "Probe", "layers_to"]

_MAPS_BYTES = 2**28
"""What the maps of one batch may take, where no batch size is given."""


@dataclass(frozen=True, slots=True)
class Opened:
    """One layer on one batch: its input, what it computes, its map at the site; all part of one autograd graph."""

    layer: Layer
    weight: Tensor
    input: Tensor
    output: Tensor
    map: Tensor


class Probe:
    """A network that gives a target with the layers that lead to it.

    Args:
        network: the traced network.
        target: what is asked about.
        layers: the layers to open, each leading to the target.
    """

    def __init__(self, network: Network, target: Target, layers: Sequence[Layer]) -> None:
        self.network = network
        self.target = target
        self.layers = tuple(layers)
        self._graph = _opened_graph(network, target.end(network), self.layers)

    def weights(self) -> dict[str, Tensor]:
        """Return the weights of the layers by name: ``(O, I, ...)``, those of the model itself."""
        return {layer.name: getattr(self.network.module, layer.weight) for layer in self.layers}

    def run(
        self, images: Tensor, labels: Tensor | None, weights: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, list[Opened]]:
        """Return the target of each image ``(B,)``, and the layers opened, in order of execution."""
        used = {**self.weights(), **(weights or {})}
        images = self.network.check(images).to(self.network.dtype)
        with torch.enable_grad():
            end, opened = self._graph(images, *used.values())
            values = self._values(end, labels)
        return values, [Opened(layer, used[layer.name], *tensors) for layer, tensors in zip(self.layers, opened)]

    def slopes(self, values: Tensor, opened: Sequence[Opened]) -> list[tuple[Tensor, Tensor]]:
        """Return, for each layer, the gradient of the summed target at `output` and at `map`."""
        places = [place for layer in opened for place in (layer.output, layer.map)]
        with torch.enable_grad():
            total = values.sum()
        found = torch.autograd.grad(total, places, allow_unused=True, materialize_grads=True)
        return list(zip(found[::2], found[1::2]))

    def batches(self, task: Task, batch_size: int | None) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Yield the images and labels of a task, so many at a time; by default what 256 MB of maps allow."""
        if batch_size is not None and (not isinstance(batch_size, int) or batch_size < 1):
            raise SettingsError(f"A batch size is a whole number of images, 1 or more; got {batch_size!r}.")
        size = batch_size or max(1, _MAPS_BYTES // self._bytes_of_an_image())
        for start in range(0, len(task), size):
            labels = None if task.labels is None else task.labels[start : start + size]
            yield task.images[start : start + size], labels

    def _values(self, end: Tensor, labels: Tensor | None) -> Tensor:
        layer = self.target.layer
        maps = {} if layer is None else {layer.name: end}
        return self.target.values(end if layer is None else None, maps, labels)

    def _bytes_of_an_image(self) -> int:
        wanted = _ancestors(self.target.end(self.network))
        values = [node.meta.get("val") for node in wanted if node.op == "call_function"]
        return sum(_bytes(value) for value in values if isinstance(value, Tensor)) or 1


def layers_to(network: Network, target: Target, names: Sequence[str] | None = None) -> tuple[Layer, ...]:
    """Return the layers that lead to a target, in order of execution: those with filters, or those that are named.

    A network without filters (a plain MLP) answers with its hidden layers.

    Raises:
        LayerError: no layer is called that, it does not lead to the target, or none does.
    """
    before = _ancestors(target.end(network))
    if names is None:
        found = tuple(layer for layer in network.scored() if layer.producer in before)
        if not found:
            raise LayerError(f"No layer with filters leads to {target.text!r}. Name the layers: layers=[...].")
        return found
    chosen = {network.layer(name).name for name in names}
    astray = [name for name in chosen if network.layer(name).producer not in before]
    if astray or not chosen:
        leading = [layer.name for layer in network.layers if layer.producer in before]
        what = f"{', '.join(sorted(astray))} lies behind or beside" if astray else "No layer was named for"
        raise LayerError(f"{what} the target {target.text!r}. To it lead: {', '.join(leading)}.")
    return tuple(layer for layer in network.layers if layer.name in chosen)


def _ancestors(end: fx.Node) -> set[fx.Node]:
    """Return the nodes that a node is computed from, with itself."""
    found, queue = {end}, [end]
    while queue:
        for node in queue.pop().all_input_nodes:
            if node not in found:
                found.add(node)
                queue.append(node)
    return found


def _opened_graph(network: Network, end: fx.Node, layers: Sequence[Layer]) -> fx.GraphModule:
    """Return the graph of ``(images, *weights) -> (end, [(input, output, map), ...])``, node by node."""
    graph = fx.Graph()
    wanted = _ancestors(end) | {node for node in network.module.graph.nodes if node.op == "placeholder"}
    weights: dict[fx.Node, fx.Node] = {}
    nodes: dict[fx.Node, fx.Node] = {}
    for node in network.module.graph.nodes:
        if node not in wanted:
            continue
        copied = graph.node_copy(node, lambda old: nodes[old])
        if node.op == "placeholder":
            weights = {layer.producer: graph.placeholder(f"weight_{layer.index}") for layer in layers}
        if node in weights:
            copied.update_arg(1, weights[node])
            copied = graph.call_function(_watched, (copied,))
        nodes[node] = copied
    opened = [
        (nodes[layer.producer.args[0]], nodes[layer.producer], nodes[_site(layer, wanted)])  # type: ignore[index]
        for layer in layers
    ]
    graph.output((nodes[end], opened))
    graph.eliminate_dead_code()
    return fx.GraphModule(network.module, graph)


def _site(layer: Layer, wanted: set[fx.Node]) -> fx.Node:
    return layer.site if layer.site in wanted else layer.producer


def _watched(value: Tensor) -> Tensor:
    """Return a value that gradients reach: itself where they do already."""
    return value if value.requires_grad else value.detach().requires_grad_()


def _bytes(value: Tensor) -> int:
    count = 1
    for size in value.shape:
        count *= size_at(size, 1)
    return count * value.element_size()
