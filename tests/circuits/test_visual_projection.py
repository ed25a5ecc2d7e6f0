from __future__ import annotations

import numpy as np
import pytest
import torch

from neurochains.circuits import Bundle, prepare
from neurochains.circuits.bundle import Visual
from neurochains.circuits.visual_projection import answers, project_visuals
from neurochains.edit import tap
from neurochains.errors import ArtifactError, DataError
from neurochains.network import Filter
from neurochains.preprocess import Preprocess

from .conftest import small_network, small_task


@pytest.fixture
def with_visuals(network, tmp_path):
    """Return a bundle that knows how pixels become inputs, with the visualisations of two layers."""
    task, how = small_task(4), Preprocess((16, 16), (0.5,) * 3, (0.25,) * 3)
    normalised = type(task)(how.normalise(task.pixels), task.labels, pixels=task.pixels)
    bundle = prepare(network, normalised, tmp_path / "b", projection="pca", preprocess=how)
    dice = np.random.default_rng(0)
    for layer in ("stem.0", "a.0"):
        for index in range(8):
            pixels = dice.integers(0, 255, (3, 16, 16), dtype=np.uint8)
            bundle.keep_visual(Filter(layer, index), Visual(pixels, 0, 0))
    return bundle


def test_answers_are_means_of_maps_above_zero(network):
    images = torch.randn(20, 3, 16, 16)
    maps = tap(network, ["c.0"])(images)[1]["c.0"].detach()
    found = answers(network, "c.0", images)
    assert found.shape == (12, 20)
    torch.testing.assert_close(found, maps.relu().mean((2, 3)).T)


def test_layers_are_placed_one_by_one_and_kept(with_visuals, network):
    first = project_visuals(with_visuals, network, "stem.0", method="pca")
    second = project_visuals(with_visuals, network, "a.0", method="pca")
    again = Bundle.open(with_visuals.folder.place)
    assert np.array_equal(again.projection("stem.0", "visual"), first)
    assert np.array_equal(again.projection("a.0", "visual"), second)
    assert np.array_equal(project_visuals(again, network, "a.0", method="pca"), second)
    with pytest.raises(ArtifactError, match="is missing"):
        again.projection("c.0", "visual")


def test_what_is_missing_is_said(with_visuals, network, bundle):
    with pytest.raises(DataError, match=r"12 of 12 filters of c\.0 have no feature visualisation in the bundle yet"):
        project_visuals(with_visuals, network, "c.0")
    with pytest.raises(ArtifactError, match="prepared from a model with other weights"):
        project_visuals(bundle, small_network("grouped"), "a.0")


def test_pixels_must_mean_inputs(copied, network):
    bundle = Bundle.open(copied)
    for index in range(8):
        bundle.keep_visual(Filter("a.0", index), Visual(np.zeros((3, 16, 16), np.uint8), 0, 0))
    with pytest.raises(DataError, match="does not know how pixels become inputs"):
        project_visuals(bundle, network, "a.0")
