"""A small bundle with its network and two chains, and a desk of them, made once; a test that writes takes a copy."""

from __future__ import annotations

import shutil

import pytest
import torch

from neurochains.chains import Chain, Scores
from neurochains.circuits import Bundle, prepare
from neurochains.data import Task
from neurochains.network import Network

from ..architectures import ARCHITECTURES, SHAPE

pytest.importorskip("dash_mantine_components", reason="the extra 'explorer' is not installed")

NAMES = ("tabby, tabby cat", "tiger", "<b>wolf</b>", "red fox", "dalmatian, coach dog")


@pytest.fixture(scope="session")
def network():
    torch.manual_seed(3)
    return Network.trace(ARCHITECTURES["residual"]().eval(), torch.zeros(1, *SHAPE))


@pytest.fixture(scope="session")
def task():
    pixels = torch.randint(0, 256, (12, *SHAPE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = [index % 3 for index in range(12)]
    names = [f"set{label}/{index:02d}.png" for index, label in enumerate(labels)]
    return Task((pixels.float() / 255 - 0.5) / 0.5, labels, NAMES, names=names, pixels=pixels)


@pytest.fixture(scope="session")
def prepared(network, task, tmp_path_factory):
    from neurochains.preprocess import Preprocess

    half = (0.5,) * SHAPE[0]
    how = Preprocess(SHAPE[1:], half, half)
    place = tmp_path_factory.mktemp("bundles") / "small"
    return prepare(network, task, place, projection="pca", preprocess=how).folder.place


@pytest.fixture(scope="session")
def chains(network, task):
    made = []
    for seed in (0, 1):
        dice = torch.Generator().manual_seed(seed)
        units = {layer.name: (torch.rand(layer.units, generator=dice) > 0.4).float() for layer in network.scored()}
        made.append(Chain(network, task, Scores(units), metrics={"kl": 0.25}))
    return made


@pytest.fixture
def desk(prepared, network, chains):
    from neurochains.explorer.desk import Desk

    return Desk(Bundle.open(prepared), model=network, chains=chains)


@pytest.fixture
def own_desk(prepared, network, tmp_path):
    from neurochains.explorer.desk import Desk

    return Desk(Bundle.open(shutil.copytree(prepared, tmp_path / "bundle")), model=network)
