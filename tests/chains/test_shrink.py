from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from neurochains.chains import OBJECTIVES
from neurochains.chains.budget import BudgetSettings, Search
from neurochains.chains.goal import Goal
from neurochains.chains.live import LiveNetwork
from neurochains.chains.shrink import FACTORS, RUNG, ShrinkSettings, _Ladder, _Shrinkage, shrink

KL = OBJECTIVES["kl"]


def searching(network, images, goal: Goal) -> Search:
    return Search(LiveNetwork(network, images, KL, layers=network.scored()), goal, BudgetSettings())


def test_units_fade_within_the_goal(striped, stripes_task):
    search = searching(striped, stripes_task.images, Goal(divergence=0.1))
    shrink(search, ShrinkSettings())
    assert 0 < len(search.live) < search.live.total
    assert search.history
    assert all(entry.divergence <= 0.1 for entry in search.history)
    found = search.live.result()
    original = striped(stripes_task.images)
    assert float(KL(found.run(striped, stripes_task.images), original).mean()) <= 0.1 * (1 + 1e-4)


def test_a_search_that_ends_earlier_costs_less_and_keeps_more(striped, stripes_task):
    images = stripes_task.images
    quick, whole = (searching(striped, images, Goal(divergence=1e-3)) for _ in range(2))
    shrink(quick, ShrinkSettings(share_end=0.3))
    shrink(whole, ShrinkSettings(fewest=1))
    assert len(whole.live) <= len(quick.live) < quick.live.total
    assert quick.runs["curvature"] < whole.runs["curvature"]
    assert quick.run_with(quick.live.scores) <= 1e-3


def test_a_size_is_not_undercut(striped, stripes_task):
    search = searching(striped, stripes_task.images, Goal(least=20))
    shrink(search, ShrinkSettings())
    assert len(search.live) >= 20


def test_the_ladder_takes_the_largest_factor_below_the_target(striped, stripes_task):
    """Whatever it answers was really run, fades what it should by its factor, and one rung further is too much."""
    search = searching(striped, stripes_task.images, Goal(divergence=0.05))
    curvature = search.measure(search.live.scores)
    speeds = torch.zeros(len(search.live))
    speeds[curvature.importance(search.live.scores).argsort()[:10]] = torch.linspace(3.0, 0.2, 10)
    ladder = _Ladder(search, curvature, speeds, 0.01)
    step = ladder.best(3, 0.05)
    fading = speeds > 0
    assert torch.allclose(step.scores[fading], 1 - (FACTORS[step.place] * speeds[fading]).clamp(max=1))
    assert step.divergence == search.run_with(step.scores) <= 0.01
    further = ladder.step(max(step.place - 1, 0), step.damping).divergence > 0.01
    assert step.place == 0 or further or RUNG * step.divergence >= 0.01


@pytest.mark.parametrize(("excess", "most"), [(3.0, 4), (1e3, 6), (math.inf, 4)])
def test_far_too_large_a_step_is_not_followed_rung_by_rung(excess, most):
    """With a divergence that falls by 6 from one rung to the next, few of the rungs are run."""
    runs = []

    class Falling:
        live = SimpleNamespace(scores=torch.ones(2))

        def compensate(self, curvature, fixed, free, damping, enough):
            runs.append(float(-fixed[0]))
            place = min(range(len(FACTORS)), key=lambda i: abs(FACTORS[i] - runs[-1]))
            return (0.0 if place == len(FACTORS) - 1 else 0.01 * excess / 6.0**place), self.live.scores

    step = _Ladder(Falling(), None, torch.tensor([1.0, 0.0]), 0.01).best(0, 0.05)
    assert step.divergence <= 0.01
    assert len(runs) <= most


def test_it_goes_on_from_a_bad_start(striped, stripes_task):
    """Nothing has left yet: the share may fall below where it would end otherwise."""
    search = searching(striped, stripes_task.images, Goal(divergence=0.05))
    shrinkage = _Shrinkage(search, ShrinkSettings(share=0.1, share_end=0.3, fewest=1))
    assert not shrinkage.over(len(search.live))
    assert shrinkage.over(len(search.live) - 1)


def test_what_may_not_leave_stays(striped, stripes_task):
    """A goal that nothing fits but the whole network leaves all units alive."""
    search = searching(striped, stripes_task.images, Goal(divergence=1e-12))
    shrink(search, ShrinkSettings())
    assert float(KL(search.live.result().run(striped, stripes_task.images), striped(stripes_task.images)).mean()) < 1e-9
