"""Feature visualisations of the filters that a report shows, all those of one layer at once.

A filter sees no more than its receptive field, so its picture need not be as large as the network's input: early
layers get small pictures, which cost little. Where a network cannot take another size, the pictures have its own.
Large networks get fewer steps, by a rule that depends on the network and not on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from neurochains.network import Network
from neurochains.network.layers import Filter, Layer
from neurochains.pictures import visualise
from neurochains.pictures.figures import display
from neurochains.report.maps import as_maps

__all__ = ["Painted", "paint", "scaled_steps"]

SIDES = ((40, 64), (112, 96))  # up to this receptive field, this side
LARGEST_SIDE = 128
WORK = 4e11  # multiply-accumulates of forward passes that a report may spend on pictures
LEAST_STEPS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Painted:
    """What a filter answers to most, and the largest value on its map there."""

    pixels: np.ndarray
    peak: float


class _UpTo(fx.Interpreter):
    """A network computed up to a layer, and no further."""

    def __init__(self, network: Network, layer: Layer) -> None:
        super().__init__(network.module)
        self.layer = layer
        needed = _needed(layer.site)
        self.nodes = [node for node in network.module.graph.nodes if node in needed]

    def maps(self, images: Tensor) -> Tensor:
        """Return the layer's maps ``(B, C, h, w)``, with gradients."""
        self.env, self.args_iter = {}, iter([images])
        for node in self.nodes:
            self.env[node] = self.run_node(node)
        value = self.env[self.layer.site]
        self.env = {}
        return as_maps(self.layer, value)


def _needed(site: fx.Node) -> set[fx.Node]:
    """Return the nodes that a layer is computed from, itself included."""
    queue, seen = [site], set()
    while queue:
        node = queue.pop()
        if node not in seen:
            seen.add(node)
            queue += node.all_input_nodes
    return seen


def paint(
    network: Network,
    wanted: Mapping[str, Sequence[int]],
    images: Tensor,
    *,
    steps: int,
    seed: int = 0,
) -> dict[Filter, Painted]:
    """Return a picture for each of some filters; none for networks whose images are neither grey nor RGB.

    Args:
        network: the whole network.
        wanted: the filters' indices by layer name.
        images: of the task; where the pre-processing is not known, their range stands for that of pixels.
        steps: of gradient ascent.
        seed: of its start.
    """
    if network.input_shape[0] not in (1, 3):
        return {}
    mean, std = _statistics(network, images)
    painted: dict[Filter, Painted] = {}
    for name, units in wanted.items():
        layer = network.layer(name)
        maps = _UpTo(network, layer).maps
        size = _size(network, layer, maps)
        found = visualise(maps, units, size, mean=mean, std=std, steps=steps, seed=seed, device=network.device)
        for unit, pixels, peak in zip(units, found.images, found.peak.tolist()):
            painted[Filter(name, unit)] = Painted(display(pixels.numpy()), peak)
    return painted


def scaled_steps(network: Network, wanted: Mapping[str, Sequence[int]], steps: int) -> int:
    """Return how many steps a report takes for these pictures: fewer than asked for where a network is large."""
    if not wanted:
        return steps
    macs, depth = network.costs().macs, len(network.layers)
    work = sum(
        len(units) * macs * (network.layer(name).index + 1) / depth * _ratio(network, network.layer(name))
        for name, units in wanted.items()
    )
    return min(steps, max(LEAST_STEPS, int(WORK / max(work, 1.0))))


def _statistics(network: Network, images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation that bring pixels in [0, 1] to what the network takes."""
    how = None if network.info is None else network.info.preprocess
    if how is not None and how.channels == network.input_shape[0]:
        return how.mean, how.std
    low, high = float(images.min()), float(images.max())
    span = max(high - low, 1e-6)
    return (-low / span,) * network.input_shape[0], (1 / span,) * network.input_shape[0]


def _ratio(network: Network, layer: Layer) -> float:
    """Return the share of the input's pixels that a picture for this layer has."""
    return float(np.prod(_wished(network, layer))) / float(np.prod(network.input_shape[1:]))


def _wished(network: Network, layer: Layer) -> tuple[int, int]:
    """Return the size of a picture by the receptive field of its layer; at most that of the input."""
    field = max(network.receptive_field(layer.name).size)
    side = next((side for most, side in SIDES if field <= most), LARGEST_SIDE)
    height, width = network.input_shape[1:]
    return min(side, height), min(side, width)


def _size(network: Network, layer: Layer, maps: Callable[[Tensor], Tensor]) -> tuple[int, int]:
    """Return the size by receptive field where the network can take it, else that of its input."""
    channels, height, width = network.input_shape
    wished = _wished(network, layer)
    if wished == (height, width) or layer.map_size is None:
        return height, width
    try:
        with torch.no_grad():
            tried = maps(torch.zeros(2, channels, *wished, device=network.device))
    except (RuntimeError, ValueError, IndexError):  # a reshape or an embedding of a fixed size
        return height, width
    return wished if tried.shape[:2] == (2, layer.units) else (height, width)
