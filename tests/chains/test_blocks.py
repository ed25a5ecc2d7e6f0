from __future__ import annotations

import pytest
import torch
from torch import nn

from neurochains.chains import OBJECTIVES
from neurochains.chains.blocks import skip_blocks
from neurochains.chains.budget import BudgetSettings, Search
from neurochains.chains.goal import Goal
from neurochains.chains.live import LiveNetwork
from neurochains.network import Network


class Residual(nn.Module):
    """Four residual blocks; what the second adds is nothing, and what the third adds hardly anything."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 6, 3, padding=1)) for _ in range(4)
        )
        self.fc = nn.Linear(6, 4)
        with torch.no_grad():
            for block, scale in zip(self.blocks, (4.0, 0.0, 0.01, 4.0), strict=True):
                block[0].weight.mul_(3)
                block[2].weight.mul_(scale)
                block[2].bias.mul_(scale)
            self.fc.weight.mul_(30)

    def forward(self, images):
        maps = torch.relu(self.stem(images))
        for block in self.blocks:
            maps = torch.relu(maps + block(maps))
        return self.fc(maps.mean((2, 3)))


FIXED = {"low": 1.0, "high": 1.0}
IMAGES = torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(3)) * 2


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(4)
    found = Network.trace(Residual().eval(), IMAGES)
    assert [block.name for block in found.blocks] == [f"blocks.{index}" for index in range(4)]
    return found


def make(network, goal, **settings) -> Search:
    live = LiveNetwork(network, IMAGES, OBJECTIVES["kl"], layers=network.scored())
    return Search(live, goal, BudgetSettings(**settings))


def test_blocks_that_add_nothing_are_left_out_and_their_filters_with_them(network):
    search = make(network, Goal(divergence=1e-3), **FIXED)
    assert skip_blocks(search) == ("blocks.1", "blocks.2")  # the cheapest first
    result = search.live.result()
    assert result.skipped == ("blocks.1", "blocks.2")
    assert result.kept == 6 + 2 * 11
    for name, values in result.units.items():
        assert bool(values.any()) != name.startswith(("blocks.1", "blocks.2"))
        assert values.unique().tolist() in ([0.0], [1.0])


def test_tuned_scores_spare_more_and_the_reserve_of_the_goal_is_kept(network):
    search = make(network, Goal(divergence=1e-6), **FIXED)
    assert skip_blocks(search) == ("blocks.1",)
    search = make(network, Goal(divergence=1e-6))
    assert len(skip_blocks(search)) > 1
    outputs = search.live.result().run(network, IMAGES)
    reached = float(OBJECTIVES["kl"](outputs, network(IMAGES)).mean())
    assert reached <= search.settings.reserve * 1e-6 * 1.01


def test_what_cannot_be_spared_is_put_back_bit_for_bit(network):
    search = make(network, Goal(divergence=-1.0))
    live = search.live
    before, outputs = live.save(), live.logits(live.scores)
    assert skip_blocks(search) == ()
    assert torch.equal(live.alive, before.alive)
    assert torch.equal(live.scores, before.scores)
    assert torch.equal(live.logits(live.scores), outputs)


def test_no_more_is_left_out_than_the_asked_for_size_allows(network):
    assert skip_blocks(make(network, Goal(least=28), **FIXED)) == ("blocks.1", "blocks.2")
    assert skip_blocks(make(network, Goal(least=29), **FIXED)) == ("blocks.1",)
    assert skip_blocks(make(network, Goal(least=45), **FIXED)) == ()


def test_the_search_ends_after_some_failures_in_a_row(network):
    assert skip_blocks(make(network, Goal(divergence=1e-4)), patience=0) == ()
    tried = []
    search = make(network, Goal(divergence=-1.0))
    search.polish = lambda steps: tried.append(steps) or 1.0
    skip_blocks(search, polish=7, patience=2)
    assert tried == [7, 7]


def test_a_network_without_blocks_has_none_to_leave_out(planted_flat):
    search = Search(planted_flat, Goal(divergence=1.0), BudgetSettings())
    assert skip_blocks(search) == ()


@pytest.fixture
def planted_flat() -> LiveNetwork:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()
    network = Network.trace(model, IMAGES)
    assert network.blocks == ()
    return LiveNetwork(network, IMAGES, OBJECTIVES["kl"], layers=network.scored())
