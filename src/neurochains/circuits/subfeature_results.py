"""The sub-features of a filter and of a layer's filters: what was found, in memory and in a folder.

Shapes: P patches, k clusters, D draws of the control, U units of the layer, O and I out- and in-channels of a layer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from neurochains.chains import read_result, write_result
from neurochains.circuits.kernel_sets import overlaps
from neurochains.circuits.patches import Patches
from neurochains.errors import ArtifactError, SettingsError
from neurochains.network import Filter

__all__ = ["LayerSubFeatures", "SubFeatures", "load_layer_subfeatures", "load_subfeatures"]

Kernels = Mapping[str, Tensor]

_KIND = "subfeatures"
_LAYER_KIND = "layer-subfeatures"
_PATCHES = ("images", "rows", "columns", "boxes", "values", "vectors")


@dataclass(frozen=True, eq=False, repr=False)
class SubFeatures:
    """What one filter answers to, taken apart. It holds no images: only which they are.

    Attributes:
        label: the filter as papers write it, such as ``"L10_5"``.
        patches: where the filter answers most.
        labels: ``(P,)``, the cluster of each patch; 0 is the largest, -1 lies in none.
        circuits: for each cluster, by layer name, which kernels are in its circuit: boolean ``(O, I)``.
        mixed: ``(D,)``, the separability in each draw of the mixed control; empty with fewer than two clusters.
        settings: what was asked for; JSON values.
        provenance: versions, model, images, seed and time.
    """

    label: str
    patches: Patches
    labels: Tensor
    circuits: tuple[Kernels, ...]
    mixed: Tensor
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clusters(self) -> int:
        """How many clusters there are."""
        return len(self.circuits)

    @property
    def overlaps(self) -> Tensor:
        """The share of kernels that every two circuits have in common, ``(k, k)``."""
        return overlaps(self.circuits) if self.circuits else torch.ones(0, 0)

    @property
    def separability(self) -> float:
        """The median over pairs of clusters of ``|intersection| / |union|``; NaN with fewer than two clusters."""
        return median_of_pairs(self.overlaps)

    @property
    def mixed_separability(self) -> float:
        """The mean over the draws of the mixed control; NaN with fewer than two clusters."""
        return float(self.mixed.mean()) if len(self.mixed) else float("nan")

    def members(self, cluster: int) -> Tensor:
        """Return the indices of a cluster's patches, the largest value first; -1 gives those in none.

        Raises:
            SettingsError: there is no such cluster.
        """
        if not -1 <= cluster < self.clusters:
            raise SettingsError(f"{self.label} has {self.clusters} clusters, counted from 0; got {cluster}.")
        return (self.labels == cluster).nonzero().flatten()

    def centre(self, cluster: int) -> Tensor:
        """Return the mean direction of a cluster's activation vectors: ``(U - 1,)`` of length 1 (or 0)."""
        directions = F.normalize(self.patches.vectors[self.members(cluster)], dim=1)
        return F.normalize(directions.mean(0), dim=0)

    def summary(self) -> dict[str, Any]:
        """Return what there is to tell in numbers; JSON values."""
        sizes = [len(self.members(cluster)) for cluster in range(self.clusters)]
        return {
            "filter": str(self.patches.filter),
            "label": self.label,
            "patches": len(self.patches),
            "clusters": sizes,
            "in_none": len(self.patches) - sum(sizes),
            "kernels": [sum(int(mask.sum()) for mask in circuit.values()) for circuit in self.circuits],
            "separability": self.separability,
            "mixed": self.mixed_separability,
            "mixed_draws": self.mixed.tolist(),
        }

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Return the folder that the result was saved to: a JSON document and a safetensors file, no images.

        Raises:
            ArtifactError: the folder exists and ``force`` is False, or holds something else; or it cannot be written.
        """
        return _save(folder, _KIND, (self,), force)

    def __repr__(self) -> str:
        found = f"{self.label}: {self.clusters} clusters of {len(self.patches)} patches"
        shared = f"separability {self.separability:.2f}, mixed {self.mixed_separability:.2f}"
        return f"SubFeatures({found}, {shared})" if self.clusters > 1 else f"SubFeatures({found})"


@dataclass(frozen=True, eq=False, repr=False)
class LayerSubFeatures(Sequence[SubFeatures]):
    """The sub-features of the filters of one layer: those with clusters first, the most separable at the top."""

    layer: str
    found: tuple[SubFeatures, ...]

    def __getitem__(self, index: Any) -> Any:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    @property
    def separable(self) -> tuple[SubFeatures, ...]:
        """Those with two clusters or more."""
        return tuple(one for one in self.found if one.clusters > 1)

    def summary(self) -> dict[str, Any]:
        """Return what there is to tell in numbers, filter by filter; JSON values."""
        return {"layer": self.layer, "filters": [one.summary() for one in self.found]}

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Return the folder that the results were saved to; see `SubFeatures.save`.

        Raises:
            ArtifactError: the folder exists and ``force`` is False, or holds something else; or it cannot be written.
        """
        return _save(folder, _LAYER_KIND, self.found, force)

    def __repr__(self) -> str:
        return f"LayerSubFeatures({self.layer}: {len(self.separable)} of {len(self)} filters have sub-features)"


def load_subfeatures(folder: str | os.PathLike[str]) -> SubFeatures:
    """Return what `SubFeatures.save` wrote; the model is not needed.

    Raises:
        ArtifactError: none is there, or it is damaged.
    """
    (found,) = _load(folder, _KIND)[1]
    return found


def load_layer_subfeatures(folder: str | os.PathLike[str]) -> LayerSubFeatures:
    """Return what `LayerSubFeatures.save` wrote; the model is not needed.

    Raises:
        ArtifactError: none is there, or it is damaged.
    """
    layer, found = _load(folder, _LAYER_KIND)
    return LayerSubFeatures(layer, tuple(found))


def median_of_pairs(shared: Tensor) -> float:
    """Return the median over pairs of what they share, of a table ``(k, k)``; NaN without a pair."""
    pairs = shared[tuple(torch.triu_indices(*shared.shape, offset=1))]
    return float(pairs.quantile(0.5)) if len(pairs) else float("nan")


def _save(folder: str | os.PathLike[str], kind: str, found: Sequence[SubFeatures], force: bool) -> Path:
    if not found:
        raise SettingsError("There are no sub-features of any filter to save.")
    first = found[0]
    document = {
        "layer": first.patches.filter.layer,
        "filters": [{"shapes": _shapes(one), **one.summary()} for one in found],
        "settings": dict(first.settings),
        "provenance": dict(first.provenance),
    }
    tensors = {name: values for one in found for name, values in _tensors(one).items()}
    return write_result(folder, document, {"subfeatures": tensors}, kind=kind, force=force)


def _shapes(found: SubFeatures) -> dict[str, list[int]]:
    """Return the shapes of the kernels of each layer in the circuits."""
    return {name: list(mask.shape) for name, mask in (found.circuits[0] if found.circuits else {}).items()}


def _tensors(found: SubFeatures) -> dict[str, Tensor]:
    """Return the tensors of one filter's sub-features; of a circuit, the flat indices of its kernels in each layer."""
    start = f"{found.patches.filter.index}/"
    tensors = {f"{start}{name}": getattr(found.patches, name) for name in _PATCHES}
    tensors |= {f"{start}labels": found.labels, f"{start}mixed": found.mixed}
    for cluster, circuit in enumerate(found.circuits):
        for name, mask in circuit.items():
            tensors[f"{start}circuit/{cluster}/{name}"] = mask.flatten().nonzero().flatten().int()
    return tensors


def _load(folder: str | os.PathLike[str], kind: str) -> tuple[str, list[SubFeatures]]:
    document, tensors = read_result(folder, kind=kind)
    try:
        values, layer = tensors["subfeatures"], document["layer"]
        return layer, [_read(entry, layer, values, document) for entry in document["filters"]]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(f"{folder}/{kind}.json is damaged: {error} is missing. Find them again.") from error


def _read(
    entry: Mapping[str, Any], layer: str, values: Mapping[str, Tensor], document: Mapping[str, Any]
) -> SubFeatures:
    index = int(entry["filter"].rpartition("[")[2].rstrip("]"))
    patches = Patches(Filter(layer, index), *(values[f"{index}/{name}"] for name in _PATCHES))
    circuits = tuple(
        {name: _mask(values[f"{index}/circuit/{cluster}/{name}"], shape) for name, shape in entry["shapes"].items()}
        for cluster in range(len(entry["clusters"]))
    )
    rest = values[f"{index}/labels"], circuits, values[f"{index}/mixed"]
    return SubFeatures(entry["label"], patches, *rest, document["settings"], document["provenance"])


def _mask(indices: Tensor, shape: Sequence[int]) -> Tensor:
    mask = torch.zeros(tuple(shape), dtype=torch.bool)
    mask.view(-1)[indices.long()] = True
    return mask
