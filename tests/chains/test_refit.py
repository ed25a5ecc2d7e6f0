from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.chains import OBJECTIVES, Scores
from neurochains.chains.live import LiveNetwork
from neurochains.chains.refit import refit, refit_live

IMAGES = torch.randn(5, 3, 12, 12, generator=torch.Generator().manual_seed(2))


def divergence(network, images, scores, objective="kl") -> float:
    return float(OBJECTIVES[objective](scores.run(network, images), network(images)).mean())


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6), st.floats(0.1, 1.0), st.floats(1e-3, 2.0), st.sampled_from(sorted(OBJECTIVES)), st.booleans()
)
def test_it_is_never_worse_and_keeps_the_support(mixed, seed, share, lr, objective, skip):
    dice = torch.Generator().manual_seed(seed)
    units = {
        layer.name: (torch.rand(layer.units, generator=dice) < share) * (0.3 + torch.rand(layer.units, generator=dice))
        for layer in mixed.scored()
    }
    scores = Scores(units, {mixed.blocks[0].name: 0.0} if skip else {})
    found = refit(mixed, IMAGES, scores, objective=objective, steps=4, lr=lr)
    before = divergence(mixed, IMAGES, scores, objective)
    assert divergence(mixed, IMAGES, found, objective) <= before * (1 + 1e-3) + 1e-6
    assert found.skipped == scores.skipped
    for name, values in units.items():
        assert torch.equal(found.units[name] != 0, values != 0)
        assert (found.units[name] >= 0).all()


def test_it_makes_up_for_what_is_missing(striped, stripes_task, draw_scores):
    scores = draw_scores(striped, 0.7, 1)
    images = stripes_task.images
    found = refit(striped, images, scores, steps=40, lr=0.05)
    assert divergence(striped, images, found) < 0.5 * divergence(striped, images, scores)


@pytest.mark.parametrize("high", [1.0, 1.2])
def test_no_score_exceeds_what_is_allowed(striped, stripes_task, draw_scores, high):
    scores = draw_scores(striped, 0.5, 3)
    scores = Scores({name: (values > 0).float() for name, values in scores.units.items()})
    found = refit(striped, stripes_task.images, scores, steps=15, lr=0.1, high=high)
    values = torch.cat(list(found.units.values()))
    assert values.max() == pytest.approx(high)  # it wants to go further
    assert len(values[values > 0].unique()) > 1


def test_nothing_to_do_gives_back_what_came(mixed):
    nothing = Scores({layer.name: torch.zeros(layer.units) for layer in mixed.scored()})
    whole = Scores.ones(mixed.scored())
    assert refit(mixed, IMAGES, nothing) is nothing
    assert refit(mixed, IMAGES, whole, steps=0) is whole


def test_a_dead_sub_network_stays_as_it_is(mixed):
    """Without a filter in the last layer, no other one reaches the outputs."""
    units = Scores.ones(mixed.scored()).units
    scores = Scores({**units, "last": torch.zeros(5)})
    found = refit(mixed, IMAGES, scores, steps=3)
    assert all(torch.equal(found.units[name], values) for name, values in scores.units.items())


def test_a_live_network_is_tuned_in_place(mixed, draw_scores):
    live = LiveNetwork(mixed, IMAGES, OBJECTIVES["kl"], layers=mixed.scored(), scores=draw_scores(mixed, 0.5))
    before = float(live.divergence(live.scores))
    best = refit_live(live, steps=20, lr=0.05)
    assert best < before
    assert float(live.divergence(live.scores)) == pytest.approx(best, rel=1e-4)
    assert not live.scores.requires_grad


def test_it_stops_at_what_is_not_finite(mixed):
    """An objective that turns into NaN after some steps leaves the best state from before."""
    calls = []

    def breaks(outputs, original):
        calls.append(1)
        return OBJECTIVES["mse"](outputs, original) * (float("nan") if len(calls) > 3 else 1.0)

    scores = Scores({layer.name: 0.8 * torch.ones(layer.units) for layer in mixed.scored()})
    found = refit(mixed, IMAGES, scores, objective=breaks, steps=50, polish=0)
    assert len(calls) == 4
    assert all(torch.isfinite(values).all() for values in found.units.values())
    assert divergence(mixed, IMAGES, found, "mse") < divergence(mixed, IMAGES, scores, "mse")
