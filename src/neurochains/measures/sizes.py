"""Size and speed: what is left of a network in a sub-network, and what that saves.

Filters count as they are scored: a kept one has a score above 0. Costs are those of the plain compact network, times
are measured on three forms of it: the original, the scored one at full width, and the compact one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurochains.chains.parity import compare_outputs, in_batches
from neurochains.chains.scores import Scores
from neurochains.edit.scores import ScoredNetwork
from neurochains.network.costs import measure_costs, measure_seconds
from neurochains.network.network import Network

__all__ = ["Seconds", "Sizes", "measure_inference", "measure_parity", "measure_sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is kept of a network, and in `..._of` how much there was of it.

    `filters` are the scored units, `layers` those that keep any, `macs` the multiply-accumulates for one image.
    """

    filters: int
    filters_of: int
    layers: int
    layers_of: int
    blocks_skipped: int
    blocks_of: int
    macs: int
    macs_of: int
    parameters: int
    parameters_of: int

    def to_json(self) -> dict[str, int]:
        """Return the numbers, the filters' total as ``"of"``."""
        numbers = asdict(self)
        return {"filters": numbers.pop("filters"), "of": numbers.pop("filters_of"), **numbers}


@dataclass(frozen=True, slots=True)
class Seconds:
    """Median seconds of a forward pass on a batch of `images` images."""

    original: float
    scored: float
    compact: float
    images: int

    def to_json(self) -> dict[str, Any]:
        """Return the times as ``"seconds_original"`` and so on, and the batch as ``"seconds_images"``."""
        return {f"seconds_{name}": value for name, value in asdict(self).items()}


def measure_sizes(network: Network, images: Tensor, scores: Scores) -> Sizes:
    """Return what is left of a network in a sub-network.

    Args:
        network: the whole network.
        images: ``(B, C, H, W)``, at least one; MACs are measured on the first.
        scores: the sub-network.
    """
    image = network.check(images[:1])
    whole, small = measure_costs(network.module, image), measure_costs(scores.compact(network), image)
    return Sizes(
        filters=scores.kept,
        filters_of=scores.total,
        layers=len(scores.filters),
        layers_of=len(scores.units),
        blocks_skipped=len(scores.skipped),
        blocks_of=len(network.blocks),
        macs=small.macs,
        macs_of=whole.macs,
        parameters=small.parameters,
        parameters_of=whole.parameters,
    )


def measure_inference(network: Network, images: Tensor, scores: Scores, *, repeats: int = 5) -> Seconds:
    """Return how long original, scored and compact network take for a batch: the median of some repeats.

    Args:
        network: the whole network.
        images: ``(B, C, H, W)``.
        scores: the sub-network.
        repeats: how often each is run, besides once to warm up.

    Raises:
        SettingsError: `repeats` is less than 1.
    """
    images = network.check(images)
    forms: tuple[nn.Module, ...] = (network.module, _Scored(network, scores), scores.compact(network))
    original, scored, compact = (measure_seconds(form, images, repeats=repeats) for form in forms)
    return Seconds(original, scored, compact, len(images))


def measure_parity(network: Network, images: Tensor, scores: Scores) -> float:
    """Return the largest difference of a logit between scored and compact network, relative to the range of logits.

    Raises:
        ParityError: it is above 1e-4.
    """
    scored, small = _Scored(network, scores), scores.compact(network)
    outputs = in_batches(lambda some: small(network.check(some)), images)
    return compare_outputs(outputs, in_batches(scored, images), what="The compact sub-network")


class _Scored(nn.Module):
    """The scored network at full width with its scores given."""

    def __init__(self, network: Network, scores: Scores) -> None:
        super().__init__()
        layers = [network.layer(name) for name in scores.units]
        self.blocks = [block for block in network.blocks if block.name in scores.skipped]
        self.scored = ScoredNetwork(network, layers=layers, blocks=self.blocks)
        self.units = {name: values.to(network.device) for name, values in scores.units.items()}
        self.gates = {block.name: torch.zeros((), device=network.device) for block in self.blocks}

    def forward(self, images: Tensor) -> Tensor:
        return self.scored(images, self.units, self.gates)[0]
