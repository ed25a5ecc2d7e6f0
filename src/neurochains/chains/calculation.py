"""One calculation of a sub-network, with what each kernel contributes to one class; `contributions` says what that is.

Shapes: B images, C channels, H x W pixels, O out- and I in-channels (I per group); T targets, S sources: kept units.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.chains.frozen import Part, frozen, pass_part
from neurochains.chains.kernels import channel_owners, kernel_products
from neurochains.chains.scores import Scores
from neurochains.edit.scores import shape_scores
from neurochains.network.layers import Layer
from neurochains.network.network import INPUT, Network
from neurochains.network.nodes import node_shape, output_node

__all__ = ["OUTPUT", "Calculation"]

OUTPUT = "output"
_NUMBERS_AT_ONCE = 2**26  # activations held at a time, 256 MiB in float32

Values = dict[fx.Node, Any]
Kernels = dict[tuple[str, str], Tensor]


class Calculation:
    """A sub-network ready to be followed kernel by kernel; heads of attention are passed through, with their scores."""

    def __init__(self, network: Network, scores: Scores) -> None:
        self.network = network
        self.kept = {name: kept.to(network.device) for name, kept in scores.filters.items()}
        every = [network.layer(name) for name in scores.units]
        self._layers = [layer for layer in every if layer.role != "heads"]
        self._heads = {layer.site: layer for layer in every if layer.role == "heads"}
        self._scores = {name: values.to(network.device) for name, values in scores.units.items()}
        self._sites = {layer.site: layer for layer in self._layers}
        self._producers = {layer.producer: layer for layer in self._layers}
        self._skips = {block.exit: block.entry for block in network.blocks if block.name in scores.skipped}
        self._result = output_node(network.module.graph)
        self._nodes = self._needed()
        live = {layer.producer for layer in self._layers if layer.name in self.kept}
        self._to_layers = self._leading_to({arg for node in live for arg in node.all_input_nodes})
        self._to_output = self._leading_to({self._result})
        self._owners: dict[tuple[str, str], tuple[Tensor, Tensor]] = {}

    @property
    def images_at_once(self) -> int:
        """The number of images whose activations may be held at a time."""
        numbers = sum(math.prod(node_shape(node)) for node in self._nodes if node.op != "get_attr")
        return max(1, _NUMBERS_AT_ONCE // max(numbers, 1))

    def kernels(self, images: Tensor, label: int, others: Sequence[int]) -> Kernels:
        """Return the contributions to one class, summed over the images: ``(T, S)`` by (source, target layer).

        Args:
            images: ``(B, C, H, W)``.
            label: the class, an output index.
            others: the classes whose mean logit is taken off; all others where there are none.
        """
        images = self.network.check(images)
        values, gradients = self._run(images, label, others)
        found = dict(self._walk(values, gradients))
        for name, (part, gradient) in self._into_output(values, label, others).items():
            axis = 1 if name == INPUT else self.network.layer(name).axis
            sums_C = (part * gradient).movedim(axis, 0).flatten(1).sum(1)
            found[name, OUTPUT] = (sums_C if name == INPUT else sums_C[self.kept[name]])[None].double().cpu()
        return found

    def _run(self, images: Tensor, label: int, others: Sequence[int]) -> tuple[Values, dict[str, Tensor]]:
        """Return the value of every node and the gradient of the class at the outputs of the kept layers."""
        values: Values = {}
        outputs: dict[str, Tensor] = {}  # of the kept layers, before batch norm and score
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            for node in self._nodes:
                value = images if node.op == "placeholder" else self._value(node, values)
                if node in self._producers and self._producers[node].name in self.kept:
                    outputs[self._producers[node].name] = value
                values[node] = self._scaled(node, value)
            margin = class_margin(values[self._result], label, others).sum()
            found = torch.autograd.grad(margin, list(outputs.values()), allow_unused=True) if outputs else ()
        gradients = {name: gradient for name, gradient in zip(outputs, found, strict=True) if gradient is not None}
        return {node: _detach(value) for node, value in values.items()}, gradients

    def _value(self, node: fx.Node, values: Values) -> Any:
        if node in self._skips:
            return values[self._skips[node]]
        if node.op == "get_attr":
            return getattr(self.network.module, str(node.target))
        args, kwargs = (fx.map_arg(given, lambda arg: values[arg]) for given in (node.args, node.kwargs))
        return node.target(*args, **kwargs)  # type: ignore[operator]

    def _scaled(self, node: fx.Node, value: Any) -> Any:
        """Return a value with the score of its layer; a skipped block has none."""
        layer = self._sites.get(node) or self._heads.get(node)
        if layer is None or node in self._skips:
            return value
        return value * shape_scores(self._scores[layer.name], layer)

    def _walk(self, values: Values, gradients: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str, str], Tensor]]:
        """Follow the part of each source through the graph; yield the kernels where it enters a kept layer."""
        parts: dict[fx.Node, dict[str, Part]] = {}
        for node in self._nodes:
            layer = self._producers.get(node)
            if layer is not None and layer.name in gradients:
                for source, part in parts.get(layer.producer.all_input_nodes[0], {}).items():
                    yield (source, layer.name), self._block(source, layer, part, gradients[layer.name], values)
            if node in self._to_layers:
                parts[node] = self._parts(node, values, parts)

    def _parts(self, node: fx.Node, values: Values, parts: Mapping[fx.Node, dict[str, Part]]) -> dict[str, Part]:
        if node in self._skips:
            return parts.get(self._skips[node], {})
        if node.op == "placeholder":
            return {INPUT: values[node]}
        if node in self._sites:
            name = self._sites[node].name
            return {name: values[node]} if name in self.kept else {}
        if node in self._producers:
            return {}
        inputs = {arg: parts[arg] for arg in node.all_input_nodes if arg in parts}
        found = {}
        for source in dict.fromkeys(source for given in inputs.values() for source in given):
            part = pass_part(node, values, {arg: given[source] for arg, given in inputs.items() if source in given})
            if part is not None:
                found[source] = self._scaled(node, part)
        return found

    def _into_output(self, values: Values, label: int, others: Sequence[int]) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the maps that reach the logits without another scored layer between, and the gradients there."""
        leaves: dict[str, Tensor] = {}
        ends: Values = {}
        with torch.enable_grad():
            for node in self._nodes:
                ends[node] = self._end(node, values, ends, leaves) if node in self._to_output else values[node]
            margin = class_margin(ends[self._result], label, others).sum()
            found = torch.autograd.grad(margin, list(leaves.values()), allow_unused=True) if leaves else ()
        pairs = zip(leaves.items(), found, strict=True)
        return {name: (leaf.detach(), gradient) for (name, leaf), gradient in pairs if gradient is not None}

    def _end(self, node: fx.Node, values: Values, ends: Values, leaves: dict[str, Tensor]) -> Any:
        if node in self._skips:
            return ends[self._skips[node]]
        name = INPUT if node.op == "placeholder" else self._sites[node].name if node in self._sites else None
        if name == INPUT or name in self.kept:
            leaves[name] = values[node].clone().requires_grad_()
            return leaves[name]
        if name is not None or node in self._producers or node.op == "get_attr":
            return values[node]
        args, kwargs = (fx.map_arg(given, lambda arg: ends[arg]) for given in (node.args, node.kwargs))
        return self._scaled(node, frozen(node, args, kwargs))  # type: ignore[arg-type]

    def _block(self, source: str, layer: Layer, part: Tensor, gradient: Tensor, values: Values) -> Tensor:
        """Return ``(T, S)``, the kernels from a source to a layer, summed over the images."""
        if (source, layer.name) not in self._owners:
            units = None if source == INPUT else self.kept[source]
            self._owners[source, layer.name] = channel_owners(self.network, source, units, layer)
        channels, owners_CS = self._owners[source, layer.name]
        if bool((owners_CS.sum(1) > 1).any()):
            owners_CS = owners_CS * self._sizes(source, values)
        weight: Tensor = getattr(self.network.module, layer.weight)
        block_TC = kernel_products(layer, weight, part, gradient, self.kept[layer.name], channels)
        return (block_TC.double() @ (owners_CS / owners_CS.sum(1, keepdim=True).clamp_min(1e-30)).double()).cpu()

    def _sizes(self, source: str, values: Values) -> Tensor:
        """Return the mean size ``(S,)`` of the scored map of each kept unit, or of each input channel."""
        if source == INPUT:
            return next(values[node] for node in self._nodes if node.op == "placeholder").abs().mean((0, 2, 3))
        layer = self.network.layer(source)
        return values[layer.site].abs().movedim(layer.axis, 0).flatten(1).mean(1)[self.kept[source]]

    def _needed(self) -> list[fx.Node]:
        """Return the nodes that the output depends on once skipped blocks are left out, in order."""
        return self._ordered(self._back_from({self._result}, frozenset()))

    def _leading_to(self, ends: set[fx.Node]) -> set[fx.Node]:
        """Return the nodes from which an end is reached without passing another scored layer."""
        return self._back_from(ends, frozenset(self._producers)) & set(self._nodes)

    def _back_from(self, ends: set[fx.Node], barriers: frozenset[fx.Node]) -> set[fx.Node]:
        queue, seen = list(ends), set()
        while queue:
            node = queue.pop()
            if node in seen:
                continue
            seen.add(node)
            if node not in barriers:
                queue.extend([self._skips[node]] if node in self._skips else node.all_input_nodes)
        return seen

    def _ordered(self, nodes: set[fx.Node]) -> list[fx.Node]:
        return [node for node in self.network.module.graph.nodes if node in nodes and node.op != "output"]


def class_margin(logits: Tensor, label: int, others: Sequence[int]) -> Tensor:
    """Return, for each image, the logit of a class less the mean of the others: of all others if none are named."""
    rest = list(others) or [index for index in range(logits.shape[-1]) if index != label]
    own = logits[..., label]
    return own - logits[..., rest].mean(-1) if rest else own


def _detach(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_detach(one) for one in value]
    return value.detach() if isinstance(value, Tensor) else value
