"""Leaving filters out against whole runs without them; correlations against SciPy."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neurochains.chains.objectives import OBJECTIVES
from neurochains.chains.scores import Scores
from neurochains.measures import correlate, leave_one_out

numbers = st.lists(st.tuples(st.integers(-5, 5), st.floats(-3, 3, width=16)), min_size=2, max_size=30)


def test_drop_and_divergence_are_those_of_whole_runs(network, task, scores):
    found = leave_one_out(network, task.images, scores)
    original = network(task.images)
    rows, first = torch.arange(len(original)), original.argmax(-1)
    before = scores.run(network, task.images).softmax(-1)[rows, first]
    for unit in scores.list_filters():
        outputs = scores.without(unit).run(network, task.images)
        drop = (before - outputs.softmax(-1)[rows, first]).mean()
        torch.testing.assert_close(found.drop[unit.layer][unit.index], drop, rtol=1e-3, atol=1e-6)
        left = OBJECTIVES["kl"](outputs, original).mean()
        torch.testing.assert_close(found.divergence[unit.layer][unit.index], left, rtol=1e-3, atol=1e-6)
    for name, values in scores.units.items():
        assert torch.equal(found.drop[name].isnan(), values == 0)
        assert torch.equal(found.divergence[name].isnan(), values == 0)


def test_scores_go_with_what_is_lost_filter_by_filter(network, task, scores):
    found = leave_one_out(network, task.images, scores)
    units = scores.list_filters()
    score = [float(scores.units[unit.layer][unit.index]) for unit in units]
    for correlation, lost in ((found.drop_by_score, found.drop), (found.divergence_by_score, found.divergence)):
        values = [float(lost[unit.layer][unit.index]) for unit in units]
        assert correlation.pearson == pytest.approx(stats.pearsonr(score, values).statistic)
        assert correlation.spearman == pytest.approx(stats.spearmanr(score, values).statistic)
        assert correlation.slope == pytest.approx(stats.linregress(score, values).slope)
        assert correlation.points == scores.kept
    assert found.to_json()["divergence"]["slope"] == found.divergence_by_score.slope


def test_outputs_that_are_no_classes_have_no_drop(network, task, scores):
    found = leave_one_out(network, task.images, scores, objective="mse", original=network(task.images))
    assert found.drop is None
    assert found.to_json()["pearson"] is None
    assert found.to_json()["divergence"]["pearson"] is not None


def test_equal_scores_go_with_nothing(network, task, scores):
    binary = Scores({name: (values != 0).float() for name, values in scores.units.items()})
    found = leave_one_out(network, task.images, binary).to_json()
    assert [found[name] for name in ("pearson", "spearman", "slope")] == [None, None, None]


@settings(max_examples=60, deadline=None)
@given(numbers)
def test_correlations_are_those_of_scipy(pairs):
    x, y = (torch.tensor(values, dtype=torch.float64) for values in zip(*pairs, strict=True))
    found = correlate(x, y)
    varies = [len(set(values.tolist())) > 1 for values in (x, y)]
    assert (found.pearson is not None) == (found.spearman is not None) == all(varies)
    assert (found.slope is not None) == varies[0]
    assert found.points == len(pairs)
    if all(varies):
        assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
        line = stats.linregress(x.numpy(), y.numpy())
        assert found.slope == pytest.approx(line.slope, abs=1e-9)
        assert found.pearson == pytest.approx(line.rvalue, abs=1e-9)


def test_points_that_are_not_finite_are_left_out():
    x, y = torch.tensor([1.0, 2, 3, float("nan"), 5]), torch.tensor([2.0, 4, 7, 1, float("inf")])
    assert correlate(x, y) == correlate(x[:3], y[:3])
    nothing = correlate(torch.zeros(0), torch.zeros(0))
    assert (nothing.pearson, nothing.spearman, nothing.slope, nothing.points) == (None, None, None, 0)
