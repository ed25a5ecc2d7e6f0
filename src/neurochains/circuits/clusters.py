"""Clusters among the patches of one filter: which of them the rest of the layer sees alike.

HDBSCAN (McInnes et al. 2017) in the original space, on the directions of the activation vectors: a patch that the layer
answers to twice as strongly is the same patch. What lies in no cluster has the label -1.

Shapes: P patches, D other filters of the layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neurochains.errors import DataError, ModelError, SettingsError

__all__ = ["cluster_patches", "mixed_labels", "purity"]

_SHARE = 20 / 300  # the published smallest cluster among the published number of patches
_LEAST = 5


def smallest_cluster(patches: int) -> int:
    """Return the least patches of a cluster: 20 of 300, in proportion with fewer, never below 5.

    >>> smallest_cluster(300), smallest_cluster(150), smallest_cluster(30)
    (20, 10, 5)
    """
    return max(_LEAST, round(_SHARE * patches))


def cluster_patches(vectors: Tensor, *, smallest: int | None = None, directions: bool = True) -> Tensor:
    """Return the cluster of each patch ``(P,)``: 0 is the largest; -1 lies in none. Deterministic.

    Args:
        vectors: ``(P, D)``, the activation vectors of the patches.
        smallest: least patches of a cluster; by default 20 of 300 and in proportion, but at least 5.
        directions: bring all vectors to length 1 first.

    Raises:
        DataError: the vectors are not finite, or of another shape.
        SettingsError: ``smallest`` is below 2.
        ModelError: scikit-learn is not installed.
    """
    if vectors.ndim != 2 or not bool(torch.isfinite(vectors).all()):
        raise DataError(f"Wanted finite activation vectors (patches, filters), got {tuple(vectors.shape)}.")
    least = smallest_cluster(len(vectors)) if smallest is None else smallest
    if least < 2:
        raise SettingsError(f"A cluster has at least 2 patches; got smallest={least}.")
    if len(vectors) < 2 * least or not vectors.shape[1]:
        return torch.full((len(vectors),), -1)
    points = F.normalize(vectors.double(), dim=1) if directions else vectors.double()
    return _by_size(torch.from_numpy(_hdbscan(points.numpy(), least)))


def _hdbscan(points: NDArray[np.float64], least: int) -> NDArray[np.int64]:
    try:
        from sklearn.cluster import HDBSCAN  # an optional library, and a slow one to import
    except ImportError as error:
        raise ModelError("Clusters need scikit-learn: pip install 'neurochains[explorer]'") from error
    model = HDBSCAN(min_cluster_size=least, copy=True)  # pyright: ignore[reportArgumentType] - its default is a word
    return model.fit(points).labels_.astype(np.int64)


def _by_size(labels: Tensor) -> Tensor:
    """Return the labels renumbered by the size of the clusters, the largest first."""
    clusters, sizes = labels[labels >= 0].unique(return_counts=True)
    order = clusters[sizes.argsort(descending=True, stable=True)]
    renamed = torch.full_like(labels, -1)
    for new, old in enumerate(order.tolist()):
        renamed[labels == old] = new
    return renamed


def mixed_labels(labels: Tensor, draws: int, *, seed: int = 0) -> Tensor:
    """Return ``(draws, P)``: the labels dealt anew among the patches that have one; the sizes of clusters stay.

    Raises:
        SettingsError: ``draws`` is below 1.
    """
    if draws < 1:
        raise SettingsError(f"The mixed control needs at least one draw, got {draws}.")
    dice = torch.Generator().manual_seed(seed)
    members = (labels >= 0).nonzero().flatten()
    mixed = labels.repeat(draws, 1)
    for row in mixed:
        row[members] = labels[members[torch.randperm(len(members), generator=dice)]]
    return mixed


def purity(labels: Tensor, truth: Sequence[int] | Tensor) -> float:
    """Return the share of the clustered patches whose cluster mostly holds patches of their kind; NaN without any.

    Args:
        labels: ``(P,)``, the clusters; -1 does not count.
        truth: ``(P,)``, what kind each patch is, from 0.

    Raises:
        DataError: the two do not have the same length.
    """
    kinds = torch.as_tensor(truth)
    if kinds.shape != labels.shape:
        raise DataError(f"Wanted the kind of each of {len(labels)} patches, got {tuple(kinds.shape)}.")
    clusters = labels[labels >= 0].unique()
    largest = sum(int(kinds[labels == cluster].bincount().max()) for cluster in clusters)
    return largest / int((labels >= 0).sum()) if len(clusters) else float("nan")
