"""The feature-viz projection: filters lie together where they answer alike to the feature visualisations of a layer.

Feature visualisations are added to a bundle when they are wanted. Once those of a whole layer are there, its filters
can be placed by their answers to them: the mean over positions of each filter's map, what is negative being 0.

Shapes: O filters of the layer, V visualisations, C channels, H x W pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.circuits.bundle import Bundle
from neurochains.circuits.bundle_document import BundleLayer
from neurochains.circuits.bundle_graph import edges_between
from neurochains.circuits.projections import place, rotate
from neurochains.edit import tap
from neurochains.errors import ArtifactError, DataError
from neurochains.network import Filter, Network

__all__ = ["answers", "project_visuals"]

Array = NDArray[Any]
_BATCH = 16
_VISUAL = "visual"


def answers(network: Network, layer: str, images: Tensor) -> Tensor:
    """Return the answer of each filter of a layer to each image, ``(O, V)``: the mean of its map, clipped at 0.

    Args:
        network: the traced network.
        layer: dotted name or label.
        images: ``(V, C, H, W)``, normalised as the network takes them.
    """
    found = network.layer(layer)
    tapped = tap(network, [found.name])
    parts = []
    with torch.no_grad():
        for batch in images.split(_BATCH):
            maps = tapped(batch.to(network.device))[1][found.name].clamp(min=0)
            parts.append(maps.movedim(found.axis, -1).reshape(len(batch), -1, found.units).mean(1).cpu())
    return torch.cat(parts).T


def project_visuals(
    bundle: Bundle, network: Network, layer: str, *, objective: str = "channel", method: str = "auto", seed: int = 0
) -> Array:
    """Return the places ``(O, 2)`` of a layer's filters by their answers to its visualisations, and keep them.

    The layer is turned towards those before it, where they lie in this projection, or else in the class-wise one.

    Args:
        bundle: with the visualisations of all filters of the layer.
        network: that the bundle is of.
        layer: dotted name or label.
        objective: of the visualisations.
        method: of `projections.METHODS`.
        seed: of UMAP.

    Raises:
        ArtifactError: the bundle is of another model, or cannot be written to.
        DataError: visualisations are missing, or it is not known how pixels become inputs.
        SettingsError: there is no such method.
    """
    bundle.check_model(network)
    found = bundle.layer(layer)
    rows = answers(network, found.name, _inputs(bundle, _pixels(bundle, found, objective)))
    largest = max(known.units for known in bundle.spans.layers)
    points = place(rows.numpy(), method=method, largest=largest, seed=seed)
    weights = np.abs(bundle.weights(found.name).astype(np.float32)).reshape(*found.shape, -1).mean(-1)
    before = {known.name: _placed(bundle, known) for known in bundle.spans.layers[: bundle.spans.layers.index(found)]}
    points = rotate(points, edges_between(found, weights, bundle.sources(found.name), before)).astype(np.float32)
    _keep(bundle, found, points)
    return points


def _pixels(bundle: Bundle, layer: BundleLayer, objective: str) -> Array:
    visuals = [bundle.visual(Filter(layer.name, index), objective=objective) for index in range(layer.units)]
    missing = sum(visual is None for visual in visuals)
    if missing:
        raise DataError(
            f"{missing} of {layer.units} filters of {layer.name} have no feature visualisation in the bundle yet. Add "
            "them with Bundle.keep_visual."
        )
    return np.stack([visual.pixels for visual in visuals if visual is not None])


def _inputs(bundle: Bundle, pixels: Array) -> Tensor:
    """Return pixels as the network takes them."""
    document = bundle.document
    if not document.mean:
        raise DataError(
            "The bundle does not know how pixels become inputs of its network: prepare it with preprocess=."
        )
    mean, std = (torch.tensor(values)[:, None, None] for values in (document.mean, document.std))
    return (torch.from_numpy(pixels).float() / 255 - mean) / std


def _placed(bundle: Bundle, layer: BundleLayer) -> Array:
    if bundle.folder.has(f"{_VISUAL}.safetensors"):
        try:
            return bundle.projection(layer.name, _VISUAL)
        except ArtifactError:  # this layer is not there yet
            pass
    return bundle.projection(layer.name)


def _keep(bundle: Bundle, layer: BundleLayer, points: Array) -> None:
    """Write the file of the projection again, with one layer more."""
    kept = {}
    for known in bundle.spans.layers:
        try:
            kept[str(bundle.layers.index(known))] = bundle.projection(known.name, _VISUAL)
        except ArtifactError:  # noqa: PERF203 - not made yet
            continue
    bundle.folder.write(f"{_VISUAL}.safetensors", {**kept, str(bundle.layers.index(layer)): points})
