"""The kernels that lead into a target, as edges between filters; what dead ends are, and how they are removed.

A kernel ``(o, i)`` joins the filters that reach input channel ``i`` (several, behind a residual add) to filter ``o``.
Linear layers and layers that only rescale channels are no part of a circuit: they pass on whatever reaches them.

1. Forward, in the order of execution: a kernel whose channel no living filter reaches is removed; a filter without a
   kernel is dead.
2. Backward, from the target: a filter whose map nobody reads is not needed, and its kernels are removed.

Shapes: O filters, I inputs per group, C input channels of a layer over all groups, U units of the whole network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.edit import OUTPUT, Readout
from neurochains.errors import LayerError, SettingsError
from neurochains.network import Layer, Network

__all__ = ["Edges", "Masks", "count"]

Masks = Mapping[str, Tensor]
"""By dotted layer name, which kernels are kept: bool ``(O, I)``."""


@dataclass(frozen=True, slots=True, eq=False)
class _Wiring:
    """One layer: its own units ``first ... first + units``, and the units that reach each of its channels, in pairs."""

    layer: Layer
    first: int
    channels: int
    channel_of: Tensor  # (pairs,)
    unit_of: Tensor  # (pairs,)
    reads: Tensor  # (O, I): the channel that each kernel reads; empty for a layer that is no part of circuits

    def living(self, alive: Tensor) -> Tensor:
        """Return ``(C,)``: which channels a living unit reaches."""
        found = torch.zeros(self.channels, dtype=torch.bool)
        found[self.channel_of[alive[self.unit_of]]] = True
        return found

    def sources(self, channels: Tensor) -> Tensor:
        """Return the units that reach some channels ``(C,)``."""
        return self.unit_of[channels[self.channel_of]]

    @property
    def span(self) -> slice:
        """Where the layer's own units are."""
        return slice(self.first, self.first + self.layer.units)


class Edges:
    """All kernels that lead into a readout.

    Attributes:
        network, readout: of what.
        leading: by layer name, in order of execution, bool ``(O, I)``: the kernels that lead into the target.
        total: how many they are: the whole of which a circuit keeps a fraction.
    """

    def __init__(self, network: Network, readout: Readout) -> None:
        self.network = network
        self.readout = readout
        self._wirings = [_wiring(network, layer) for layer in network.layers]
        self._named = {wiring.layer.name: wiring for wiring in self._wirings}
        self._units = max(wiring.first + wiring.layer.units for wiring in self._wirings)
        self._roots = self._find_roots()
        every = {w.layer.name: torch.ones(w.reads.shape, dtype=torch.bool) for w in self._wirings if w.reads.numel()}
        found = self._connected(every)
        self.leading: dict[str, Tensor] = {name: mask for name, mask in found.items() if bool(mask.any())}
        self.total = count(self.leading)
        if not self.total:
            raise SettingsError(f"No kernel leads into {readout.layer}: choose a target behind a convolution.")

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers with kernels that lead into the target."""
        return tuple(self.network.layer(name) for name in self.leading)

    def connect(self, masks: Masks) -> dict[str, Tensor]:
        """Return kept kernels without dead ends, forward and backward.

        Raises:
            SettingsError: nothing is left (total collapse).
        """
        left = self._connected({name: masks[name] & whole for name, whole in self.leading.items() if name in masks})
        if not any(bool(mask.any()) for mask in left.values()):
            raise SettingsError(
                f"Total collapse: of {count(masks):,} kept kernels no path leads from the image to the target, so "
                f"nothing is left once dead ends are removed. Keep more of the {self.total:,} kernels, or take "
                "another method."
            )
        return {name: left.get(name, torch.zeros_like(whole)) for name, whole in self.leading.items()}

    def size(self, masks: Masks) -> int:
        """Return how many kernels are left without dead ends; 0 after a total collapse."""
        return count(self._connected({name: masks[name] & whole for name, whole in self.leading.items()}))

    def reads(self, name: str) -> Tensor:
        """Return the input channel that each kernel of a layer reads: ``(O, I)``, counted over all groups."""
        return self._named[name].reads

    def channels(self, filters: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return by layer which kernels read a channel that a kept filter, or the image, reaches: bool ``(O, I)``.

        `filters` are masks ``(O,)``; what is no part of circuits passes on what reaches it.
        """
        alive = self._start()
        found = {}
        for wiring in self._wirings:
            living = wiring.living(alive)
            if wiring.layer.name in self.leading:
                found[wiring.layer.name] = living[wiring.reads]
                alive[wiring.span] = filters[wiring.layer.name]
            elif not wiring.reads.numel():
                alive[wiring.span] = bool(living.any())
        return found

    def share(self, keep: float) -> int:
        """Return how many kernels a fraction of all is at most; at least 1."""
        return max(1, math.floor(keep * self.total + 1e-9))

    def silenced(self) -> tuple[Layer, ...]:
        """Return the layers whose removed filters must be made 0, because something that is kept may read them.

        They share a channel with others, behind a residual add, or are read by a layer that is no part of circuits.
        """
        read = torch.zeros(self._units, dtype=torch.bool)
        for wiring in self._wirings:
            shared = wiring.channel_of.bincount(minlength=wiring.channels)[wiring.channel_of] > 1
            read[wiring.unit_of[shared] if wiring.reads.numel() else wiring.unit_of] = True
        if self.readout.layer == OUTPUT:
            read[self._roots] = True
        return tuple(layer for layer in self.layers if bool(read[self._named[layer.name].span].any()))

    def _connected(self, masks: Masks) -> dict[str, Tensor]:
        alive, kept = self._forward(masks)
        return self._backward(alive, kept)

    def _forward(self, masks: Masks) -> tuple[Tensor, dict[str, Tensor]]:
        alive = self._start()
        kept: dict[str, Tensor] = {}
        for wiring in self._wirings:
            living = wiring.living(alive)
            if not wiring.reads.numel():
                alive[wiring.span] = bool(living.any())
            elif wiring.layer.name in masks:
                kept[wiring.layer.name] = masks[wiring.layer.name] & living[wiring.reads]
                alive[wiring.span] = kept[wiring.layer.name].any(1)
        return alive, kept

    def _start(self) -> Tensor:
        """Return which units are alive at first: the channels of the image."""
        alive = torch.zeros(self._units, dtype=torch.bool)
        alive[: min(wiring.first for wiring in self._wirings)] = True
        return alive

    def _backward(self, alive: Tensor, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        needed = torch.zeros(self._units, dtype=torch.bool)
        needed[self._roots] = True
        needed &= alive
        for wiring in reversed(self._wirings):
            wanted = needed[wiring.span]
            used = torch.zeros(wiring.channels, dtype=torch.bool)
            if not wiring.reads.numel():
                used[:] = bool(wanted.any())
            elif wiring.layer.name in kept:
                mask = kept[wiring.layer.name] & wanted[:, None]
                kept[wiring.layer.name] = mask
                used[wiring.reads[mask]] = True
            needed[wiring.sources(used)] = True
        return kept

    def _find_roots(self) -> Tensor:
        """Return the units that the readout reads: of its layer, of the head, or of what makes the output."""
        chosen = torch.tensor(self.readout.units)
        if self.readout.layer != OUTPUT:
            name = self.network.layer(self.readout.layer).name
            return chosen + self._named[name].first
        heads = [wiring for wiring in self._wirings if wiring.layer.role == "head"]
        if heads:
            return torch.cat([chosen + wiring.first for wiring in heads])
        read = torch.zeros(self._units, dtype=torch.bool)
        read[torch.cat([wiring.unit_of for wiring in self._wirings])] = True
        last = [w for w in self._wirings if w.layer.role != "modulation" and not bool(read[w.span].any())]
        if not last:
            raise LayerError("The output of this network comes from no layer that is known. Name a filter instead.")
        return torch.cat([torch.arange(wiring.first, wiring.span.stop) for wiring in last])


def count(masks: Masks) -> int:
    """Return how many kernels are kept."""
    return sum(int(mask.sum()) for mask in masks.values())


def _wiring(network: Network, layer: Layer) -> _Wiring:
    sources = network.provenance.inputs[layer.name]
    pairs = [(channel, unit) for channel, units in enumerate(sources) for unit in units]
    channel_of, unit_of = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T
    first = network.provenance.first_unit[layer.name]
    return _Wiring(layer, first, len(sources), channel_of, unit_of, _reads(network, layer))


def _reads(network: Network, layer: Layer) -> Tensor:
    """Return ``(O, I)``: the channel that each kernel reads; nothing for a layer that is no part of circuits."""
    if layer.role != "filter":
        return torch.zeros(0, 0, dtype=torch.int64)
    width = getattr(network.module, layer.weight).shape[1]
    groups = torch.arange(layer.units) // (layer.units // layer.groups)
    return groups[:, None] * width + torch.arange(width)
