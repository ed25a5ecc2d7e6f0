"""The problem that every method of finding a circuit solves: a target's map, some images, the kernels that lead there.

Shapes: B images, O filters and I inputs per group of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.circuits.edges import Edges, count
from neurochains.edit import KernelNetwork, Readout
from neurochains.errors import DataError
from neurochains.network import Network

__all__ = ["Agreement", "Kept", "Problem", "agreement", "largest_within"]

_FLAT = 1e-12


@dataclass(frozen=True, eq=False)
class Kept:
    """Kernels that are kept: `masks` bool ``(O, I)`` by layer, without dead ends, and their `scores`, 0 for others."""

    masks: dict[str, Tensor]
    scores: dict[str, Tensor]

    @classmethod
    def of(cls, masks: Mapping[str, Tensor], scores: Mapping[str, Tensor] | None = None) -> Kept:
        """Return kept kernels with scores of 1, or with those of the kept ones among `scores`."""
        if scores is None:
            return cls(dict(masks), {name: mask.float() for name, mask in masks.items()})
        return cls(dict(masks), {name: scores[name] * mask for name, mask in masks.items()})

    @property
    def size(self) -> int:
        """The number of kept kernels."""
        return count(self.masks)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well a circuit gives its target's map, over all images and positions.

    `error` is the mean squared difference as a share of the original map's variance: 1 for a constant at its mean.
    """

    pearson: float
    spearman: float
    error: float


class Problem:
    """A target's map on some images, and the network as far as the target with its kernels open to scores.

    Attributes:
        network, readout, edges: the network, what is looked at, and the kernels that lead there.
        images: ``(B, C, H, W)`` on the network's device.
        original: the target's map on them, ``(B, h, w)`` or ``(B, 1)``.

    Raises:
        DataError: the target is the same everywhere on these images, so there is nothing to keep.
        SettingsError: no kernel leads to the target.
    """

    def __init__(self, network: Network, readout: Readout, images: Tensor, *, batch_size: int = 32) -> None:
        self.network = network
        self.readout = readout
        self.edges = Edges(network, readout)
        self.images = network.check(images).to(network.dtype)
        self.batch_size = batch_size
        silenced = self.edges.silenced()
        self._silenced = {layer.name for layer in silenced}
        self._graph = KernelNetwork(network, layers=self.edges.layers, filters=silenced, taps=[readout.layer])
        self.original = self.maps(None)
        self.variance = float(self.original.var(correction=0))
        if not self.variance > _FLAT:
            raise DataError(
                f"The target is the same everywhere on these {len(images)} images, so no circuit can be told from "
                "another. Take images that it answers to."
            )

    def run(self, images: Tensor, kept: Kept | None = None, scores: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the target's map, with gradients.

        Args:
            images: on the network's device.
            kept: the circuit; the whole network if None.
            scores: by layer ``(O, I)``, in place of the circuit's own; 0 for removed kernels.
        """
        used = scores if scores is not None else (kept.scores if kept is not None else {})
        filters = {} if kept is None else self._filters(kept)
        device, dtype = self.network.device, self.network.dtype
        moved = {name: values.to(device=device, dtype=dtype) for name, values in used.items()}
        return self.readout.of(self.network, self._graph(images, moved, filters)[self._graph.taps[0]])

    def maps(self, kept: Kept | None, images: Tensor | None = None) -> Tensor:
        """Return the target's map on all images (or others), computed some at a time without gradients."""
        given = self.images if images is None else self.network.check(images).to(self.network.dtype)
        with torch.no_grad():
            return torch.cat([self.run(batch, kept) for batch in given.split(self.batch_size)])

    def measure(self, kept: Kept) -> Agreement:
        """Return how well a circuit gives the map on the images."""
        return agreement(self.maps(kept), self.original)

    def batches(self) -> Iterator[Tensor]:
        """Yield the images, some at a time."""
        yield from self.images.split(self.batch_size)

    def everything(self) -> Kept:
        """Return the complete circuit: every kernel that leads to the target."""
        return Kept.of(self.edges.leading)

    def _filters(self, kept: Kept) -> dict[str, Tensor]:
        found = {name: mask.any(1) for name, mask in kept.masks.items() if name in self._silenced}
        return {
            name: alive.to(device=self.network.device, dtype=self.network.dtype)
            for name, alive in found.items()
            if not bool(alive.all())
        }


def agreement(found: Tensor, original: Tensor) -> Agreement:
    """Return how well one map ``(B, ...)`` gives another; a constant map correlates with nothing."""
    ours, theirs = found.detach().flatten().double().cpu(), original.detach().flatten().double().cpu()
    spread = float(theirs.var(correction=0))
    error = float((ours - theirs).square().mean()) / spread if spread > 0 else float("nan")
    return Agreement(_correlation(ours, theirs), _correlation(_ranks(ours), _ranks(theirs)), error)


def largest_within(values: Mapping[str, Tensor], allowed: Mapping[str, Tensor], size: int, edges: Edges) -> Kept:
    """Return the most important kernels, as many as leave at most `size` once dead ends are removed.

    Args:
        values: by layer ``(O, I)``, larger for what is to be kept; ties go to earlier layers.
        allowed: bool ``(O, I)``: the kernels to choose from.
        size: how many kernels to keep at most.
        edges: the kernels that lead to the target.

    Raises:
        SettingsError: nothing is left (total collapse).
    """
    names = [name for name in edges.leading if name in allowed]
    flat = torch.cat([values[name][allowed[name]].flatten().double() for name in names])
    order = flat.argsort(descending=True, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order))

    def first(many: int) -> dict[str, Tensor]:
        masks, start = {}, 0
        for name in names:
            mask = allowed[name].clone()
            own = int(mask.sum())
            mask[allowed[name]] = place[start : start + own] < many
            masks[name], start = mask, start + own
        return masks

    many = _bisect(lambda number: edges.size(first(number)) <= size, min(size, len(flat)), len(flat))
    return Kept.of(edges.connect(first(many)))


def _bisect(fits: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number from low to high that fits, if low fits and what is too much stays so."""
    if fits(high):
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _correlation(left: Tensor, right: Tensor) -> float:
    left, right = left - left.mean(), right - right.mean()
    size = float(left.norm() * right.norm())
    return float(left @ right) / size if size > 0 else 0.0


def _ranks(values: Tensor) -> Tensor:
    """Return the ranks of values; equal ones share their mean rank."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return (last - (counts - 1) / 2)[places]
