"""MACs and parameters against the formulas of single layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from neurochains.edit import compact
from neurochains.errors import DataError, SettingsError
from neurochains.network import Costs, Network, measure_costs, measure_seconds


def model():
    filters = (nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))
    return nn.Sequential(*filters, nn.Flatten(), nn.Linear(288, 5)).eval()


MACS = 8 * 8 * 8 * 3 * 9 + 6 * 6 * 8 * 9 + 288 * 5
PARAMETERS = (3 * 9 * 8 + 8) + 16 + (9 * 8 + 8) + (288 * 5 + 5)


def test_a_module_costs_what_the_formula_says_for_each_image():
    assert measure_costs(model(), torch.randn(1, 3, 8, 8)) == Costs(MACS, PARAMETERS)
    assert measure_costs(model(), torch.randn(4, 3, 8, 8)) == Costs(MACS, PARAMETERS)


def test_a_traced_network_costs_what_its_model_costs():
    assert Network.trace(model(), torch.randn(1, 3, 8, 8)).costs() == Costs(MACS, PARAMETERS)


def test_a_sub_network_costs_what_is_kept():
    network = Network.trace(model(), torch.randn(1, 3, 8, 8))
    small = compact(network, {"0": torch.tensor([1, 4]), "3": torch.tensor([1, 4])})
    macs = 2 * 64 * 3 * 9 + 2 * 36 * 9 + 2 * 36 * 5
    parameters = 2 * (3 * 9 + 1) + 4 + 2 * 10 + (2 * 36 * 5 + 5)
    assert measure_costs(small, torch.randn(2, 3, 8, 8)) == Costs(macs, parameters)


def test_a_weight_that_is_used_twice_counts_once():
    shared = nn.Linear(4, 4)
    network = Network.trace(nn.Sequential(shared, shared).eval(), torch.randn(1, 4))
    assert network.costs() == Costs(32, 20)


def test_seconds_are_the_median_of_some_passes():
    calls = []

    class Counting(nn.Module):
        def forward(self, x):
            calls.append(torch.is_grad_enabled())
            return x

    assert 0 <= measure_seconds(Counting(), torch.randn(1, 3), repeats=3) < 1
    assert calls == [False] * 4


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(SettingsError, match="repeats must be at least 1; got 0"):
        measure_seconds(model(), torch.randn(1, 3, 8, 8), repeats=0)
    with pytest.raises(DataError, match="at least one image"):
        measure_costs(model(), torch.randn(0, 3, 8, 8))
