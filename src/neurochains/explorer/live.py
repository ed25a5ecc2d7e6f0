"""The live network: one pass of an image through it, watched at every layer, with units, kernels and blocks left out.

The graph is read node by node and never changed. What is switched off is what `edit` means by it: a filter is 0 at its
layer's site, after the batch norm and before the activation; a kernel has weights of 0; a block passes on its input.

Shapes: B images, U units of a layer, h x w positions of its map, C channels that it reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.errors import DataError
from neurochains.network import Filter, Layer, Network
from neurochains.network.nodes import argument

__all__ = ["Off", "Seen", "kernel_map", "run"]

_KERNEL = re.compile(r"(?P<unit>.+\[\d+\])<(?P<column>\d+)")


@dataclass(frozen=True, slots=True)
class Off:
    """What is switched off; `kernels` are pairs of a filter and a column, 0 to I - 1, of its kernels."""

    filters: frozenset[Filter] = frozenset()
    kernels: frozenset[tuple[Filter, int]] = frozenset()
    blocks: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, texts: Iterable[str], network: Network) -> Off:
        """Return what the entries of `View.off` mean in a network.

        Raises:
            LayerError: a filter or layer is not there.
            DataError: a kernel or block is not there.
        """
        filters, kernels, blocks = set(), set(), set()
        known = {block.name for block in network.blocks}
        for text in texts:
            match = _KERNEL.fullmatch(text)
            if text.startswith("block:"):
                blocks.add(text.removeprefix("block:"))
            elif match is None:
                filters.add(network.filter(text))
            else:
                kernels.add((network.filter(match["unit"]), int(match["column"])))
        if blocks - known:
            raise DataError(f"There is no block {sorted(blocks - known)[0]!r} that can be skipped.")
        for unit, column in kernels:
            width = getattr(network.module, network.layer(unit.layer).weight).shape[1]
            if column >= width:
                raise DataError(f"{unit} has {width} kernels, 0 to {width - 1}; got {column}.")
        return cls(frozenset(filters), frozenset(kernels), frozenset(blocks))


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass showed.

    Attributes:
        logits: ``(outputs,)``.
        maps: by layer name ``(U, h, w)``, or ``(U,)`` for a layer without rows and columns, before the activation.
        inputs: by layer name, what the layer read: the same with C in place of U.
    """

    logits: Tensor
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """What all of it takes in memory."""
        return sum(value.numel() * value.element_size() for part in (self.maps, self.inputs) for value in part.values())


@torch.no_grad()
def run(network: Network, image: Tensor, off: Off | None = None) -> Seen:
    """Return what one pass of an image ``(C, H, W)`` shows, normalised as the network takes it.

    Raises:
        DataError: it has another size than the network's input.
    """
    watched = _Watched(network, off or Off())
    logits = watched.run(network.check(image[None]).to(network.dtype))
    return Seen(_first(logits, 0).float(), watched.maps, watched.inputs)


class _Watched(fx.Interpreter):
    """Runs a network's graph, remembers maps and inputs, and leaves out what is switched off."""

    def __init__(self, network: Network, off: Off) -> None:
        super().__init__(network.module)
        self.maps: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self._off = off
        self._producers = {layer.producer: layer for layer in network.layers}
        self._sites = {layer.site: layer for layer in network.layers}
        self._exits = {block.exit: block for block in network.blocks if block.name in off.blocks}
        self._entries = {block.entry for block in self._exits.values()}
        self._kept: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n in self._producers:
            value = self._produced(n, self._producers[n])
        else:
            value = super().run_node(n)
        if n in self._sites:
            value = self._scored(value, self._sites[n])
        if n in self._exits:
            value = self._kept[self._exits[n].entry]
        if n in self._entries:
            self._kept[n] = value
        return value

    def _produced(self, node: fx.Node, layer: Layer) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(node)
        self.inputs[layer.name] = _channels_first(args[0], layer)
        columns = [(unit.index, column) for unit, column in self._off.kernels if unit.layer == layer.name]
        if columns:
            weight = args[1].clone()
            for unit, column in columns:
                weight[unit, column] = 0
            args = (args[0], weight, *args[2:])
        return self.call_function(node.target, args, kwargs)  # type: ignore[arg-type]

    def _scored(self, value: Tensor, layer: Layer) -> Tensor:
        units = [unit.index for unit in self._off.filters if unit.layer == layer.name]
        if units:
            value = value.index_fill(layer.axis, torch.tensor(units, device=value.device), 0.0)
        self.maps[layer.name] = _channels_first(value, layer)
        return value


def kernel_map(network: Network, seen: Seen, unit: Filter, column: int) -> Tensor | None:
    """Return the map ``(h, w)`` that one kernel of a filter gives, before those of all channels are added.

    A number ``(1, 1)`` for a layer without rows and columns; None where the layer's input was not seen.

    Args:
        network: the traced network.
        seen: a pass through it.
        unit: the filter.
        column: of its kernels, 0 to I - 1.
    """
    layer = network.layer(unit.layer)
    read = seen.inputs.get(layer.name)
    weight = getattr(network.module, layer.weight)[unit.index, column].detach()
    channel = unit.index // (layer.units // layer.groups) * (layer.inputs // layer.groups) + column
    if read is None or channel >= len(read):
        return None
    if not layer.kernel:
        return (read[channel] * weight).reshape(1, -1)[:, :1].float().cpu()
    inputs = read[None, channel : channel + 1].to(weight.device, weight.dtype)
    stride, padding, dilation = (argument(layer.producer, place, usual) for place, usual in ((3, 1), (4, 0), (5, 1)))
    found = torch.nn.functional.conv2d(
        inputs, weight[None, None], None, _pair(stride), _padding(padding), _pair(dilation)
    )
    return found[0, 0].float().cpu()


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, (list, tuple)) else value


_padding = _pair


def _channels_first(value: Tensor, layer: Layer) -> Tensor:
    """Return the first image's values with the channels in front, detached on the CPU."""
    axis = layer.axis if value.ndim > 1 else 0
    return _first(value.movedim(axis, 1) if value.ndim > 2 else value, 0).detach().float().cpu()


def _first(value: Tensor, index: int) -> Tensor:
    return value[index].detach().cpu()
