from __future__ import annotations

import pytest
import torch

from neurochains.chains import OBJECTIVES
from neurochains.chains.ablation import leave_one_out_divergence
from neurochains.chains.goal import Goal
from neurochains.chains.paper import PaperSettings
from neurochains.chains.search import SearchSettings, find_subnetwork

KL = OBJECTIVES["kl"]
SHORT = PaperSettings(steps=25, lr=0.05, lam=0.02)


@pytest.fixture
def find(striped, stripes_task):
    """Return the function that searches the network of stripes."""

    def found(goal=None, *, units=("filters",), objective=KL, follow=None, **settings):
        chosen = SearchSettings(**{"paper": SHORT, "refit": 10, **settings})
        layers = striped.scored(units)
        goal = Goal(divergence=0.05) if goal is None else goal
        return find_subnetwork(
            striped, stripes_task.images, layers=layers, objective=objective, goal=goal, settings=chosen, follow=follow
        )

    return found


def divergence(network, images, scores, objective=KL) -> float:
    return float(objective(scores.run(network, images).double(), network(images).double()).mean())


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("gates", [False, True])
def test_the_budget_method_keeps_the_fidelity(find, striped, stripes_task, objective, gates):
    found = find(objective=OBJECTIVES[objective], gates=gates)
    reached = divergence(striped, stripes_task.images, found.scores, OBJECTIVES[objective])
    assert reached <= 0.05 * (1 + 1e-4)
    assert 0 < found.scores.kept < 24
    if not gates:
        assert found.scores.gates == {}


@pytest.mark.parametrize("method", ["budget", "paper"])
def test_the_certificate_is_of_what_was_found(find, striped, stripes_task, method):
    found = find(method=method)
    wanted = leave_one_out_divergence(striped, stripes_task.images, found.scores)
    for name, values in found.leave_one_out.items():
        torch.testing.assert_close(values, wanted[name], equal_nan=True, rtol=1e-3, atol=1e-6)
        assert torch.equal(values.isnan(), found.scores.units[name] == 0)
    assert found.seconds > 0
    assert [entry.step for entry in found.history] == list(range(1, len(found.history) + 1))


@pytest.mark.parametrize("method", ["budget", "paper"])
@pytest.mark.parametrize("size", [1, 6, 15])
def test_both_methods_end_at_the_size(find, method, size):
    assert find(Goal(least=size), method=method).scores.kept == size


@pytest.mark.parametrize("method", ["budget", "paper"])
def test_scores_are_in_the_range(find, method):
    unit, binary = (find(Goal(least=6), method=method, score_range=name).scores.units for name in ("unit", "binary"))
    values = torch.cat(list(unit.values()))
    assert 0 <= values.min() <= values.max() <= 1
    assert len(values.unique()) > 2
    assert set(torch.cat(list(binary.values())).tolist()) == {0.0, 1.0}


def test_both_kinds_of_units_may_be_scored(find):
    found = find(units=("filters", "hidden"))
    assert list(found.scores.units) == ["conv1", "conv2", "conv3", "hidden"]
    assert list(find(units=("hidden",)).scores.units) == ["hidden"]


def test_the_paper_has_gates_only_where_asked_for(find, striped):
    names = {block.name for block in striped.blocks}
    assert names == {"conv2", "conv3"}
    hard = PaperSettings(steps=4, lam_g=1e4)
    assert find(method="paper", gates=False, paper=hard).scores.gates == {}
    assert set(find(method="paper", gates=True, paper=hard).scores.skipped) == names


@pytest.mark.parametrize("method", ["budget", "paper"])
def test_one_seed_gives_one_result_and_leaves_the_global_dice_alone(find, method):
    torch.manual_seed(11)
    state = torch.get_rng_state()
    one, other = find(method=method, seed=2), find(method=method, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    for name, values in one.scores.units.items():
        assert torch.equal(values, other.scores.units[name])
        assert torch.equal(one.leave_one_out[name].nan_to_num(), other.leave_one_out[name].nan_to_num())


def test_an_objective_may_draw_at_random(find):
    def noisy(outputs, original):
        return KL(outputs, original) * (1 + 0.2 * torch.rand(len(outputs)))

    one = find(objective=noisy, seed=2)
    torch.rand(5)
    other = find(objective=noisy, seed=2)
    assert all(torch.equal(values, other.scores.units[name]) for name, values in one.scores.units.items())


def test_the_refit_tightens_what_the_search_left(find, striped, stripes_task):
    """The certificate may spend what the refit gains, so that both keep the goal and neither is larger."""
    loose, tight = find(refit=0, gates=False), find(refit=40, gates=False)
    assert tight.scores.kept <= loose.scores.kept
    one, other = (find(Goal(least=8), refit=steps).scores for steps in (0, 40))
    images = stripes_task.images
    assert divergence(striped, images, other) <= divergence(striped, images, one) * (1 + 1e-3)


def test_what_happens_can_be_followed(find):
    seen = []
    find(follow=lambda stage, entry: seen.append((stage, entry.step, entry.filters)))
    stages = [stage for stage, _, _ in seen]
    assert sorted(stages, reverse=True) == stages  # first eliminating, then certifying
    assert set(stages) == {"eliminating", "certifying"}
    seen.clear()
    find(method="paper", follow=lambda stage, entry: seen.append((stage, entry.step, entry.filters)))
    assert [(stage, step) for stage, step, _ in seen] == [("optimising", step) for step in range(1, 26)]
