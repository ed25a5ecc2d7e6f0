from __future__ import annotations

import pytest

from neurochains.studies import Plan, estimate, expand
from neurochains.studies.estimate import steps_of

from .conftest import plan_of, shapes_plan


def test_cases_are_counted_by_method_and_priced_in_steps(world):
    plan = Plan.of(plan_of(seeds=[0, 1]))
    found = estimate(plan)
    assert (found.cases, dict(found.by_method)) == (6, {"paper": 2, "magnitude": 2, "random": 2})
    assert list(found.steps) == ["small"]
    total = sum(steps_of(case) for case in expand(plan))
    assert found.seconds == pytest.approx(found.steps["small"] * total)
    assert found.seconds_with(2) == pytest.approx(found.seconds / 2)


def test_a_method_costs_its_own_steps():
    methods = [
        {"method": "paper", "steps": 30, "refit": 0},
        {"method": "random", "like": "paper", "refit": 5},
        {"method": "budget"},
    ]
    cases = {case.spec["method"]["name"]: case for case in expand(Plan.of(shapes_plan(1, methods=methods)))}
    costs = {name: steps_of(case) for name, case in cases.items()}
    assert costs["paper"] - costs["random"] == 30 - 5
    assert costs["budget"] > 10 * costs["random"]


def test_without_a_probe_nothing_is_loaded():
    found = estimate(Plan.of(plan_of(models=["nowhere.py:net"])), probe=False)
    assert (found.cases, found.seconds, found.seconds_with(2)) == (3, None, None)


def test_a_huge_plan_is_only_counted():
    found = estimate(Plan.of(shapes_plan(100, seeds=list(range(5_000)))))
    assert (found.cases, found.seconds) == (1_500_000, None)
