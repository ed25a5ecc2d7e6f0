"""What is cheapest to remove, against the cost of every choice solved as it is written."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurochains.chains import cheapest as module
from neurochains.chains.cheapest import DAMPING, cheapest, cheapest_together
from neurochains.chains.curvature import Curvature


def model(rows, units, seed, *, twins=0):
    dice = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(rows, units, generator=dice, dtype=torch.float64)
    for place in range(twins):
        jacobian[:, 2 * place + 1] = jacobian[:, 2 * place]
    return Curvature(jacobian, torch.zeros(units), 0.0, torch.empty(0)), torch.rand(
        units, generator=dice
    ).double() + 0.2


def cost(curvature, scores, gone):
    """The least of ``1/2 |J d|^2 + k/2 |d_F|^2`` over the free part of ``d``, as a dense least-squares problem."""
    jacobian = curvature.jacobian
    damping = DAMPING * float(jacobian.square().sum(1).mean())
    free = [unit for unit in range(len(scores)) if unit not in gone]
    moved = jacobian[:, gone] @ scores[gone]
    system = torch.cat([jacobian[:, free], damping**0.5 * torch.eye(len(free), dtype=torch.float64)])
    wanted = torch.cat([moved, torch.zeros(len(free), dtype=torch.float64)])
    change = torch.linalg.lstsq(system, wanted.unsqueeze(1)).solution.squeeze(1)
    return float(0.5 * (system @ change - wanted).square().sum())


@given(st.integers(3, 8), st.integers(4, 10), st.integers(0, 1000))
def test_each_unit_is_the_one_that_costs_least_beside_the_earlier_ones(rows, units, seed):
    curvature, scores = model(rows, units, seed)
    chosen = cheapest_together(curvature, scores, units - 2).tolist()
    for place in range(units - 2):
        before = chosen[:place]
        costs = {unit: cost(curvature, scores, [*before, unit]) for unit in range(units) if unit not in before}
        assert costs[chosen[place]] <= min(costs.values()) * (1 + 1e-6) + 1e-12


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_several_at_once_are_distinct_and_as_many_as_asked_for(at_once):
    curvature, scores = model(6, 12, 1)
    chosen = cheapest_together(curvature, scores, 7, at_once=at_once)
    assert len(chosen) == 7 == len(set(chosen.tolist()))


def test_of_two_units_that_stand_in_for_one_another_one_is_cheap():
    """Each twin alone is free to go; both together are not."""
    curvature, scores = model(12, 8, 5, twins=1)
    scores[:2] = 1.0
    chosen = cheapest_together(curvature, scores, 4).tolist()
    assert len({0, 1} & set(chosen)) == 1
    pairs = {pair: cost(curvature, scores, list(pair)) for pair in itertools.combinations(range(8), 2)}
    assert cost(curvature, scores, chosen[:2]) < 3 * min(pairs.values())


def test_without_others_to_make_up_for_it_each_counts_for_itself():
    curvature, scores = model(6, 12, 2)
    plain = curvature.importance(scores).argsort(stable=True)[:5]
    assert torch.equal(cheapest(curvature, scores, 5, together=False), plain)
    assert not torch.equal(cheapest(curvature, scores, 5), plain)


def test_many_units_count_for_themselves(monkeypatch):
    curvature, scores = model(6, 12, 2)
    monkeypatch.setattr(module, "MANY", 11)
    assert torch.equal(cheapest(curvature, scores, 5), curvature.importance(scores).argsort(stable=True)[:5])


def test_all_of_them_and_none_of_them():
    curvature, scores = model(6, 9, 2)
    assert sorted(cheapest(curvature, scores, 9).tolist()) == list(range(9))
    assert len(cheapest(curvature, scores, 0)) == 0


def test_where_nothing_reaches_the_outputs_all_are_alike():
    curvature = Curvature(torch.zeros(4, 6), torch.zeros(6), 0.0, torch.empty(0))
    assert len(cheapest(curvature, torch.ones(6), 3)) == 3
