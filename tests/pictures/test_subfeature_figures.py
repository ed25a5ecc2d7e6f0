"""Figures of sub-features that were made up: what is drawn is what they say, and can be read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from neurochains.circuits import LayerSubFeatures, Patches, SubFeatures
from neurochains.data import Task
from neurochains.errors import DataError
from neurochains.network import Filter
from neurochains.pictures import SubFeatureVisuals, layer_subfeatures_figure, subfeature_figure
from neurochains.pictures.subfeature_figures import components

COUNT = 24


def made(clusters: int = 2, unit: int = 5) -> SubFeatures:
    """Sub-features with so many clusters of 6 patches, the rest in none."""
    dice = torch.Generator().manual_seed(clusters)
    labels = torch.full((COUNT,), -1)
    labels[: 6 * clusters] = torch.arange(clusters).repeat_interleave(6)
    vectors = torch.rand(COUNT, 9, generator=dice)
    boxes = torch.tensor([[4, 4, 12, 12]] * COUNT)
    index = torch.arange(COUNT)
    patches = Patches(Filter("features.10", unit), index, index % 4, index // 8, boxes, index.flip(0) + 1.0, vectors)
    circuits = tuple({"a": torch.rand(8, 6, generator=dice) < 0.4} for _ in range(clusters))
    mixed = torch.tensor([0.7, 0.75, 0.8]) if clusters > 1 else torch.zeros(0)
    return SubFeatures(f"L10_{unit}", patches, labels, circuits, mixed)


@pytest.fixture
def task() -> Task:
    return Task(torch.rand(COUNT, 3, 16, 16))


def visuals(clusters: int) -> SubFeatureVisuals:
    pictures = torch.randint(0, 255, (clusters, 3, 16, 16), dtype=torch.uint8)
    return SubFeatureVisuals(pictures, torch.ones(clusters), torch.eye(clusters))


@pytest.mark.parametrize("clusters", [0, 1, 2, 4])
@pytest.mark.parametrize("painted", [False, True])
def test_it_can_be_read(clusters, painted, task, legible, words):
    figure = subfeature_figure(made(clusters), task, visuals=visuals(clusters) if painted else None)
    legible(figure)
    for cluster in range(clusters):
        assert f"cluster {cluster}" in words(figure)
    assert ("No cluster of patches was found." in words(figure)) == (clusters == 0)


def test_title_and_table_say_what_was_found(task, words):
    found = made(2)
    written = words(subfeature_figure(found, task))
    assert (
        f"L10_5: 2 sub-features, whose circuits share {found.separability:.0%} of their kernels (mixed 75%)" in written
    )
    assert written.count(f"{float(found.overlaps[0, 1]):.2f}"[1:]) == 2
    assert f"{int(found.circuits[0]['a'].sum())} kernels" in written


def test_every_patch_is_a_point_in_the_colour_of_its_cluster(task):
    found = made(2)
    points = np.stack([np.arange(COUNT), np.arange(COUNT) ** 2], 1)
    drawn = subfeature_figure(found, task, points=points).axes[1].collections
    assert [len(group.get_offsets()) for group in drawn] == [COUNT - 12, 6, 6]
    assert np.array_equal(np.asarray(drawn[1].get_offsets()), points[:6])
    assert not np.array_equal(drawn[1].get_facecolor(), drawn[2].get_facecolor())


def test_the_strongest_patches_are_shown_with_their_boxes(task):
    found = made(2)
    page = subfeature_figure(found, task, crops=3).axes[0]
    assert len(page.images) == 6
    assert len(subfeature_figure(found, task, crops=3, visuals=visuals(2)).axes[0].images) == 8


def test_components_are_the_directions_that_vary_most():
    found = made(2)
    directions = found.patches.vectors.double()
    directions = directions / directions.norm(dim=1, keepdim=True)
    centred = (directions - directions.mean(0)).numpy()
    variances = np.sort(np.linalg.eigvalsh(centred.T @ centred))[::-1]
    assert (components(found) ** 2).sum(0) == pytest.approx(variances[:2])


def test_a_ranking_can_be_read(legible, words):
    several = LayerSubFeatures("features.10", (*(made(2, unit) for unit in range(9)), made(1, 9), made(0, 10)))
    figure = layer_subfeatures_figure(several, most=7)
    legible(figure)
    assert "Sub-features of features.10: 9 of 11 filters" in words(figure)
    assert "L10_6, 2 clusters" in words(figure)
    assert "L10_7, 2 clusters" not in words(figure)


def test_bad_input(task):
    with pytest.raises(DataError, match="a picture for each of 2 clusters, got 3"):
        subfeature_figure(made(2), task, visuals=visuals(3))
    with pytest.raises(DataError, match=r"points \(24, 2\), one for each patch, got \(3, 2\)"):
        subfeature_figure(made(2), task, points=np.zeros((3, 2)))
    with pytest.raises(DataError, match="nothing to rank"):
        layer_subfeatures_figure(LayerSubFeatures("features.10", (made(1),)))
    found = made(2)
    other = SubFeatures(
        found.label,
        found.patches,
        found.labels,
        found.circuits,
        found.mixed,
        provenance={"images": {"digests": ["a", "b"]}},
    )
    with pytest.raises(DataError, match="found in other images"):
        subfeature_figure(other, task)
