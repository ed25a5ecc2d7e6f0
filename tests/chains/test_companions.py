from __future__ import annotations

import pytest
import torch
from torch import nn

from neurochains.chains.companions import Companions
from neurochains.network import Filter, Network


class Streams(nn.Module):
    """Two convolutions that are added up, a depthwise one behind them, and one that stands alone."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.alone = nn.Conv2d(4, 5, 1)
        self.fc = nn.Linear(5, 2)

    def forward(self, images):
        maps = torch.relu(self.depthwise(torch.relu(self.left(images) + self.right(images))))
        return self.fc(torch.relu(self.alone(maps)).mean((2, 3)))


@pytest.fixture(scope="module")
def streams() -> Network:
    return Network.trace(Streams().eval(), torch.zeros(2, 3, 6, 6))


def joined(network: Network, *units: Filter) -> set[Filter]:
    layers = network.scored()
    every = [Filter(layer.name, index) for layer in layers for index in range(layer.units)]
    alive = torch.tensor(sorted(every.index(unit) for unit in units), dtype=torch.int64)
    return {every[place] for place in Companions(network, layers).join(alive).tolist()}


def test_what_is_added_up_and_what_a_depthwise_unit_reads_stay_together(streams):
    left, right, depthwise = ([Filter(name, index) for index in (0, 2)] for name in ("left", "right", "depthwise"))
    whole = {*left, *right, *depthwise}
    assert joined(streams, *left, right[0], depthwise[1]) == whole
    assert joined(streams, left[0], right[1], *depthwise) == whole


def test_a_layer_of_which_little_lives_keeps_no_company(streams):
    others = [Filter(name, index) for name in ("left", "depthwise") for index in (0, 1, 2)]
    found = joined(streams, *others, Filter("right", 3))
    assert {unit for unit in found if unit.layer == "right"} == {Filter("right", 3)}
    assert set(others) <= found


def test_a_unit_that_shares_no_channel_stands_alone(streams):
    assert joined(streams, Filter("alone", 3)) == {Filter("alone", 3)}
    assert joined(streams) == set()


def test_joining_what_is_joined_adds_nothing(mixed):
    layers = mixed.scored()
    companions = Companions(mixed, layers)
    total = sum(layer.units for layer in layers)
    for seed in range(5):
        alive = torch.rand(total, generator=torch.Generator().manual_seed(seed)) < 0.2
        once = companions.join(alive.nonzero().flatten())
        assert set(alive.nonzero().flatten().tolist()) <= set(once.tolist())
        assert torch.equal(companions.join(once), once)
