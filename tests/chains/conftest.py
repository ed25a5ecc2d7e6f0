"""Small networks with every kind of edge between filters, and tasks for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurochains.chains import Scores
from neurochains.data import Task
from neurochains.network import Network


class Mixed(nn.Module):
    """A residual block, a depthwise and a grouped convolution, squeeze-and-excitation, a concatenation, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.squeeze, self.excite = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)
        self.grouped = nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2)
        self.side = nn.Conv2d(6, 4, 1)
        self.last = nn.Conv2d(12, 5, 3)
        self.fc = nn.Linear(5, 3)
        nn.init.constant_(self.last.bias, 0.3)  # alive, whatever is removed before
        for norm in (self.norm1, self.norm2):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.uniform_(norm.running_mean, -0.2, 0.2)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.stem(images))
        maps = torch.relu(self.norm1(self.conv1(maps)) + maps)
        inner = F.relu6(self.norm2(self.depthwise(maps)))
        inner = inner * torch.sigmoid(self.excite(torch.relu(self.squeeze(F.adaptive_avg_pool2d(inner, 1)))))
        maps = torch.cat([F.silu(self.grouped(maps + inner)), F.max_pool2d(self.side(maps), 2)], 1)
        return self.fc(F.adaptive_avg_pool2d(torch.relu(self.last(maps)), 1).flatten(1))


class Plain(nn.Module):
    """Three convolutions of 8 filters, pooling and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.conv3 = nn.Conv2d(8, 8, 3, padding=1)
        self.hidden = nn.Linear(32, 12)
        self.fc = nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(torch.relu(self.conv1(images)), 2)
        maps = F.max_pool2d(torch.relu(self.conv2(maps)), 2)
        maps = F.adaptive_avg_pool2d(torch.relu(self.conv3(maps)), 2)
        return self.fc(torch.relu(self.hidden(maps.flatten(1))))


def stripes(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy images of horizontal stripes, vertical stripes and checkers, and which they are."""
    dice = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    phase = torch.randint(0, 4, (count, 2), generator=dice)
    across = ((torch.arange(12)[None] + phase[:, :1]) // 2 % 2).float() * 2 - 1
    down = ((torch.arange(12)[None] + phase[:, 1:]) // 2 % 2).float() * 2 - 1
    kinds = torch.stack([across[:, :, None].expand(-1, 12, 12), down[:, None].expand(-1, 12, 12),
                         across[:, :, None] * down[:, None]], 1)  # fmt: skip
    clean = kinds[torch.arange(count), labels]
    return (clean + 0.7 * torch.randn(clean.shape, generator=dice))[:, None], labels


@pytest.fixture(scope="session")
def mixed() -> Network:
    torch.manual_seed(0)
    return Network.trace(Mixed().eval(), torch.randn(2, 3, 12, 12))


@pytest.fixture
def mixed_task() -> Task:
    dice = torch.Generator().manual_seed(1)
    return Task(torch.randn(6, 3, 12, 12, generator=dice), torch.tensor([0, 2, 0, 2, 0, -1]), ["ant", "bee", "cat"])


@pytest.fixture(scope="session")
def stripes_model() -> nn.Module:
    """Return a network that was trained to tell stripes apart; 95 % right or more."""
    torch.manual_seed(0)
    model = Plain()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for step in range(120):
        images, labels = stripes(48, seed=step)
        optimiser.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimiser.step()
    model.eval().requires_grad_(False)
    images, labels = stripes(300, seed=1000)
    assert (model(images).argmax(1) == labels).float().mean() > 0.95
    return model


@pytest.fixture
def stripes_task() -> Task:
    images, labels = stripes(18, seed=1001)
    held, held_labels = stripes(6, seed=1002)
    names = ["across", "down", "checkers"]
    return Task(images, labels, names, held_out=Task(held, held_labels, names))


@pytest.fixture
def striped(stripes_model: nn.Module, stripes_task: Task) -> Network:
    return Network.trace(stripes_model, stripes_task.images)


@pytest.fixture
def draw_scores() -> Callable[..., Scores]:
    """Return the function that keeps a share of the filters of a network by chance, with scores between .5 and 1.5."""

    def draw(network: Network, share: float = 0.6, seed: int = 0) -> Scores:
        dice = torch.Generator().manual_seed(seed)
        units = {}
        for layer in network.scored():
            chance, values = torch.rand(2, layer.units, generator=dice)
            units[layer.name] = (chance <= max(share, float(chance.min()))) * (0.5 + values)
        return Scores(units)

    return draw
