"""The traced network: what a model computes, layer by layer, ready to be edited."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx, nn

from neurochains.errors import DataError, LayerError
from neurochains.network.blocks import Block, find_blocks
from neurochains.network.costs import Costs, measure_costs
from neurochains.network.fields import ReceptiveField, receptive_fields
from neurochains.network.graph import export_graph
from neurochains.network.labels import find_filter, find_layer, label_layers
from neurochains.network.layers import Filter, Layer, find_heads, find_layers
from neurochains.network.nodes import node_shape, output_node
from neurochains.network.outputs import LogitsOnly
from neurochains.network.provenance import Provenance, trace_provenance
from neurochains.network.zoo import ModelInfo, model_info, prepare

__all__ = ["Kernels", "Network"]

INPUT = "input"


@dataclass(frozen=True, slots=True)
class Kernels:
    """The kernels of one layer, as edges from source filters to its own filters.

    `weight` is ``(O, I, ...)``, I per group; `sources` has, for each of the layer's input channels (over all groups),
    the filters that reach it: several where a residual stream adds them; `Filter("input", c)` for image channels.
    """

    layer: Layer
    weight: Tensor
    sources: tuple[tuple[Filter, ...], ...]

    def inputs_of(self, filter_index: int) -> range:
        """Return the input channels that one filter of the layer reads."""
        per_group, width = self.layer.units // self.layer.groups, self.weight.shape[1]
        first = filter_index // per_group * width
        return range(first, first + width)


class Network:
    """A traced model: its graph, layers, blocks and provenance. The model itself is never changed.

    Calling it runs the graph: ``(B, C, H, W) -> (B, outputs)``.
    """

    def __init__(self, module: fx.GraphModule, *, info: ModelInfo | None = None, digest: str = "") -> None:
        self.module = module
        self.info = info
        self.digest = digest
        self.layers: tuple[Layer, ...] = label_layers(find_layers(module))
        self.blocks: tuple[Block, ...] = find_blocks(module.graph, self.layers)
        self.heads: tuple[Layer, ...] = find_heads(module.graph, len(self.layers))
        self._by_name = {layer.name: layer for layer in (*self.layers, *self.heads)}

    @classmethod
    def trace(cls, model: nn.Module, example: Tensor, *, device: str | torch.device | None = None) -> Network:
        """Return the network that a model computes on inputs of one size, whatever the batch.

        Args:
            model: in eval mode, where that matters; DataParallel and compiled modules are unwrapped.
            example: ``(B, C, H, W)``, normalised as the model expects it.
            device: where the network shall run; by default where the model is. A move copies the model first.

        Raises:
            DataError: the example is no batch of images.
            ModelError: training mode, a quantised module, or an output without logits.
            WeightsError: weights that are not finite.
            TraceError: torch.export cannot follow the model; names the line.
        """
        _check_example(example)
        inner = prepare(model)
        home = _device_of(inner)
        if device is not None and torch.device(device) != home:
            inner, home = copy.deepcopy(inner).to(device), torch.device(device)
        module = export_graph(LogitsOnly(inner), example.detach().to(home))
        return cls(module, info=model_info(model) or model_info(inner), digest=weight_digest(inner))

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        return self.module(self.check(images))

    def check(self, images: Tensor) -> Tensor:
        """Return the images on the network's device.

        Raises:
            DataError: their shape is not what the network was traced with.
        """
        if tuple(images.shape[1:]) != self.input_shape:
            wanted = ", ".join(map(str, self.input_shape))
            raise DataError(f"The network was traced for inputs (B, {wanted}); got {tuple(images.shape)}.")
        return images.to(self.device)

    @cached_property
    def _order(self) -> dict[fx.Node, int]:
        return {node: place for place, node in enumerate(self.module.graph.nodes)}

    @cached_property
    def _input(self) -> fx.Node:
        return next(node for node in self.module.graph.nodes if node.op == "placeholder")

    @cached_property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one input, ``(C, H, W)``."""
        return node_shape(self._input)[1:]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the input's numbers."""
        return self._input.meta["val"].dtype

    @cached_property
    def outputs(self) -> int:
        """The number of outputs: classes of a classifier, dimensions of an embedding."""
        return node_shape(output_node(self.module.graph))[-1]

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return _device_of(self.module)

    def layer(self, text: str) -> Layer:
        """Return the layer with a dotted name or a paper label.

        Raises:
            LayerError: no layer is called that; lists the nearest names.
        """
        return find_layer(self._by_name, text)

    def filter(self, text: str) -> Filter:
        """Return the filter that ``"L4B1C2_48"`` or ``"layer4.0.conv2[48]"`` names.

        Raises:
            LayerError: no such layer or filter.
        """
        return find_filter(self._by_name, text)

    def label(self, unit: Filter) -> str:
        """Return a filter's paper label, such as ``"L4B1C2_48"``."""
        return f"{self._by_name[unit.layer].label if unit.layer != INPUT else INPUT}_{unit.index}"

    def scored(self, units: Sequence[str] = ("filters",)) -> tuple[Layer, ...]:
        """Return the layers whose units are scored, in order: ``"filters"``, ``"hidden"`` units, attention ``"heads"``.

        A network without filters (a plain MLP) answers with its hidden layers, unless only heads are asked for.

        Raises:
            LayerError: the network has none of them.
        """
        roles = {{"filters": "filter"}.get(unit, unit) for unit in units}
        found = tuple(layer for layer in self.in_order if layer.role in roles)
        if not found and roles != {"heads"}:
            found = tuple(layer for layer in self.layers if layer.role == "hidden")
        if not found:
            raise LayerError(f"The network has no {' or '.join(units)} to score; its layers: {_listing(self.layers)}.")
        return found

    @cached_property
    def in_order(self) -> tuple[Layer, ...]:
        """All layers, those of attention heads among them, in order of execution."""
        return tuple(sorted((*self.layers, *self.heads), key=lambda layer: self._order[layer.site]))

    def units_in(self, block: Block) -> tuple[Layer, ...]:
        """Return the layers of a block that have units of their own: filters, hidden units or attention heads."""
        first, last = self._order[block.entry], self._order[block.exit]
        inside = (layer for layer in self.in_order if first < self._order[layer.site] <= last)
        return tuple(layer for layer in inside if layer.role in ("filter", "hidden", "heads"))

    @cached_property
    def provenance(self) -> Provenance:
        """Which filters the input channels of each layer come from."""
        return trace_provenance(self.module, self.layers)

    def sources(self, layer: str) -> tuple[tuple[Filter, ...], ...]:
        """Return, for each input channel of a layer, the filters it comes from."""
        return tuple(self._filters(units) for units in self.provenance.inputs[self.layer(layer).name])

    def kernels(self, layer: str) -> Kernels:
        """Return the kernels of a layer: weights ``(O, I, ...)`` and the source filters of each input channel."""
        found = self.layer(layer)
        return Kernels(found, getattr(self.module, found.weight), self.sources(found.name))

    @cached_property
    def _fields(self) -> dict[fx.Node, ReceptiveField]:
        return receptive_fields(self.module.graph)

    def receptive_field(self, layer: str) -> ReceptiveField:
        """Return the receptive field of a layer's map; `ReceptiveField.box` gives the pixels of one position."""
        return self._fields[self.layer(layer).site]

    def costs(self) -> Costs:
        """Return the multiply-accumulates of one image and the learnt parameters."""
        return measure_costs(self.module, torch.zeros(1, *self.input_shape, dtype=self.dtype, device=self.device))

    def _filters(self, units: frozenset[int]) -> tuple[Filter, ...]:
        starts = self._unit_starts
        found = []
        for unit in sorted(units):
            name, first = next(item for item in reversed(starts) if item[1] <= unit)
            found.append(Filter(name, unit - first))
        return tuple(found)

    @cached_property
    def _unit_starts(self) -> list[tuple[str, int]]:
        return sorted(self.provenance.first_unit.items(), key=lambda item: item[1])


def weight_digest(model: nn.Module) -> str:
    """Return the SHA-256 of all parameters and buffers, names included."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _check_example(example: Tensor) -> None:
    if not isinstance(example, Tensor) or example.ndim < 2 or not len(example):
        came = tuple(example.shape) if isinstance(example, Tensor) else type(example).__name__
        raise DataError(f"An example is a batch of images (B, C, H, W), B at least 1; got {came}.")


def _device_of(module: nn.Module) -> torch.device:
    for tensor in (*module.parameters(), *module.buffers()):
        return tensor.device
    return torch.device("cpu")


def _listing(layers: Sequence[Layer]) -> str:
    return ", ".join(layer.name for layer in layers[:8]) or "none"
