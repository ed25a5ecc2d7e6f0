"""Folded batch norms: fewer operations, the same outputs."""

from __future__ import annotations

import pytest
import torch
from tests.architectures import ARCHITECTURES, SHAPE, images, traced
from torch import nn

from neurochains.edit import CompactNetwork
from neurochains.edit.fold import fold_norms
from neurochains.network import Network

aten = torch.ops.aten


def norms(compact):
    return len(compact.graph.graph.find_nodes(op="call_function", target=aten.batch_norm.default))


def small(network, share=0.6):
    generator = torch.Generator().manual_seed(3)
    keep = {layer.name: torch.rand(layer.units, generator=generator) < share for layer in network.layers[:-1]}
    return CompactNetwork(network, keep)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_outputs_stay(name):
    compact = small(traced(name))
    before = compact(images())
    fold_norms(compact.graph)
    assert torch.allclose(compact(images()), before, rtol=1e-9, atol=1e-11)


def built(*parts):
    torch.manual_seed(1)
    module = nn.Sequential(*parts, nn.Flatten(), nn.LazyLinear(3)).double().eval()
    module(torch.randn(2, *SHAPE).double())
    for part in module:
        if isinstance(part, nn.BatchNorm2d) and part.track_running_stats:
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return Network.trace(module, torch.randn(2, *SHAPE).double())


@pytest.mark.parametrize(
    ("parts", "left"),
    [
        ((nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU()), 0),
        ((nn.Conv2d(3, 6, 3, 2, 1, 1, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU()), 0),
        ((nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, affine=False), nn.ReLU()), 0),
        ((nn.Conv2d(3, 5, 3), nn.ReLU(), nn.BatchNorm2d(5)), 1),
        ((nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3), nn.ReLU()), 1),
    ],
)
def test_only_what_a_convolution_feeds_is_folded(parts, left):
    network = built(*parts)
    compact = CompactNetwork(network, {})
    pixels = torch.randn(2, *SHAPE).double()
    before, held = compact(pixels), sum(1 for _ in compact.graph.buffers())
    assert norms(compact) == 1
    fold_norms(compact.graph)
    assert norms(compact) == left
    assert torch.allclose(compact(pixels), before)
    assert left or sum(1 for _ in compact.graph.buffers()) < held


def test_a_convolution_that_something_else_reads_is_left_alone():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)

        def forward(self, x):
            maps = self.conv(x)
            return self.head((self.norm(maps) + maps).relu().mean((2, 3)))

    network = Network.trace(Both().double().eval(), torch.randn(2, *SHAPE).double())
    compact = CompactNetwork(network, {})
    fold_norms(compact.graph)
    assert norms(compact) == 1
