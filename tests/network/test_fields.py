"""Receptive fields against gradients: with positive weights, a pixel counts where its gradient is not 0."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurochains.edit import tap
from neurochains.network import Network

SIDE = 41


class Function(nn.Module):
    """A chain of modules and functions, with a head that keeps everything alive."""

    def __init__(self, *parts):
        super().__init__()
        self.parts = nn.ModuleList(part if isinstance(part, nn.Module) else Call(part) for part in parts)

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x.mean((2, 3))


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Sum(nn.Module):
    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return sum(branch(x) for branch in self.branches)


def conv(kernel, **options):
    return nn.Conv2d(2, 2, kernel, **options)


def channels_last(module):
    return nn.Sequential(Call(lambda x: x.permute(0, 2, 3, 1)), module, Call(lambda x: x.permute(0, 3, 1, 2)))


EXACT = {
    "plain": (conv(3, padding=1), conv(3)),
    "strided": (conv(5, stride=2, padding=2), conv(3, stride=2), conv((1, 3), padding=(0, 1))),
    "dilated": (conv(3, dilation=2), conv(3, dilation=(1, 3), padding="same")),
    "pooled": (conv(3), nn.AvgPool2d(2), conv(3), nn.AvgPool2d(3, 2), conv(1)),
    "padded": (Call(lambda x: F.pad(x, (2, 0, 1, 0))), conv(3, stride=2), Call(lambda x: x[:, :, 1:, ::2]), conv(3)),
    "residual": (Sum(conv(3, padding=1), nn.Identity()), conv(3, stride=2)),
    "branches": (Sum(conv(3, padding=1), conv(7, padding=3)), conv(3)),
    "rescaled": (conv(3), Call(lambda x: x * x.detach().mean((2, 3), keepdim=True)), conv(3)),
    "channels last": (conv(3), channels_last(nn.Linear(2, 2)), conv(3)),
}
WIDER = {
    "nearest": (conv(3, stride=2), nn.Upsample(scale_factor=2), conv(3)),
    "bilinear": (conv(3, stride=2), nn.Upsample(scale_factor=2, mode="bilinear"), conv(3)),
    "reflected": (Call(lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect")), conv(3)),
    "global": (conv(3), Call(lambda x: x + x.mean((2, 3), keepdim=True)), conv(3)),
    "transposed": (conv(3), Call(lambda x: x.transpose(2, 3)), conv(3)),
}


def positive(parts):
    model = Function(*parts).eval()
    for parameter in model.parameters():
        nn.init.uniform_(parameter, 0.1, 1.0)
    return Network.trace(model, torch.rand(1, 2, SIDE, SIDE))


def last_layer(network):
    return [layer for layer in network.layers if layer.kind == "conv"][-1]


def touched(network, layer, row, column):
    """The box of input pixels with a gradient."""
    x = torch.rand(1, 2, SIDE, SIDE, requires_grad=True)
    tap(network, [layer.name])(x)[1][layer.name][0, :, row, column].sum().backward()
    rows, columns = (x.grad[0].sum(0).abs().sum(axis).nonzero().flatten() for axis in (1, 0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def positions(layer):
    height, width = layer.map_size
    return [(0, 0), (height // 2, width // 2), (height - 1, width - 1), (1, width // 3)]


@pytest.mark.parametrize("name", EXACT)
def test_the_box_is_where_gradients_are(name):
    network = positive(EXACT[name])
    layer = last_layer(network)
    field = network.receptive_field(layer.name)
    for row, column in positions(layer):
        assert field.box(row, column) == touched(network, layer, row, column)


@pytest.mark.parametrize("name", WIDER)
def test_the_box_holds_all_gradients(name):
    network = positive(WIDER[name])
    layer = last_layer(network)
    for row, column in positions(layer):
        top, left, bottom, right = network.receptive_field(layer.name).box(row, column)
        seen = touched(network, layer, row, column)
        assert top <= seen[0]
        assert left <= seen[1]
        assert bottom >= seen[2]
        assert right >= seen[3]


def test_sizes_are_those_of_the_textbook():
    network = positive((conv(7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1), conv(3, padding=1), conv(3, padding=1)))
    assert [network.receptive_field(layer.name).size for layer in network.layers] == [(7, 7), (19, 19), (27, 27)]


def test_behind_attention_and_flattening_everything_is_seen():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(2 * 14 * 14, 5)).eval()
    network = Network.trace(model, torch.rand(1, 3, 16, 16))
    field = network.receptive_field("2")
    assert field.size == (16, 16)
    assert field.box(0, 0) == (0, 0, 16, 16)
