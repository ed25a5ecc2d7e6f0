"""The budget method: better than the rankings, connected, repeatable, and leaving what it was given alone."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.circuits.conftest import small_network, small_task

from neurochains.circuits import RANKINGS, CircuitSettings, Problem, read_target
from neurochains.circuits.budget import reach_correlation, shrink_to
from neurochains.circuits.ranking import Question
from neurochains.errors import FidelityError, SettingsError

NETWORK, TASK = small_network("residual"), small_task(16)
UNSEEN = small_task(16, seed=5)
QUICK = CircuitSettings(steps=4, final=20, ratio=0.7)
TARGET = "c.0[1]"


def problem(images=TASK.images, target=TARGET):
    return Problem(NETWORK, read_target(target, NETWORK)[1], images)


def test_it_beats_every_ranking_on_images_that_none_saw():
    asked, unseen = Question(problem(), TASK, TARGET), problem(UNSEEN.images)
    size = round(0.3 * asked.problem.edges.total)
    best = shrink_to(asked.problem, [size], QUICK)[size]
    assert best.size <= size
    ours = unseen.measure(best).pearson
    theirs = {name: unseen.measure(RANKINGS[name](asked, 0.3)).pearson for name in ("topk", "snip", "force", "random")}
    assert ours > max(theirs.values())


def test_smaller_circuits_lie_inside_larger_ones_without_dead_ends():
    given = problem()
    total = given.edges.total
    found = shrink_to(given, [total // 2, total // 4], QUICK)
    large, small = (found[size] for size in (total // 2, total // 4))
    assert large.size > small.size == given.edges.size(small.masks)
    for name, mask in small.masks.items():
        assert not (mask & ~large.masks[name]).any()
        assert torch.equal(small.scores[name] > 0, mask)


def test_the_same_seed_gives_the_same_circuit_and_the_network_stays_as_it_was():
    before = copy.deepcopy(NETWORK.module.state_dict())
    first, second = (shrink_to(problem(), [60], QUICK)[60] for _ in range(2))
    assert all(torch.equal(first.scores[name], second.scores[name]) for name in first.scores)
    assert all(torch.equal(values, before[name]) for name, values in NETWORK.module.state_dict().items())
    assert all(
        bool((mask.float() == s).all())
        for mask, s in zip(problem().edges.leading.values(), problem().everything().scores.values(), strict=True)
    )


def test_binary_scores_stay_what_they_are():
    given = problem()
    kept = shrink_to(given, [given.edges.total // 2], CircuitSettings(binary=True))[given.edges.total // 2]
    assert {float(value) for scores in kept.scores.values() for value in scores.unique()} == {0.0, 1.0}


@pytest.mark.parametrize("objective", ["error", "correlation"])
def test_tuning_lowers_its_objective(objective):
    given = problem()
    size = given.edges.total // 3
    settings = {"objective": objective, "ratio": 0.7}
    untuned = shrink_to(given, [size], CircuitSettings(steps=0, final=0, **settings))[size]
    tuned = shrink_to(given, [size], CircuitSettings(steps=4, final=20, **settings))[size]
    before, after = given.measure(untuned), given.measure(tuned)
    assert after.pearson > before.pearson
    if objective == "error":
        assert after.error < before.error


def test_the_smallest_circuit_that_reaches_a_correlation():
    given = problem()
    loose, tight = (reach_correlation(given, r, QUICK, tries=2) for r in (0.7, 0.95))
    assert given.measure(loose).pearson >= 0.7
    assert given.measure(tight).pearson >= 0.95
    assert loose.size < tight.size < given.edges.total


def test_progress_is_told_and_a_collapse_is_an_error():
    told = []
    with pytest.raises(SettingsError, match="Total collapse: of 1 kept kernels"):
        shrink_to(
            problem(), [1], CircuitSettings(steps=0, final=0, ratio=0.5), report=lambda *entry: told.append(entry)
        )
    assert told
    assert told[0][0] > told[-1][0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "kl"}, "'error' or 'correlation'; got 'kl'"),
        ({"ratio": 1.0}, "between 0 and 1"),
        ({"steps": -1}, "-1"),
    ],
)
def test_settings_that_cannot_be(wrong, message):
    with pytest.raises(SettingsError, match=message):
        CircuitSettings(**wrong)


def test_a_correlation_is_below_one():
    with pytest.raises(FidelityError, match="below 1; got 1"):
        reach_correlation(problem(), 1, QUICK)
