"""Small decoupled networks whose gates really open and shut, and images to train on."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from tests import architectures
from torch import Tensor, nn

from neurochains.decoupling import Decoupled, decouple

CONTROLLED = sorted(
    set(architectures.ARCHITECTURES) - {"tokens", "tokens first", "windows", "mlp"}
)  # those have no convolution that reads four channels


@functools.lru_cache
def _made(name: str) -> Decoupled:
    torch.manual_seed(1)
    return moody(decouple(architectures.build(name), architectures.images(2)))


def moody(decoupled: Decoupled) -> Decoupled:
    """Give the controllers weights that open about half of the filters, others for each image."""
    for controller in decoupled.controllers.values():
        for linear in (controller.squeeze, controller.expand):
            nn.init.normal_(linear.weight, std=2.0)
            nn.init.normal_(linear.bias, std=0.3)
    return decoupled


def gated(name: str) -> Decoupled:
    return copy.deepcopy(_made(name))


class Tiny(nn.Module):
    """Two convolutions with batch norm behind a stem, on 12 x 12 images of 3 classes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.conv1, self.bn1 = nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.bn2(self.conv2(y)) + x).mean((2, 3)))


@pytest.fixture
def tiny() -> Tiny:
    torch.manual_seed(0)
    return Tiny().eval().requires_grad_(False)


@pytest.fixture
def coloured() -> tuple[Tensor, Tensor]:
    """Return 48 images whose class is the channel that is bright."""
    torch.manual_seed(3)
    labels = torch.arange(48) % 3
    images = torch.randn(48, 3, 12, 12) * 0.5
    images[torch.arange(48), labels] += 1.0
    return images, labels
