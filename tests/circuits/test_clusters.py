from __future__ import annotations

import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurochains.circuits import cluster_patches, mixed_labels, purity
from neurochains.circuits.clusters import smallest_cluster
from neurochains.errors import DataError, ModelError, SettingsError


def planted(
    sizes: tuple[int, ...] = (60, 40), width: int = 30, noise: float = 0.2
) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors around one direction for each cluster, of any length, and which is which."""
    pytest.importorskip("sklearn")
    dice = torch.Generator().manual_seed(1)
    truth = torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)])
    centres = torch.rand(len(sizes), width, generator=dice) * (torch.rand(len(sizes), width, generator=dice) < 0.3)
    vectors = centres[truth] + noise * torch.rand(len(truth), width, generator=dice)
    return vectors * (0.2 + 5 * torch.rand(len(truth), 1, generator=dice)), truth


def test_planted_clusters_are_found_whatever_the_length_of_the_vectors():
    vectors, truth = planted()
    labels = cluster_patches(vectors)
    assert labels.max() == 1
    assert (labels >= 0).double().mean() > 0.8
    assert (labels[labels >= 0] == truth[labels >= 0]).all()  # the larger is 0


def test_the_order_of_the_patches_does_not_matter():
    vectors, _ = planted((50, 30, 20))
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cluster_patches(vectors)[order], cluster_patches(vectors[order]))


def test_clusters_are_numbered_by_size():
    labels = cluster_patches(planted((20, 80, 50))[0])
    sizes = labels[labels >= 0].bincount().tolist()
    assert len(sizes) == 3
    assert sizes == sorted(sizes, reverse=True)


def test_the_length_counts_when_asked():
    pytest.importorskip("sklearn")
    base = torch.rand(1, 8, generator=torch.Generator().manual_seed(0))
    noise = 0.01 * torch.rand(80, 8, generator=torch.Generator().manual_seed(1))
    vectors = torch.cat([base * 1, base * 9]).repeat_interleave(40, 0) + noise
    assert cluster_patches(vectors, directions=False).max() == 1
    assert cluster_patches(vectors / vectors.norm(dim=1, keepdim=True), directions=False).max() < 1


def test_few_patches_have_no_clusters():
    assert cluster_patches(torch.rand(9, 4)).tolist() == [-1] * 9
    assert cluster_patches(torch.rand(0, 4)).tolist() == []
    assert cluster_patches(torch.rand(50, 0)).tolist() == [-1] * 50
    assert smallest_cluster(1500) == 100


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=40), st.integers(0, 5))
def test_mixing_keeps_sizes_and_what_is_in_no_cluster(labels, seed):
    labels = torch.tensor(labels)
    mixed = mixed_labels(labels, 3, seed=seed)
    assert mixed.shape == (3, len(labels))
    for row in mixed:
        assert torch.equal(row.sort().values, labels.sort().values)
        assert torch.equal(row == -1, labels == -1)
    assert torch.equal(mixed, mixed_labels(labels, 3, seed=seed))


def test_mixing_mixes():
    labels = torch.tensor([0] * 50 + [1] * 50)
    mixed = mixed_labels(labels, 4)
    shares = [(row[:50] == 0).double().mean().item() for row in mixed]
    assert all(0.3 < share < 0.7 for share in shares)
    assert len({tuple(row.tolist()) for row in mixed}) == 4


def test_purity():
    labels = torch.tensor([0, 0, 0, 1, 1, -1])
    assert purity(labels, [2, 2, 5, 1, 1, 7]) == pytest.approx(4 / 5)
    assert purity(labels, torch.tensor([2, 2, 2, 2, 2, 9])) == 1
    assert torch.tensor(purity(torch.tensor([-1, -1]), [0, 1])).isnan()


def test_bad_input(monkeypatch):
    with pytest.raises(DataError, match=r"finite activation vectors .*got \(2, 3, 4\)"):
        cluster_patches(torch.rand(2, 3, 4))
    with pytest.raises(DataError, match="finite activation vectors"):
        cluster_patches(torch.full((30, 3), float("nan")))
    with pytest.raises(SettingsError, match="at least 2 patches; got smallest=1"):
        cluster_patches(torch.rand(30, 3), smallest=1)
    with pytest.raises(SettingsError, match="at least one draw, got 0"):
        mixed_labels(torch.zeros(3, dtype=torch.int64), 0)
    with pytest.raises(DataError, match="the kind of each of 3 patches"):
        purity(torch.zeros(3, dtype=torch.int64), [1])
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ModelError, match=r"scikit-learn: pip install 'neurochains\[explorer\]'"):
        cluster_patches(torch.rand(30, 3))
