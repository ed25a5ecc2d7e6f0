"""The figures of the benchmark on sub-features that were made up, whose kinds are known."""

from __future__ import annotations

import pytest
import torch
from benchmarks.subfeatures import PURE, answers_to_two, purities

from neurochains.circuits import Patches, SubFeatures
from neurochains.network import Filter


def made(labels: list[int]) -> SubFeatures:
    index = torch.arange(len(labels))
    patches = Patches(
        Filter("a", 0), index.flip(0), index, index, torch.zeros(len(labels), 4), index + 1.0, index[:, None]
    )
    mask = {"a": torch.ones(1, 2, dtype=torch.bool)}
    return SubFeatures("L0_0", patches, torch.tensor(labels), (mask,) * (max(labels) + 1), torch.tensor([0.5]))


@pytest.mark.parametrize(
    ("kinds", "two"),
    [
        ([0] * 10 + [1] * 10, True),
        ([1] * 20, False),
        ([0] * 8 + [1] * 2 + [1] * 10, True),
        ([0] * 7 + [1] * 3 + [1] * 10, False),  # too mixed to be of one kind
    ],
)
def test_two_pure_clusters_of_different_kinds(kinds, two):
    assert PURE == 0.8
    images_first = torch.tensor(kinds).flip(0)  # the patches are in the opposite order of the images
    assert answers_to_two(made([0] * 10 + [1] * 10), images_first) == two


def test_purity_beside_clusters_dealt_anew():
    kinds = torch.tensor([0] * 20 + [1] * 20)
    pure, shuffled = purities(made([1] * 20 + [0] * 20), kinds)
    assert pure == 1
    assert 0.5 <= shuffled < 0.75
