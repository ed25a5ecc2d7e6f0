"""How alike an image is to each class, layer by layer: where its way through the network parts from that of its class.

1. A kept filter's features on an image are the mean and the maximum of its rectified map in the whole network; each is
   divided by its standard deviation over the task's images.
2. The distance to a class is the root mean square, over the features of a layer, of the difference to the mean of the
   class's images; the similarity is ``1 / (1 + distance)``, 1 for the mean itself.
3. What is usual for a class is the range of its own images, each against the mean of the others of the class: from the
   5th to the 95th percentile.

The way parts where the similarity falls below what is usual for the class and is so in the next layer too, or in the
last. This is ours; the papers compare the maps by eye.

Shapes: N images, F features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from neurochains.chains import Chain
from neurochains.report.content import Likeness
from neurochains.report.maps import maps_of

__all__ = ["compare", "features", "parting_layer", "similarities"]

LEAST_IMAGES = 3  # of a class, for a range of what is usual
MOST_CLASSES = 5


def features(chain: Chain, images: Tensor) -> dict[str, np.ndarray]:
    """Return the features ``(N, F)`` of the kept filters in the whole network by layer name."""
    kept = chain.filters
    parts: dict[str, list[Tensor]] = {name: [] for name in kept}
    for found in maps_of(chain.network, images, list(kept)):
        for name, units in kept.items():
            rectified = found[name][:, units.to(found[name].device)].relu().flatten(2)
            parts[name].append(torch.cat([rectified.mean(2), rectified.amax(2)], 1).double().cpu())
    return {name: torch.cat(several).numpy() for name, several in parts.items()}


def similarities(
    own: np.ndarray, rows: Mapping[str, Sequence[int]], image: np.ndarray
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """Return the similarity of an image to each class in one layer, and the range that is usual for the class.

    Args:
        own: ``(N, F)``, the features of the task's images.
        rows: the images of each class.
        image: ``(F,)``.
    """
    spread = own.std(0)
    scale = np.where(spread > 1e-12, spread, 1.0)
    own, image = own / scale, image / scale
    similarity = {name: _similarity(image, own[list(several)].mean(0)) for name, several in rows.items()}
    usual = {}
    for name, several in rows.items():
        if len(several) >= LEAST_IMAGES:
            low, high = np.quantile([_left_out(own, several, row) for row in several], [0.05, 0.95]).tolist()
            usual[name] = (low, high)
    return similarity, usual


def compare(
    layers: Sequence[str],
    own: Mapping[str, np.ndarray],
    rows: Mapping[str, Sequence[int]],
    image: Mapping[str, np.ndarray],
    beside: str,
) -> Likeness:
    """Return how alike an image is to each class.

    Args:
        layers: labels of the layers, in the order of `own`.
        own: by layer name ``(N, F)``, the features of the task's images.
        rows: the images of each class by its name; the first five and `beside` are compared.
        image: by layer name ``(F,)``.
        beside: the class it is held against.
    """
    chosen = [name for name in rows if name == beside] + [name for name in rows if name != beside][: MOST_CLASSES - 1]
    rows = {name: rows[name] for name in chosen}
    each = [similarities(own[name], rows, image[name]) for name in own]
    similarity = {name: tuple(one[0][name] for one in each) for name in rows}
    usual = {
        name: (tuple(one[1][name][0] for one in each), tuple(one[1][name][1] for one in each))
        for name, several in rows.items()
        if len(several) >= LEAST_IMAGES
    }
    return Likeness(tuple(layers), similarity, usual, tuple(_sentences(layers, similarity, usual, beside)))


def parting_layer(similarity: Sequence[float], low: Sequence[float]) -> int | None:
    """Return the first layer at which the similarity falls below `low`, there and in the next layer or in the last.

    >>> parting_layer([0.9, 0.2, 0.9, 0.3, 0.1], [0.5] * 5), parting_layer([0.9, 0.4], [0.5] * 2)
    (3, 1)
    """
    below = [value < least for value, least in zip(similarity, low)]
    return next((at for at, one in enumerate(below) if one and all(below[at : at + 2])), None)


def _sentences(
    layers: Sequence[str],
    similarity: Mapping[str, Sequence[float]],
    usual: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    beside: str,
) -> list[str]:
    said = []
    if beside in usual:
        at = parting_layer(similarity[beside], usual[beside][0])
        if at is None:
            said.append(f"In all {len(layers)} layers its maps stay within the range of the images of {beside}.")
        else:
            said.append(_parted(layers, at, beside))
    if len(similarity) > 1:
        said.append(_nearest(layers, similarity))
    return said


def _parted(layers: Sequence[str], at: int, beside: str) -> str:
    if at == 0:
        return f"From the first layer, {layers[0]}, on its maps lie outside the range of the images of {beside}."
    before = f"Up to {layers[at - 1]} its maps are like those of {beside}."
    return f"{before} At {layers[at]} they leave the range of its images."


def _nearest(layers: Sequence[str], similarity: Mapping[str, Sequence[float]]) -> str:
    """Say which class an image is nearest to at the end, and from which layer on."""
    nearest = [max(similarity, key=lambda name: similarity[name][at]) for at in range(len(layers))]
    last, start = nearest[-1], len(nearest) - 1
    while start and nearest[start - 1] == last:
        start -= 1
    if start == 0:
        return f"In every layer they are nearest to those of {last}."
    return f"From {layers[start]} on they are nearest to those of {last}."


def _left_out(features: np.ndarray, rows: Sequence[int], row: int) -> float:
    """Return the similarity of one image of a class to the others."""
    return _similarity(features[row], features[[other for other in rows if other != row]].mean(0))


def _similarity(first: np.ndarray, second: np.ndarray) -> float:
    return 1 / (1 + float(np.sqrt(np.mean((first - second) ** 2))))
