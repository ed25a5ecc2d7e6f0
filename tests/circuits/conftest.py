"""A small network with a bundle of it, made once; a test that changes a bundle takes its own copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from neurochains.circuits import Bundle, prepare
from neurochains.data import Task
from neurochains.network import Network

from ..architectures import ARCHITECTURES, SHAPE

NAMES = ("tabby, tabby cat", "tiger", "<b>wolf</b>", "red fox", "dalmatian, coach dog")
SYNSETS = ("n00000001", "n00000002", "n00000003", "n00000004", "n00000005")


def small_network(kind: str = "residual") -> Network:
    torch.manual_seed(3)
    model = ARCHITECTURES[kind]().eval()
    return Network.trace(model, torch.zeros(1, *SHAPE))


def small_task(count: int = 12, classes: int = 3, seed: int = 0) -> Task:
    """Images of a few classes in turn, in unequal numbers: the last image is of class 0 again."""
    images = torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))
    labels = [index % classes for index in range(count - 1)] + [0]
    names = [f"set{label}/{index:02d}.png" for index, label in enumerate(labels)]
    return Task(images, labels, NAMES, names=names, synsets=SYNSETS)


@pytest.fixture(scope="session")
def network() -> Network:
    """Return the traced network."""
    return small_network()


@pytest.fixture(scope="session")
def task() -> Task:
    """Return its images."""
    return small_task()


@pytest.fixture(scope="session")
def prepared(network, task, tmp_path_factory) -> Path:
    """Return the folder of a bundle; none of the tests may change it."""
    return prepare(network, task, tmp_path_factory.mktemp("bundles") / "small", projection="pca").folder.place


@pytest.fixture
def bundle(prepared) -> Bundle:
    """Return the bundle, not to be changed."""
    return Bundle.open(prepared)


@pytest.fixture
def copied(prepared, tmp_path) -> Path:
    """Return the folder of a bundle of a test's own."""
    return Path(shutil.copytree(prepared, tmp_path / "bundle"))
