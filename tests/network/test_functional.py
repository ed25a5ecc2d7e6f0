"""In-place operations as functional ones: renamed where memory is not shared, left alone where it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from neurochains.network import Network
from neurochains.network.functional import drop_without_effect, is_functional, make_functional


def twice(x):
    return F.relu_(x + 1).mul_(2).add_(x)


def view_before_read_after(x):
    y = x + 1
    part = y[:, :2]
    y.mul_(3)
    return y + part.sum()


def view_before_not_read_after(x):
    y = x + 1
    total = y[:, :2].sum()
    y.mul_(3)
    return y + total


def view_written(x):
    y = x + 1
    y[:, 1:].neg_()
    return y


def view_of_view(x):
    y = x + 1
    part = y.view(-1, 4, 1)[:, 1:]
    y.add_(1)
    return y + part.sum()


def argument_written(x):
    return x.mul_(2) + x


def dropout_then_written(x):
    y = x + 1
    z = F.dropout(y, 0.5, training=False)
    z.mul_(2)
    return y + z


CASES = {
    twice: True,
    view_before_read_after: False,
    view_before_not_read_after: True,
    view_written: False,
    view_of_view: False,
    argument_written: True,
    dropout_then_written: True,
}


class Model(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function, self.head = function, nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.function(x))


def exported(function):
    x = torch.randn(2, 4)
    return torch.export.export(Model(function), (x,), strict=False)


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_the_traced_network_computes_the_same(function):
    model = Model(function).eval()
    network, x = Network.trace(model, torch.randn(2, 4)), torch.randn(3, 4)
    assert torch.equal(network(x.clone()), model(x.clone()))


@pytest.mark.parametrize("function", CASES, ids=lambda function: function.__name__)
def test_only_what_owns_its_memory_is_renamed(function):
    graph = exported(function).graph
    drop_without_effect(graph)
    make_functional(graph)
    assert is_functional(graph) == CASES[function]
