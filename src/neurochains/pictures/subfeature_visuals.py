"""What each sub-feature of a filter looks like: feature visualisation, drawn towards a cluster of the filter's patches.

The picture of cluster c climbs, at the centre of the map,

    ``z + strength * m * cos(relu(v), u_c)``

with the filter's value z before the activation, the values v of the other filters of its layer there, the mean
direction ``u_c`` of the cluster's patches, and the mean value m of the filter over its patches, which puts both terms
on one scale. With strength 0 this is the filter's own visualisation, the same for all clusters.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from neurochains.circuits import SubFeatures
from neurochains.edit import tap
from neurochains.errors import ModelError, SettingsError
from neurochains.network import Network
from neurochains.pictures.visualise import MapsOf, visualise

__all__ = ["SubFeatureVisuals", "visualise_subfeatures"]


@dataclass(frozen=True, slots=True, eq=False)
class SubFeatureVisuals:
    """One picture for each cluster of a filter's patches, measured as it is stored.

    Attributes:
        images: uint8 ``(k, C, H, W)``.
        values: ``(k,)``, the filter's value at the centre of its map, before the activation.
        likeness: ``(k, k)``, the cosine of picture c to the mean direction of cluster d; the diagonal is its own.
    """

    images: Tensor
    values: Tensor
    likeness: Tensor


def visualise_subfeatures(
    network: Network,
    found: SubFeatures,
    *,
    strength: float = 10.0,
    steps: int = 256,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    watch: Callable[[int], None] | None = None,
) -> SubFeatureVisuals:
    """Return a picture for each cluster of a filter; for one without clusters, no pictures.

    Args:
        network: the traced network that the sub-features were found in.
        found: the sub-features.
        strength: how much the likeness to the cluster counts beside the filter's own value, 0 or more.
        steps: of gradient ascent.
        seed: of its start and its transforms; the same for all clusters.
        mean: of each channel, subtracted from pixels in [0, 1]; by default as the model says.
        std: of each channel, dividing; by default as the model says.
        watch: called with the number of each step, from 1, over all clusters; what it raises ends the painting.

    Raises:
        SettingsError: an option has a value it cannot have, or mean and std are not known.
        ModelError: the network has other weights than the one that the sub-features were found in.
    """
    if strength < 0:
        raise SettingsError(f"The strength of a cluster's likeness is 0 or more; got {strength}.")
    _check_network(network, found)
    average, deviation = _statistics(network, mean, std)
    size = (network.input_shape[1], network.input_shape[2])
    if not found.clusters:
        empty = torch.zeros(0, len(average), *size, dtype=torch.uint8)
        return SubFeatureVisuals(empty, torch.zeros(0), torch.zeros(0, 0))
    centres = torch.stack([found.centre(cluster) for cluster in range(found.clusters)])
    parts = _Parts(network, found, centres)
    painted = visualise(
        _watched(parts.objective(strength * float(found.patches.values.mean())), watch),
        range(found.clusters),
        size,
        mean=average,
        std=deviation,
        steps=steps,
        objective="centre",
        seed=seed,
        device=network.device,
    )
    return SubFeatureVisuals(painted.images, *parts.measure(painted.images, average, deviation))


def _watched(maps_of: MapsOf, watch: Callable[[int], None] | None) -> MapsOf:
    """Return the same maps, telling each time that they are asked for."""
    if watch is None:
        return maps_of
    count = itertools.count(1)

    def watched(images: Tensor) -> Tensor:
        watch(next(count))
        return maps_of(images)

    return watched


class _Parts:
    """The two terms of the objective: the filter's map, and the likeness of each position to each cluster."""

    def __init__(self, network: Network, found: SubFeatures, centres_kD: Tensor) -> None:
        self._tapped = tap(network, [found.patches.filter.layer])
        self._layer = network.layer(found.patches.filter.layer)
        self._unit = found.patches.filter.index
        self._others = [unit for unit in range(self._layer.units) if unit != self._unit]
        self._centres = centres_kD.to(network.device)

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the filter's map ``(B, h, w)`` and the likeness ``(B, k, h, w)`` of normalised images."""
        maps = self._tapped(images)[1][self._layer.name].movedim(self._layer.axis, 1)
        maps = maps if maps.ndim == 4 else maps.flatten(2)[..., None] if maps.ndim > 2 else maps[..., None, None]
        directions = F.normalize(maps[:, self._others].clamp(min=0), dim=1)
        return maps[:, self._unit], torch.einsum("bdhw,kd->bkhw", directions, self._centres)

    def objective(self, weight: float) -> MapsOf:
        """Return the maps to climb, one for each cluster."""

        def maps_of(images: Tensor) -> Tensor:
            own, likeness = self(images)
            return own[:, None] + weight * likeness

        return maps_of

    @torch.no_grad()
    def measure(self, pixels: Tensor, mean: Sequence[float], std: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Return value and likeness at the centre of finished pictures."""
        average, deviation = (torch.tensor(values)[:, None, None] for values in (mean, std))
        own, likeness = self((pixels.float() / 255 - average) / deviation)
        row, column = own.shape[1] // 2, own.shape[2] // 2
        return own[:, row, column].float().cpu(), likeness[:, :, row, column].float().cpu()


def _check_network(network: Network, found: SubFeatures) -> None:
    wanted = found.provenance.get("model", {}).get("digest", network.digest)
    if wanted != network.digest:
        raise ModelError(
            f"The sub-features of {found.label} were found in a model with other weights: their digest is {wanted}, "
            f"that of this model {network.digest}. Pass the model they were found in."
        )


def _statistics(
    network: Network, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    how = None if network.info is None else network.info.preprocess
    average, deviation = mean or (how and how.mean), std or (how and how.std)
    if not average or not deviation:
        raise SettingsError("The model does not say how its pixels are normalised. Pass mean= and std=.")
    return tuple(average), tuple(deviation)
