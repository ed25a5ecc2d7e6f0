"""Intervals: the bootstrap written out, and how often they hold what they should."""

from __future__ import annotations

import numpy as np
import pytest

from neurochains.errors import SettingsError
from neurochains.measures import bootstrap, interval_of_mean


def test_an_interval_holds_the_middle_of_what_is_drawn():
    groups = [np.random.default_rng(number).normal(number, 1, 5 + number) for number in range(6)]
    found = bootstrap(groups, lambda drawn: float(np.concatenate(list(drawn)).mean()), level=0.8, draws=400, seed=3)
    dice = np.random.default_rng(3)
    means = [np.concatenate([groups[i] for i in dice.integers(6, size=6)]).mean() for _ in range(400)]
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.1, 0.9])))
    assert found.value == pytest.approx(np.concatenate(groups).mean())
    assert found.count == 6


def test_the_mean_is_that_of_the_general_bootstrap():
    values = np.random.default_rng(0).normal(size=12).tolist()
    other = bootstrap(values, lambda drawn: float(np.mean(drawn)))
    assert interval_of_mean(values).to_json() == pytest.approx(other.to_json())


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = 0
    for seed in range(200):
        found = interval_of_mean(np.random.default_rng(seed).normal(1, 2, 40).tolist(), draws=300)
        held += found.low <= 1 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_few_groups_and_missing_values_have_no_ends():
    assert interval_of_mean([]).to_json() == {"value": None, "low": None, "high": None, "count": 0}
    assert interval_of_mean([3, None, float("nan")]).to_json() == {"value": 3.0, "low": None, "high": None, "count": 1}
    assert bootstrap([1, 2], lambda drawn: None).value is None
    sometimes = bootstrap([0, 1, 2], lambda drawn: float(sum(drawn)) if len(set(drawn)) > 1 else None)
    assert sometimes.low is not None
    with pytest.raises(SettingsError, match="level lies between 0 and 1"):
        bootstrap([1], lambda drawn: 0.0, level=1.0)
