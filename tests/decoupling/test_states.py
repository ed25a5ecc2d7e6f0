from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurochains.decoupling import States, count_states
from neurochains.errors import DataError, SettingsError


def codes():
    return {"a": torch.tensor([[1, 0, 1], [1, 0, 0], [1, 0, 1], [1, 0, 1]]).bool(), "b": torch.ones(4, 2).bool()}


def test_states_count_over_images():
    states = count_states(codes())
    assert states.energetic["a"].tolist() == [True, False, False]
    assert states.silent["a"].tolist() == [False, True, False]
    assert states.dynamic["a"].tolist() == [False, False, True]
    assert states.shares == {"dynamic": 0.2, "silent": 0.2, "energetic": 0.6}
    assert states.mean_on == pytest.approx(15 / 20)
    assert states.table()[0] == {
        "layer": "a", "filters": 3, "dynamic": 1, "silent": 1, "energetic": 1, "on": pytest.approx(7 / 12)
    }  # fmt: skip


def test_a_tolerance_forgives_a_share_of_the_images():
    assert count_states(codes(), tolerance=0.25).energetic["a"].tolist() == [True, False, True]
    assert count_states(codes(), tolerance=0.24).energetic["a"].tolist() == [True, False, False]


def test_the_entropy_is_that_of_the_frequencies():
    expected = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert count_states(codes()).entropy == pytest.approx(expected)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])  # as on a busy machine
@given(st.lists(st.lists(st.booleans(), min_size=5, max_size=5), min_size=1, max_size=9), st.floats(0, 0.49))
def test_every_filter_is_in_one_state(rows, tolerance):
    states = count_states({"a": torch.tensor(rows)}, tolerance=tolerance)
    total = sum(mask["a"].int() for mask in (states.silent, states.energetic, states.dynamic))
    assert total.tolist() == [1] * 5


def test_images_without_any_filter_are_counted():
    assert count_states(codes()).blank == {}
    assert count_states({**codes(), "c": torch.tensor([[1, 0], [0, 0], [0, 0], [0, 1]])}).blank == {"c": 2}


def test_json_reads_back():
    states = count_states({**codes(), "c": torch.zeros(4, 2).bool()}, tolerance=0.1)
    again = States.from_json(states.to_json())
    assert again.shares == states.shares
    assert (again.images, again.tolerance, again.blank) == (4, 0.1, {"c": 4})


def test_messages():
    with pytest.raises(SettingsError, match=r"tolerance must be a share of the images from 0 to below 0.5; got 0.5"):
        count_states(codes(), tolerance=0.5)
    with pytest.raises(DataError, match="at least one layer on at least one image"):
        count_states({})
