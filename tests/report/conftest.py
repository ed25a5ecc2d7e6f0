"""Small chains to report: built by hand, on the bundled network and on networks without classes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import neurochains as nc
from neurochains.chains import Chain, Scores
from neurochains.data import Task
from neurochains.measures import leave_one_out, map_sizes, measure_chain
from neurochains.network import Network
from neurochains.report import Report, collect

CLASSES = [0, 5]


def largest(network: Network, images: torch.Tensor, share: float) -> Scores:
    """Keep the units with the largest maps of each layer, with scores from .5 up."""
    layers = network.scored()
    sizes = map_sizes(network, images, layers)
    units = {}
    for layer in layers:
        kept = max(1, round(share * layer.units))
        units[layer.name] = torch.zeros(layer.units)
        units[layer.name][sizes[layer.name].topk(kept).indices] = torch.linspace(0.5, 1.5, kept)
    return Scores(units)


def chain_of(name: str = "shapes:vgg", *, images: int = 4, held_out: int = 0, share: float = 0.15, **settings) -> Chain:
    """Return a chain of two classes of the shapes data."""
    held = Task.shapes(held_out, seed=1, classes=CLASSES) if held_out else None
    drawn = Task.shapes(images, classes=CLASSES)
    task = Task(drawn.images, drawn.labels, drawn.class_names, names=drawn.names, pixels=drawn.pixels, held_out=held)
    network = Network.trace(nc.load_model(name), task.images[:1])
    scores = largest(network, task.images, share)
    metrics = measure_chain(network, task, scores, controls=False, seconds=False)
    left_out = leave_one_out(network, task.images, scores).divergence
    return Chain(network, task, scores, {"fidelity": 0.05, "seed": 0, **settings}, metrics, left_out)


class Depth(nn.Module):
    """A network with two values as its output: no classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.first(images).relu()).relu().mean((2, 3)))


@pytest.fixture(scope="session")
def chain() -> Chain:
    """Return a chain with held-out images and one made-up control."""
    made = chain_of(held_out=2)
    worse = {**made.metrics, "kl": 2.5, "divergence": 2.5, "agreement": 0.0}
    made.metrics["controls"] = {"random": worse, "complement": {**worse, "kl": 3.0, "divergence": 3.0}}
    return made


@pytest.fixture(scope="session")
def report(chain: Chain) -> Report:
    """Return the content of its report, with one further image."""
    return collect(chain, also=Task.shapes(1, seed=7, classes=[1]), visual_steps=2, paths_per_class=2)


@pytest.fixture(scope="session")
def alone() -> Chain:
    """Return a chain of one image, without held-out images."""
    return chain_of(images=1)


@pytest.fixture(scope="session")
def values() -> Chain:
    """Return a chain of a network whose outputs are no classes."""
    torch.manual_seed(0)
    images = torch.randn(4, 3, 16, 16)
    network = Network.trace(Depth().eval(), images[:1])
    return Chain(network, Task(images), largest(network, images, 0.5), {"objective": "mse"})


@pytest.fixture(scope="session")
def make_chain() -> Callable[..., Chain]:
    return chain_of
