from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from neurochains.chains import OBJECTIVES, Scores
from neurochains.chains.budget import BudgetSettings, Search
from neurochains.chains.certificate import certify
from neurochains.chains.goal import Goal
from neurochains.chains.live import LiveNetwork
from neurochains.network import Filter, Network

KL = OBJECTIVES["kl"]
BINARY, UNIT = {"low": 1.0, "high": 1.0}, {"high": 1.0}


class Planted(nn.Module):
    """12 filters: 6 of different worth, 3 that nothing reads, and copies of the first 3 that are read twice as much."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 12, 3), nn.Linear(12, 4)
        with torch.no_grad():
            self.fc.weight.mul_(40)
            self.fc.weight[:, 6:9] = 0
            self.conv.weight[9:] = self.conv.weight[:3]
            self.conv.bias[9:] = self.conv.bias[:3]
            self.fc.weight[:, 9:] = 2 * self.fc.weight[:, :3]

    def forward(self, images):
        return self.fc(torch.relu(self.conv(images)).mean((2, 3)))


def make(network, images) -> LiveNetwork:
    return LiveNetwork(network, images, KL, layers=network.scored())


def search(network, images, goal, *, seed=0, report=None, **settings) -> Search:
    found = Search(make(network, images), goal, BudgetSettings(**settings), seed=seed, report=report)
    found.run()
    return found


def divergence(network, images, scores) -> float:
    """The mean KL, measured at full width in float64."""
    sub, original = scores.run(network, images).double(), network(images).double()
    return float(KL(sub, original).mean())


def agreement(network, images, scores) -> float:
    return float((scores.run(network, images).argmax(1) == network(images).argmax(1)).double().mean())


@pytest.fixture(scope="module")
def planted() -> tuple[Network, torch.Tensor]:
    torch.manual_seed(1)
    images = torch.randn(40, 1, 3, 3)  # as large as a filter: each image excites each filter by another amount
    return Network.trace(Planted().eval(), images), images


@pytest.fixture
def images(stripes_task) -> torch.Tensor:
    return stripes_task.images


def test_what_nothing_reads_goes_and_copies_are_merged(planted):
    network, images = planted
    live = search(network, images, Goal(divergence=1e-3)).live
    values = live.result().units["conv"]
    assert len(live) == 6
    assert not values[6:9].any()
    for first, weight in ((0, 3.0), (1, 3.0), (2, 3.0)):
        one, other = float(values[first]), float(values[first + 9])
        assert (one == 0) != (other == 0)
        assert one + 2 * other == pytest.approx(weight, rel=0.05)  # what is left does the work of both
    assert values[3:6].tolist() == pytest.approx([1.0] * 3, rel=0.05)
    assert divergence(network, images, live.result()) <= 1e-3


def test_the_first_to_go_are_those_that_nothing_reads(planted):
    live = search(*planted, Goal(least=9)).live
    assert live.alive.tolist() == [0, 1, 2, 3, 4, 5, 9, 10, 11]


@pytest.mark.parametrize("limit", [1e-3, 0.05, 0.5])
@pytest.mark.parametrize("scores", [{}, UNIT, BINARY], ids=["unbounded", "unit", "binary"])
def test_the_fidelity_is_kept_and_no_single_filter_is_to_spare(striped, images, limit, scores):
    found = search(striped, images, Goal(divergence=limit), **scores)
    table = certify(found.live, found.goal)
    result = found.live.result()
    assert 0 < result.kept < 24
    assert divergence(striped, images, result) <= limit * (1 + 1e-4)
    for unit in result.list_filters():
        literal = divergence(striped, images, result.without(unit))
        assert literal > limit
        assert float(table[unit.layer][unit.index]) == pytest.approx(literal, rel=1e-3)
    for name, values in result.units.items():
        assert torch.equal(table[name].isnan(), values == 0)


def test_a_larger_budget_takes_fewer_filters(striped, images):
    sizes = [len(search(striped, images, Goal(divergence=limit)).live) for limit in (1e-6, 0.01, 1.0)]
    assert sizes[0] > sizes[-1]
    assert sizes == sorted(sizes, reverse=True)


def test_compensation_keeps_more_than_removal_alone(striped, images):
    goal = Goal(divergence=0.05)
    assert len(search(striped, images, goal).live) < len(search(striped, images, goal, **BINARY).live)


def test_scores_stay_in_their_range(striped, images):
    for settings, low, high in (({}, 1e-3, math.inf), (UNIT, 1e-3, 1.0), (BINARY, 1.0, 1.0)):
        found = search(striped, images, Goal(divergence=0.05), **settings)
        found.polish(3)
        assert (found.live.scores >= low).all()
        assert (found.live.scores <= high).all()
        assert found.tunable == (low < high)
        if found.tunable:
            assert len(found.live.scores.unique()) > 1


@pytest.mark.parametrize("size", [1, 2, 7, 23, 24])
def test_a_size_is_met_exactly(striped, images, size):
    found = search(striped, images, Goal(least=size))
    certify(found.live, found.goal)
    assert len(found.live) == found.live.result().kept == size


@pytest.mark.parametrize("share", [1.0, 0.8])
def test_an_agreement_is_kept(striped, images, share):
    found = search(striped, images, Goal(agreement=share))
    certify(found.live, found.goal)
    result = found.live.result()
    assert agreement(striped, images, result) >= share
    assert result.kept < 24


def test_no_single_filter_is_to_spare_for_an_agreement(striped, images):
    live, goal = make(striped, images), Goal(agreement=1.0)
    certify(live, goal)
    result = live.result()
    assert agreement(striped, images, result) == 1
    assert all(agreement(striped, images, result.without(unit)) < 1 for unit in result.list_filters())


class Undecided(nn.Module):
    """12 filters that decide one close case each, and two that are both sure of another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(14, 14, 1, bias=False), nn.Linear(14, 2)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(14)[:, :, None, None])
            self.fc.weight.copy_(torch.tensor([[0.02] * 12 + [5.0] * 2, [0.0] * 14]))
            self.fc.bias.copy_(torch.tensor([0.0, 0.01]))

    def forward(self, images):
        return self.fc(torch.relu(self.conv(images)).flatten(1))


def test_for_an_agreement_every_filter_is_tried():
    """What costs much divergence may still go, behind many that cost little and may not."""
    images = torch.cat([torch.eye(14)[:12], torch.tensor([[0.0] * 12 + [1.0] * 2])])[:, :, None, None]
    live = make(Network.trace(Undecided().eval(), images), images)
    certify(live, Goal(agreement=1.0))
    assert len(live) == 13
    assert live.result().units["conv"][:12].tolist() == [1.0] * 12


def test_certification_alone_reaches_a_1_minimal_network(striped, images):
    """Without any search before it there are many rounds to go."""
    live, goal = make(striped, images), Goal(divergence=0.2)
    table = certify(live, goal)
    result = live.result()
    assert divergence(striped, images, result) <= 0.2
    assert all(divergence(striped, images, result.without(unit)) > 0.2 for unit in result.list_filters())
    assert min(float(values[~values.isnan()].min()) for values in table.values() if len(values)) > 0.2
    assert torch.equal(torch.cat(list(result.units.values())).unique(), torch.tensor([0.0, 1.0]))


def test_a_network_that_cannot_spare_anything_stays_whole():
    images, model = (
        torch.randn(40, 1, 3, 3),
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 4)),
    )
    model[3].weight.data.mul_(40)
    found = search(Network.trace(model.eval(), images), images, Goal(divergence=1e-6))
    assert found.live.result().units["0"].tolist() == [1.0] * 3
    assert not any(entry.kept for entry in found.history)


def test_a_sub_network_that_dies_does_not_end_the_search(striped, images):
    """Above the divergence of a constant answer everything may go but the last unit."""
    assert len(search(striped, images, Goal(divergence=50.0)).live) == 1


@pytest.mark.parametrize("goal", [Goal(divergence=0.05), Goal(least=5), Goal(agreement=0.9)])
def test_one_seed_gives_one_result_bit_for_bit(striped, images, goal):
    one, other = (search(striped, images, goal, seed=3, rows=2) for _ in range(2))
    tables = [certify(found.live, goal) for found in (one, other)]
    assert torch.equal(one.live.alive, other.live.alive)
    assert torch.equal(one.live.scores, other.live.scores)
    assert all(torch.equal(values.nan_to_num(), tables[1][name].nan_to_num()) for name, values in tables[0].items())
    timeless = [[replace(entry, seconds=0.0) for entry in found.history] for found in (one, other)]
    assert timeless[0] == timeless[1]
    assert one.runs == other.runs


def test_the_history_tells_what_was_kept(striped, images):
    reports = []
    goal = Goal(divergence=0.05)
    found = search(striped, images, goal, report=reports.append)
    assert reports == found.history
    assert [entry.step for entry in reports] == list(range(1, len(reports) + 1))
    kept = [entry for entry in reports if entry.kept]
    assert all(entry.divergence <= 0.05 for entry in kept)
    assert all(entry.divergence > 0.05 for entry in reports if not entry.kept)
    sizes = [24, *(entry.filters for entry in kept)]
    assert all(after < before for before, after in itertools.pairwise(sizes))
    assert len(found.live) == sizes[-1]
    assert float(found.live.divergence(found.live.scores)) == pytest.approx(kept[-1].divergence)
    seconds = [entry.seconds for entry in reports]
    assert seconds == sorted(seconds)
    assert found.runs["forward"] > found.runs["curvature"] > 0


def test_it_stops_when_its_time_is_over(striped, images):
    assert len(search(striped, images, Goal(least=1), seconds=0.0).live) == 24


def test_polishing_is_never_worse_and_helps_where_it_can(striped, images):
    found = Search(make(striped, images), Goal(divergence=0.05), BudgetSettings())
    found.live.scores = 1 + 0.4 * torch.randn(24, generator=torch.Generator().manual_seed(0))
    before = float(found.live.divergence(found.live.scores))
    after = found.polish(4)
    assert after < 0.2 * before
    assert after == pytest.approx(float(found.live.divergence(found.live.scores)), rel=1e-4)
    scores = found.live.scores
    assert found.polish(0) == pytest.approx(after, rel=1e-4)
    assert torch.equal(found.live.scores, scores)


def test_polishing_binary_scores_does_nothing(striped, images):
    found = Search(make(striped, images), Goal(divergence=0.05), BudgetSettings(**BINARY))
    found.live.drop(torch.arange(24) % 3 == 0)
    found.polish(4)
    assert found.live.scores.tolist() == [1.0] * 16


def test_a_table_without_units_to_spare_changes_nothing(striped, images):
    live = make(striped, images)
    table = certify(live, Goal(least=24))
    assert live.result().kept == 24
    assert {name: len(values) for name, values in table.items()} == {"conv1": 8, "conv2": 8, "conv3": 8}
    result = Scores.ones(striped.scored())
    unit = Filter("conv3", int(table["conv3"].argmax()))
    literal = divergence(striped, images, result.without(unit))
    assert float(table["conv3"].max()) == pytest.approx(literal, rel=1e-3)
    assert literal > 1e-4


def test_trimming_keeps_the_goal_and_every_prediction(striped, images):
    found = Search(make(striped, images), Goal(divergence=0.05), BudgetSettings())
    found.trim()
    result = found.live.result()
    assert result.kept < 24
    assert divergence(striped, images, result) <= 0.05
    assert agreement(striped, images, result) == 1


def test_trimming_makes_up_for_what_leaves(striped, images):
    loose, binary = (Search(make(striped, images), Goal(divergence=0.05), BudgetSettings(**s)) for s in ({}, BINARY))
    loose.trim()
    binary.trim()
    assert len(loose.live) < len(binary.live) < 24
    assert binary.live.scores.unique().tolist() == [1.0]


def test_behind_each_round_of_the_certificate_the_rest_is_settled(striped, images):
    live, sizes = make(striped, images), []
    certify(live, Goal(divergence=0.2), settle=lambda: sizes.append(len(live)))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == len(live)


def test_a_lost_prediction_is_won_back_with_its_image_weighing_more(striped, images):
    """The scores are the first of some draws to lose a prediction: the network is trained anew on each machine."""
    found = Search(make(striped, images), Goal(divergence=10.0), BudgetSettings())
    live = found.live
    for seed in range(100):
        live.scores = 1 + 0.9 * torch.randn(24, generator=torch.Generator().manual_seed(seed))
        lost = live.lost(live.logits(live.scores)).nonzero().flatten()
        if len(lost):
            break
    assert len(lost)
    assert found.regain(lost)
    assert agreement(striped, images, live.result()) > 1 - len(lost) / len(images)


def test_what_cannot_be_won_back_stays_as_it_was(striped, images):
    found = Search(make(striped, images), Goal(divergence=1e-12), BudgetSettings())
    found.live.scores = 1 + 0.9 * torch.randn(24, generator=torch.Generator().manual_seed(1))
    before = found.live.scores
    assert not found.regain(torch.tensor([0]), steps=1)
    assert torch.equal(found.live.scores, before)


def test_the_certificate_asks_for_lost_predictions(striped, images):
    live, asked = make(striped, images), []
    with torch.no_grad():
        live.original = live.original.clone()
        live.original[0] = live.original[0].flip(0)  # a prediction that no unit of the network gives

    def regain(lost):
        asked.append(lost.tolist())
        return False

    certify(live, Goal(divergence=10.0), regain=regain)
    assert len(asked) == 1
    assert asked[0]
