"""Units that share a channel: those that a residual stream adds up, and a depthwise unit with the one it reads.

A compact network that holds all or none of such a group needs no index maps: its additions and depthwise convolutions
meet channel by channel. Units that are held only for company have score 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neurochains.network.layers import Layer
from neurochains.network.network import Network

__all__ = ["Companions"]

WORTH = 0.4  # the part of a layer's company that must be alive
MOST_SOURCES = 64  # beyond that, an operation without a rule has united everything


class Companions:
    """The groups of the units of some layers, numbered one layer after the other."""

    def __init__(self, network: Network, layers: Sequence[Layer]) -> None:
        starts, total = {}, 0
        for layer in layers:
            starts[layer.name] = total
            total += layer.units
        self._layers = len(layers)
        self._owners = torch.repeat_interleave(torch.tensor([layer.units for layer in layers]))
        self._parents = list(range(total))
        for layer in network.layers:
            for channel, sources in enumerate(network.sources(layer.name)):
                units = [starts[unit.layer] + unit.index for unit in sources if unit.layer in starts]
                if layer.kind == "depthwise" and layer.name in starts and len(sources) <= MOST_SOURCES:
                    per_input = layer.units // layer.inputs
                    units += [starts[layer.name] + channel * per_input + i for i in range(per_input)]
                if len(units) <= MOST_SOURCES:
                    self._unite(units)
        self._groups = torch.tensor([self._root(unit) for unit in range(total)])

    def join(self, alive: Tensor) -> Tensor:
        """Return the living units and their company, in ascending order.

        A layer keeps company, that is all of its units of a group that has a living one, unless few of those live: what
        the index map costs is then less than what the company does.
        """
        living = torch.zeros(len(self._groups), dtype=torch.bool)
        living[alive] = True
        groups = torch.zeros_like(living)
        groups[self._groups[alive]] = True
        wanted = groups[self._groups]
        counts = torch.zeros(2, self._layers, dtype=torch.int64)
        counts[0].index_add_(0, self._owners, living.long())
        counts[1].index_add_(0, self._owners, wanted.long())
        keeps = counts[0] >= WORTH * counts[1]
        return (living | (wanted & keeps[self._owners])).nonzero().flatten()

    def _unite(self, units: Sequence[int]) -> None:
        for unit in units[1:]:
            self._parents[self._root(unit)] = self._root(units[0])

    def _root(self, unit: int) -> int:
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return unit
