"""What defines a sub-network: one score for each unit, one gate for each block that may be skipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurochains.edit.compact import SubNetwork, compact
from neurochains.edit.scores import ScoredNetwork
from neurochains.network.layers import Filter, Layer
from neurochains.network.network import Network

__all__ = ["Scores"]


@dataclass(frozen=True)
class Scores:
    """The scores of a sub-network; a unit with score 0 is removed, a block with gate 0 is skipped.

    `units` maps dotted layer names, in order of execution, to ``(units,)`` float32 on the CPU; `gates` maps block names
    to 0 or 1, and blocks that it does not name are kept.
    """

    units: Mapping[str, Tensor]
    gates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def ones(cls, layers: Sequence[Layer]) -> Scores:
        """Return the scores of the whole network."""
        return cls({layer.name: torch.ones(layer.units) for layer in layers})

    @classmethod
    def from_filters(cls, layers: Sequence[Layer], kept: Mapping[str, Tensor]) -> Scores:
        """Return scores of 1 for the kept filters and 0 for all others."""
        units = {layer.name: torch.zeros(layer.units) for layer in layers}
        for name, indices in kept.items():
            units[name][indices] = 1.0
        return cls(units)

    @property
    def filters(self) -> dict[str, Tensor]:
        """The kept indices by layer name; layers without any are left out."""
        return {name: kept for name, values in self.units.items() if len(kept := values.nonzero().flatten())}

    @property
    def kept(self) -> int:
        """The number of kept units."""
        return sum(int(values.count_nonzero()) for values in self.units.values())

    @property
    def total(self) -> int:
        """The number of scored units of the whole network."""
        return sum(len(values) for values in self.units.values())

    @property
    def skipped(self) -> tuple[str, ...]:
        """The names of the blocks that are left out."""
        return tuple(name for name, gate in self.gates.items() if gate == 0)

    def list_filters(self) -> list[Filter]:
        """Return the kept filters, layer by layer."""
        return [Filter(name, int(index)) for name, kept in self.filters.items() for index in kept]

    def without(self, unit: Filter) -> Scores:
        """Return the scores with one filter removed."""
        values = self.units[unit.layer].clone()
        values[unit.index] = 0.0
        return Scores({**self.units, unit.layer: values}, self.gates)

    def complement(self) -> Scores:
        """Return the sub-network of all that is not kept, with scores of 1 and no block skipped."""
        return Scores({name: (values == 0).float() for name, values in self.units.items()})

    def run(self, network: Network, images: Tensor) -> Tensor:
        """Return the logits of the sub-network, computed at full width."""
        layers = [network.layer(name) for name in self.units]
        blocks = [block for block in network.blocks if block.name in self.skipped]
        scored = ScoredNetwork(network, layers=layers, blocks=blocks)
        units = {name: values.to(network.device) for name, values in self.units.items()}
        gates = {block.name: torch.zeros((), device=network.device) for block in blocks}
        return scored(images, units, gates)[0]

    def compact(self, network: Network) -> SubNetwork:
        """Return the sub-network as a plain module of its kept units alone."""
        return compact(
            network, {n: v.nonzero().flatten() for n, v in self.units.items()}, self.units, skipped=self.skipped
        )
