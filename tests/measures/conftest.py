"""A small network with all that matters to measures, a task with held-out images, and a sub-network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurochains.chains.scores import Scores
from neurochains.data.task import Task
from neurochains.network.network import Network


class Small(nn.Module):
    """A stem, a block that may be skipped, an inverted residual with a stride, and four classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.inner, self.outer = nn.Conv2d(8, 10, 3, padding=1), nn.Conv2d(10, 8, 3, padding=1)
        self.expand, self.depthwise = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 16, 3, 2, 1, groups=16)
        self.project, self.head = nn.Conv2d(16, 12, 1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.outer(F.relu(self.inner(x))))
        x = self.project(F.relu6(self.depthwise(F.relu6(self.expand(x)))))
        return self.head(x.mean((2, 3))) * 8


@pytest.fixture(scope="session")
def network() -> Network:
    torch.manual_seed(3)
    return Network.trace(Small().eval().requires_grad_(False), torch.randn(2, 3, 8, 8))


@pytest.fixture(scope="session")
def task() -> Task:
    torch.manual_seed(4)
    held = Task(torch.randn(5, 3, 8, 8), torch.tensor([0, 1, 2, 3, -1]))
    return Task(torch.randn(6, 3, 8, 8), torch.tensor([0, 1, 2, 3, -1, 0]), held_out=held)


@pytest.fixture(scope="session")
def whole(network) -> Scores:
    return Scores.ones(network.scored())


@pytest.fixture(scope="session")
def scores(network) -> Scores:
    """About a third of the filters, two to four of each layer, with scores between 0.5 and 1.5."""
    generator = torch.Generator().manual_seed(5)
    units = {}
    for place, layer in enumerate(network.scored()):
        kept = torch.randperm(layer.units, generator=generator)[: 2 + place % 3]
        units[layer.name] = torch.zeros(layer.units)
        units[layer.name][kept] = 0.5 + torch.rand(len(kept), generator=generator)
    return Scores(units)
