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

MOST_SOURCES = 64  # beyond that, an operation without a rule has united everything


class Companions:
    """The groups of the units of some layers, numbered one layer after the other."""

    def __init__(self, network: Network, layers: Sequence[Layer]) -> None:
        starts, total = {}, 0
        for layer in layers:
            starts[layer.name] = total
            total += layer.units
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
        """Return the units of all groups that one of the given units belongs to, in ascending order."""
        wanted = torch.zeros(len(self._groups), dtype=torch.bool)
        wanted[self._groups[alive]] = True
        return wanted[self._groups].nonzero().flatten()

    def _unite(self, units: Sequence[int]) -> None:
        for unit in units[1:]:
            self._parents[self._root(unit)] = self._root(units[0])

    def _root(self, unit: int) -> int:
        while self._parents[unit] != unit:
            self._parents[unit] = self._parents[self._parents[unit]]
            unit = self._parents[unit]
        return unit
