from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurochains.chains.goal import Goal, make_goal
from neurochains.errors import SettingsError

NO_GOAL = {"fidelity": None, "agreement": None, "size": None, "total": 200}


def live(right: int, of: int = 10):
    """Stands for a live network that keeps so many of its predictions."""
    original = torch.eye(of)
    logits = torch.cat([original[:right], original[right:].roll(1, 1)])
    return SimpleNamespace(original=original, outputs=logits)


def test_without_a_wish_it_is_a_fidelity_of_5_hundredths():
    assert make_goal(**NO_GOAL) == Goal(divergence=0.05)


def test_each_wish_has_its_goal():
    assert make_goal(**{**NO_GOAL, "fidelity": 0.2}) == Goal(divergence=0.2)
    assert make_goal(**{**NO_GOAL, "agreement": 0.9}) == Goal(agreement=0.9)
    assert make_goal(**{**NO_GOAL, "agreement": 1}) == Goal(agreement=1.0)
    assert make_goal(**{**NO_GOAL, "size": 17}) == Goal(least=17)


@given(st.floats(1e-6, 1.0), st.integers(1, 30_000))
def test_a_fraction_is_a_number_of_units(share, total):
    goal = make_goal(fidelity=None, agreement=None, size=share, total=total)
    assert 1 <= goal.least <= total
    assert abs(goal.least - share * total) <= 0.5 or goal.least == 1


def test_one_unit_and_all_of_them_are_different_wishes():
    assert make_goal(**{**NO_GOAL, "size": 1}).least == 1
    assert make_goal(**{**NO_GOAL, "size": 1.0}).least == 200


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"fidelity": 0.1, "size": 3}, "one goal; got fidelity and size"),
        ({"fidelity": 0.1, "size": 3, "agreement": 1.0}, "one goal; got fidelity and agreement and size"),
        ({"fidelity": 0.0}, "divergence above 0, such as 0.05; got 0.0"),
        ({"fidelity": -1.0}, "above 0.*got -1.0"),
        ({"fidelity": math.nan}, "above 0.*got nan"),
        ({"fidelity": math.inf}, "above 0.*got inf"),
        ({"agreement": 0.0}, "share of predictions above 0, at most 1; got 0.0"),
        ({"agreement": 1.1}, "at most 1; got 1.1"),
        ({"size": 0}, "at least 1 filter; got 0"),
        ({"size": -4}, "at least 1 filter; got -4"),
        ({"size": 201}, "has 200 scored filters; a size is 1 to 200, got 201"),
        ({"size": 0.0}, "as a fraction is above 0, at most 1; got 0.0"),
        ({"size": 1.5}, "as a fraction is above 0, at most 1; got 1.5"),
        ({"size": math.nan}, "as a fraction.*got nan"),
        ({"size": True}, r"number of filters \(50\) or a fraction of them \(0.1\); got True"),
        ({"size": "5%"}, "or a fraction of them.*got '5%'"),
    ],
)
def test_what_cannot_be_is_refused(wish, message):
    with pytest.raises(SettingsError, match=message):
        make_goal(**{**NO_GOAL, **wish})


def test_a_fidelity_is_kept_up_to_its_limit():
    goal = Goal(divergence=0.1)
    assert [goal.fits(value, live(0)) for value in (0.0, 0.1, 0.1001, math.nan, math.inf)] == [True, True, *[False] * 3]
    assert goal.limit == 0.1
    assert [goal.comfortable(value, 0.6, live(0)) for value in (0.05, 0.07)] == [True, False]
    assert [goal.could_spare(value) for value in (0.1, 0.11, math.nan)] == [True, False, False]
    assert not goal.is_size


def test_an_agreement_is_a_share_of_the_predictions():
    goal = Goal(agreement=0.8)
    assert [goal.fits(9.0, live(right)) for right in (7, 8, 10)] == [False, True, True]
    assert [goal.comfortable(0.2, 0.6, live(right)) for right in (7, 8)] == [False, True]
    assert not goal.comfortable(5.0, 0.6, live(10))  # far from the original, whatever the predictions are
    assert math.isfinite(goal.limit)
    assert goal.could_spare(3.0)
    assert not goal.could_spare(math.nan)
    assert not goal.is_size


@given(st.integers(1, 200), st.data())
def test_a_share_that_is_met_exactly_is_met(of, data):
    right = data.draw(st.integers(1, of))
    assert Goal(agreement=right / of).fits(0.0, live(right, of))
    assert not Goal(agreement=right / of).fits(0.0, live(right - 1, of)) or of == 1


def test_a_size_is_kept_whatever_it_costs_but_not_by_nonsense():
    goal = Goal(least=4)
    assert goal.fits(1e6, live(0))
    assert not goal.fits(math.nan, live(0))
    assert not goal.could_spare(0.0)
    assert math.isfinite(goal.limit)
    assert goal.is_size


def test_hopeless_is_what_the_same_gains_will_not_reach():
    goal = Goal(divergence=0.1)
    assert not goal.hopeless(0.2, 0.09, 0)  # there already
    assert goal.hopeless(0.4, 0.2, 0)
    assert not goal.hopeless(0.4, 0.2, 1)  # .2 -> .1
    assert goal.hopeless(0.42, 0.4, 3)
    assert not Goal(least=3).hopeless(9.0, 9.0, 0)
