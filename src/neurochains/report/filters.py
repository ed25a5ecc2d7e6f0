"""The filters of the chains as pictures: what they answer to most, where they answer, and to what in the data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from neurochains.chains.paths import Path, Step
from neurochains.network import Filter, Network
from neurochains.pictures import overlay, top_crops
from neurochains.pictures.figures import display
from neurochains.report.content import ChainView, FilterView
from neurochains.report.maps import filter_maps
from neurochains.report.visuals import Painted, paint, scaled_steps

__all__ = ["Gallery", "channel_names", "make_gallery", "needed"]

CROPS = 4
FAINTEST = 0.25  # the end of the scale of a heatmap, as a share of the largest value in the data


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """What is known of the filters on the chains.

    Attributes:
        network: the whole network.
        pixels: uint8 ``(N, C, H, W)``, the images.
        units: by layer name, the filters' indices.
        maps: by layer name, ``(N, units, h, w)``, their maps in the whole network.
        painted: what they answer to most.
        steps: how many it took to paint them.
    """

    network: Network
    pixels: Tensor
    units: Mapping[str, Sequence[int]]
    maps: Mapping[str, Tensor]
    painted: Mapping[Filter, Painted]
    steps: int

    def map_of(self, unit: Filter) -> Tensor:
        """Return the maps ``(N, h, w)`` of one filter on all images."""
        return self.maps[unit.layer][:, list(self.units[unit.layer]).index(unit.index)]

    def chain(self, number: int, path: Path, samples: Sequence[tuple[Tensor, Mapping[str, Tensor], int]]) -> ChainView:
        """Return a chain with heatmaps on some samples, see `FilterView`.

        Args:
            number: of the chain.
            path: the chain.
            samples: pixels ``(C, H, W)`` of an image, the maps that it is in, as in `maps`, and its row there.
        """
        steps = tuple(self._filter(step, samples) for step in path.steps)
        return ChainView(
            number, None if path.entry is None else _channel(path.entry, self.network), path.product, steps
        )

    def _filter(self, step: Step, samples: Sequence[tuple[Tensor, Mapping[str, Tensor], int]]) -> FilterView:
        unit = step.filter
        own = self.map_of(unit)
        painted = self.painted.get(unit)
        return FilterView(
            label=step.label,
            name=str(unit),
            score=step.score,
            share=step.share,
            visual=None if painted is None else painted.pixels,
            peak=None if painted is None else painted.peak,
            largest=float(own.max()),
            heatmaps=tuple(self._heatmaps(unit, samples)),
            crops=self._crops(unit, own),
        )

    def _heatmaps(
        self, unit: Filter, samples: Sequence[tuple[Tensor, Mapping[str, Tensor], int]]
    ) -> Iterable[np.ndarray]:
        """Yield the filter's map on each sample, all from 0 to the largest value on any of them.

        A filter that hardly answers on them is shown as such: the scale ends at no less than a quarter of its largest
        value in the data.
        """
        place = list(self.units[unit.layer]).index(unit.index)
        own = [maps[unit.layer][row, place] for _, maps, row in samples]
        top = max(FAINTEST * float(self.map_of(unit).max()), *(float(one.max()) for one in own), 0.0)
        for one, (pixels, _, _) in zip(own, samples):
            if one.numel() > 1:
                yield overlay(one, pixels, limits=(0.0, top)).numpy()

    def _crops(self, unit: Filter, own: Tensor) -> tuple[np.ndarray, ...]:
        if own[0].numel() <= 1:
            return ()
        found = top_crops(own, self.network.receptive_field(unit.layer).box, self.pixels, k=CROPS)
        return tuple(display(crop.pixels.numpy()) for crop in found)


def make_gallery(
    network: Network,
    images: Tensor,
    pixels: Tensor,
    paths: Iterable[Path],
    *,
    steps: int,
) -> Gallery:
    """Return the pictures of all filters on some chains; with 0 steps, without what they answer to most."""
    wanted = needed(network, paths)
    taken = scaled_steps(network, wanted, steps) if steps else 0
    painted = paint(network, wanted, images, steps=taken) if taken else {}
    return Gallery(network, pixels.cpu(), wanted, filter_maps(network, images, wanted), painted, taken)


def needed(network: Network, paths: Iterable[Path]) -> dict[str, list[int]]:
    """Return the filters of some chains by layer, in order of execution."""
    found: dict[str, set[int]] = {}
    for path in paths:
        for unit in path.filters:
            found.setdefault(unit.layer, set()).add(unit.index)
    order = {layer.name: layer.index for layer in network.layers}
    return {name: sorted(found[name]) for name in sorted(found, key=order.__getitem__)}


def _channel(entry: Step, network: Network) -> str:
    """Return what an input channel is called."""
    return channel_names(network.input_shape[0])[entry.filter.index]


def channel_names(channels: int) -> tuple[str, ...]:
    """Return what the channels of an image are called.

    >>> channel_names(3), channel_names(1), channel_names(2)
    (('red', 'green', 'blue'), ('grey',), ('channel 0', 'channel 1'))
    """
    return {1: ("grey",), 3: ("red", "green", "blue")}.get(channels, tuple(f"channel {i}" for i in range(channels)))
