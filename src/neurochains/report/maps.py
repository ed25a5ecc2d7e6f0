"""The maps of both networks on some images, a few images at a time.

Shapes: B images, C units, h x w positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from neurochains.chains import Scores
from neurochains.edit.scores import ScoredNetwork
from neurochains.network import Network
from neurochains.network.layers import Layer
from neurochains.pictures import gamma_norm, smoe

__all__ = ["filter_maps", "maps_of", "smoe_layers", "smoe_maps"]

BATCH = 4
MOST_LAYERS = 8  # with SMOE maps


def as_maps(layer: Layer, values: Tensor) -> Tensor:
    """Return what a layer gives as ``(B, C, h, w)``; 1 x 1 where it has no rows and columns."""
    values = values.movedim(layer.axis, 1)
    if values.ndim == 4:
        return values
    return values.flatten(2).mean(2)[:, :, None, None] if values.ndim > 2 else values[:, :, None, None]


def maps_of(
    network: Network, images: Tensor, layers: Sequence[str], scores: Scores | None = None
) -> Iterator[dict[str, Tensor]]:
    """Yield the maps ``(B, C, h, w)`` of some layers, before the activation, a few images at a time.

    Args:
        network: the whole network.
        images: ``(N, C, H, W)``.
        layers: dotted names.
        scores: a sub-network, computed at full width; the whole network if None.
    """
    scored = [network.layer(name) for name in (() if scores is None else scores.units)]
    skipped = () if scores is None else scores.skipped
    blocks = [block for block in network.blocks if block.name in skipped]
    tapped = ScoredNetwork(network, layers=scored, blocks=blocks, taps=layers)
    units = {} if scores is None else {name: values.to(network.device) for name, values in scores.units.items()}
    gates = {block.name: torch.zeros((), device=network.device) for block in blocks}
    for some in images.split(BATCH):
        with torch.no_grad():
            found = tapped(some, units, gates)[1]
        yield {name: as_maps(network.layer(name), value) for name, value in found.items()}


def filter_maps(network: Network, images: Tensor, wanted: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return the maps of some filters in the whole network, ``(N, units, h, w)`` by layer, on the CPU."""
    if not wanted:
        return {}
    parts: dict[str, list[Tensor]] = {name: [] for name in wanted}
    for found in maps_of(network, images, list(wanted)):
        for name, units in wanted.items():
            parts[name].append(found[name][:, list(units)].float().cpu())
    return {name: torch.cat(several) for name, several in parts.items()}


def smoe_layers(network: Network, scores: Scores) -> list[str]:
    """Return up to 8 layers with kept filters and a map of more than one position, spread evenly, the last included."""
    with_maps = [name for name in scores.filters if max(network.layer(name).map_size or (1, 1)) > 1]
    if len(with_maps) <= MOST_LAYERS:
        return with_maps
    places = torch.linspace(0, len(with_maps) - 1, MOST_LAYERS).round().int().tolist()
    return [with_maps[place] for place in places]


def smoe_maps(network: Network, images: Tensor, layers: Sequence[str], scores: Scores | None = None) -> list[Tensor]:
    """Return the SMOE maps ``(N, h, w)`` of each layer, each map brought to [0, 1] on its own.

    Removed filters of a sub-network count as channels of zeros.
    """
    parts: list[list[Tensor]] = [[] for _ in layers]
    for found in maps_of(network, images, layers, scores):
        for several, name in zip(parts, layers):
            several.append(gamma_norm(smoe(found[name])).cpu())
    return [torch.cat(several) for several in parts]
