from __future__ import annotations

import pytest
import torch

from neurochains.chains import Scores
from neurochains.network import Filter

UNITS = {"a": torch.tensor([0.0, 0.5, 2.0]), "b": torch.zeros(2), "c": torch.tensor([1.0])}


def test_kept_is_what_has_a_score():
    scores = Scores(UNITS, {"x": 0.0, "y": 1.0})
    assert {name: kept.tolist() for name, kept in scores.filters.items()} == {"a": [1, 2], "c": [0]}
    assert (scores.kept, scores.total) == (3, 6)
    assert scores.list_filters() == [Filter("a", 1), Filter("a", 2), Filter("c", 0)]
    assert scores.skipped == ("x",)


def test_without_removes_one_filter_from_a_copy():
    scores = Scores(UNITS, {"x": 0.0})
    left = scores.without(Filter("a", 2))
    assert left.units["a"].tolist() == [0.0, 0.5, 0.0]
    assert left.gates == {"x": 0.0}
    assert scores.units["a"].tolist() == [0.0, 0.5, 2.0]


def test_the_complement_has_the_rest_and_skips_nothing():
    rest = Scores(UNITS, {"x": 0.0}).complement()
    assert {name: values.tolist() for name, values in rest.units.items()} == {"a": [1, 0, 0], "b": [1, 1], "c": [0]}
    assert rest.skipped == ()


def test_from_filters_keeps_those_alone(mixed):
    layers = mixed.scored()
    scores = Scores.from_filters(layers, {"stem": torch.tensor([1, 4]), "last": torch.tensor([0])})
    assert scores.list_filters() == [Filter("stem", 1), Filter("stem", 4), Filter("last", 0)]
    assert list(scores.units) == [layer.name for layer in layers]


def test_all_of_it_is_the_network(mixed, mixed_task):
    scores = Scores.ones(mixed.scored())
    assert scores.kept == scores.total == 35
    torch.testing.assert_close(scores.run(mixed, mixed_task.images), mixed(mixed_task.images))


@pytest.mark.parametrize("skip", [False, True])
def test_it_runs_the_same_at_full_width_and_compact(mixed, mixed_task, draw_scores, skip):
    gates = {mixed.blocks[0].name: 0.0} if skip else {}
    scores = Scores(draw_scores(mixed).units, gates)
    wanted = scores.run(mixed, mixed_task.images)
    assert not torch.allclose(wanted, mixed(mixed_task.images), atol=1e-3)
    assert torch.allclose(wanted, Scores(scores.units).run(mixed, mixed_task.images), atol=1e-6) != skip
    torch.testing.assert_close(scores.compact(mixed)(mixed_task.images), wanted, rtol=1e-4, atol=1e-5)
