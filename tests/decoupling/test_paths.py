from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.decoupling import Paths
from neurochains.decoupling.paths import hamming
from neurochains.errors import DataError

CODES = {
    "a": torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.bool),
    "b": torch.tensor([[0, 0], [1, 0], [1, 1], [1, 1]], dtype=torch.bool),
}
PATHS = Paths(CODES, torch.tensor([2, 0, 2, -1]), ("cat", "dog", "cup"))


def differing(left: list[bool], right: list[bool]) -> int:
    return sum(one != other for one, other in zip(left, right, strict=True))


def test_a_path_is_the_codes_of_all_layers_behind_each_other():
    assert PATHS.vectors.int().tolist() == [[1, 1, 0, 0, 0], [1, 0, 0, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 1]]
    assert PATHS.used().tolist() == [2, 2, 5, 4]
    assert PATHS.layers == ("a", "b")
    assert PATHS.distinct() == 4


def test_classes_with_few_filters_are_easy():
    rows = PATHS.class_use()
    assert [(row.name, row.images, row.mean, row.sd) for row in rows] == [("cat", 1, 2.0, 0.0), ("cup", 2, 3.5, 1.5)]
    assert rows[1].share == 3.5 / 5


def test_the_frequency_of_a_class_is_the_mean_of_its_codes():
    assert PATHS.class_frequency()["cup"]["a"].tolist() == [1.0, 1.0, 0.5]
    assert PATHS.frequency()["b"].tolist() == [0.75, 0.5]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
def test_the_distance_counts_the_bits_that_differ(count, others, bits, seed):
    dice = torch.Generator().manual_seed(seed)
    left, right = (torch.rand(n, bits, generator=dice) < 0.5 for n in (count, others))
    wanted = [[differing(one, other) for other in right.tolist()] for one in left.tolist()]
    assert hamming(left, right).tolist() == wanted


def test_class_distances_are_means_over_pairs_of_different_images():
    dice = torch.Generator().manual_seed(1)
    labels = torch.tensor([0, 1, 0, 1, 0, 3])
    paths = Paths({"a": torch.rand(6, 7, generator=dice) < 0.5}, labels)
    apart, rows = paths.class_distances(), paths.vectors.tolist()
    for i, one in enumerate(paths.classes):
        for j, other in enumerate(paths.classes):
            pairs = [(a, b) for a in range(6) for b in range(6) if a != b and labels[a] == one and labels[b] == other]
            if not pairs:
                assert torch.isnan(apart[i, j])
                continue
            wanted = sum(differing(rows[a], rows[b]) / 7 for a, b in pairs) / len(pairs)
            assert float(apart[i, j]) == pytest.approx(wanted)


def test_the_summary_holds_plain_values():
    found = PATHS.to_json()
    assert found["used"] == {"mean": 3.25, "least": 2, "most": 5}
    assert [row["name"] for row in found["classes"]] == ["cat", "cup"]
    assert "classes" not in Paths(CODES).to_json()


def test_images_with_like_paths_lie_together_in_the_plane():
    dice = torch.Generator().manual_seed(0)
    groups = torch.arange(20) % 2
    paths = Paths({"a": (torch.rand(2, 30, generator=dice) < 0.5)[groups] ^ (torch.rand(20, 30, generator=dice) < 0.1)})
    points = paths.plane(method="pca")
    assert points.shape == (20, 2)
    first = torch.from_numpy(points[:, 0])
    assert bool(((first > 0) == groups.bool()).all()) or bool(((first > 0) != groups.bool()).all())


def test_bad_input():
    with pytest.raises(DataError, match=r"same N >= 1 images, and as many labels or none; got \[\(4, 2\), \(4, 3\)\]"):
        Paths(CODES, torch.zeros(3))
    with pytest.raises(DataError, match="at least one layer"):
        Paths({})
    with pytest.raises(DataError, match="can only be told of labelled images"):
        Paths(CODES).class_use()
    with pytest.raises(DataError, match="No image is of class 1; the classes here are cat, cup"):
        PATHS.of_class(1)
    with pytest.raises(DataError, match=r"through the same filters, \{'a': 3, 'b': 2\}; got \{'a': 3\}"):
        PATHS.distances(Paths({"a": CODES["a"]}))
