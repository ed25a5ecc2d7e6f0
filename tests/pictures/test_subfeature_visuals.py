from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from neurochains.circuits import SubFeatures, subfeatures
from neurochains.data import Task, shapes
from neurochains.edit import tap
from neurochains.errors import ModelError, SettingsError
from neurochains.network import Network, load_model
from neurochains.pictures import visualise_subfeatures


@pytest.fixture(scope="module")
def network() -> Network:
    return Network.trace(load_model("shapes:vgg"), Task.shapes(1).images)


@pytest.fixture(scope="module")
def found(network) -> SubFeatures:
    pytest.importorskip("sklearn")
    return subfeatures(network, Task.shapes(160), "L18_56", patches=90, draws=1)


def test_each_picture_is_drawn_to_its_own_cluster(network, found):
    painted = visualise_subfeatures(network, found, steps=120)
    count = found.clusters
    assert count > 1
    assert painted.images.shape == (count, 3, 64, 64)
    assert painted.likeness.argmax(1).tolist() == list(range(count))
    plain = visualise_subfeatures(network, found, steps=120, strength=0.0)
    assert torch.equal(plain.images[0], plain.images[1])
    assert (painted.likeness.diagonal() > plain.likeness.diagonal()).all()
    assert float(plain.values[0]) > float(painted.values.max())


def test_what_is_measured_is_what_the_network_says(network, found):
    painted = visualise_subfeatures(network, found, steps=3)
    maps = tap(network, ["features.18"])(shapes.PREPROCESS.normalise(painted.images))[1]["features.18"]
    here = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
    torch.testing.assert_close(painted.values, here[:, 56], rtol=1e-4, atol=1e-5)
    others = torch.cat([here[:, :56], here[:, 57:]], 1).clamp(min=0)
    centres = torch.stack([found.centre(cluster) for cluster in range(found.clusters)])
    wanted = torch.nn.functional.normalize(others, dim=1) @ centres.T
    torch.testing.assert_close(painted.likeness, wanted, rtol=1e-4, atol=1e-5)


def test_what_watches_is_told_each_step_and_can_end_the_painting(network, found):
    steps: list[int] = []

    def watch(step):
        steps.append(step)
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        visualise_subfeatures(network, found, steps=40, watch=watch)
    assert steps == [1, 2, 3, 4, 5]


def test_without_clusters_there_is_no_picture(network, found):
    none = replace(found, labels=torch.full_like(found.labels, -1), circuits=(), mixed=torch.zeros(0))
    assert len(visualise_subfeatures(network, none).images) == 0


def test_bad_input(network, found):
    with pytest.raises(SettingsError, match="0 or more; got -1"):
        visualise_subfeatures(network, found, strength=-1)
    other = replace(found, provenance={"model": {"digest": "abc"}})
    with pytest.raises(ModelError, match="other weights: their digest is abc"):
        visualise_subfeatures(network, other)
    nameless = Network.trace(
        torch.nn.Sequential(torch.nn.Conv2d(3, 96, 3), torch.nn.Flatten()), torch.zeros(1, 3, 8, 8)
    )
    with pytest.raises(SettingsError, match=r"does not say how its pixels are normalised\. Pass mean= and std="):
        visualise_subfeatures(nameless, replace(found, provenance={}))
