"""Rankings: a contract over every method, and the curvature against finite differences."""

from __future__ import annotations

import pytest
import torch
from tests.circuits.conftest import small_network, small_task

from neurochains.circuits import CRITERIA, METHODS, RANKINGS, Problem, Target, read_target
from neurochains.circuits.problem import Kept
from neurochains.circuits.ranking import Question, curvature
from neurochains.edit import OUTPUT, Readout, tap
from neurochains.errors import LayerError, SettingsError

NETWORK, TASK = small_network("residual"), small_task(6)


def question(target, seed=0):
    return Question(Problem(NETWORK, read_target(target, NETWORK)[1], TASK.images), TASK, target, seed)


@pytest.mark.parametrize("name", [name for name in RANKINGS if name != "worst"])
@pytest.mark.parametrize("target", ["c.0[1]", "logit:0-logit:2"])
def test_every_ranking_keeps_a_connected_circuit_of_the_size(name, target):
    asked = question(target)
    kept = RANKINGS[name](asked, 0.5)
    edges = asked.problem.edges
    assert 0.3 * edges.total < kept.size <= 0.5 * edges.total
    assert edges.size(kept.masks) == kept.size
    again = RANKINGS[name](question(target), 0.5)
    assert all(torch.equal(kept.masks[layer], again.masks[layer]) for layer in kept.masks)


def test_every_criterion_is_a_method():
    assert {*CRITERIA} - {"activation_gradient"} <= {*METHODS}
    assert METHODS[0] == "budget"


def test_the_seed_draws_another_random_circuit():
    first, second = (RANKINGS["random"](question("c.0[1]", seed), 0.5).masks for seed in (0, 1))
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_worst_keeps_what_matters_least():
    asked = question("c.0[1]")
    values = asked.importance("activation_gradient").kernels
    means = []
    for name in ("worst", "topk"):
        kept = RANKINGS[name](asked, 0.95)
        means.append(float(torch.cat([values[layer][mask] for layer, mask in kept.masks.items()]).mean()))
    assert means[0] < means[1]


def test_curvature_is_half_the_squared_change_of_the_map():
    """With each kernel's map difference measured by removing a small part of it, and many draws of signs."""
    problem = question("c.0[1]").problem
    scores = {name: mask * 0.8 for name, mask in problem.edges.leading.items()}
    kept = Kept(problem.edges.leading, {name: values.float() for name, values in scores.items()})
    found = curvature(problem, kept, probes=200, generator=torch.Generator().manual_seed(0))
    base, step, checked = problem.maps(kept).double(), 1e-2, []
    for name, column in (("c.0", 0), ("c.0", 3), ("stem.0", 1), ("b", 2)):
        unit = 1 if name == "c.0" else 4
        moved = {layer: values.clone() for layer, values in kept.scores.items()}
        moved[name][unit, column] += step
        change = (problem.maps(Kept(kept.masks, moved)).double() - base) / step
        wanted = 0.5 * 0.8**2 * float(change.square().sum())
        checked.append(float(found[name][unit, column]) / wanted if wanted > 1e-6 else 1.0)
    assert all(0.6 < ratio < 1.6 for ratio in checked)


def test_targets_are_read_as_maps():
    assert read_target("L1_2", NETWORK)[1] == Readout(NETWORK.layers[1].name, (2,), (1.0,))
    assert read_target(" Logit:3 - logit:1 ", NETWORK) == ("logit:3-logit:1", Readout(OUTPUT, (3, 1), (1.0, -1.0)))


def test_a_direction_is_the_weighted_sum_of_the_maps():
    direction = torch.zeros(12)
    direction[[2, 5]] = torch.tensor([0.6, -0.8])
    target = Target.parse("c.0:direction", NETWORK, direction=direction)
    readout = read_target(target, NETWORK)[1]
    assert (readout.units, readout.weights) == ((2, 5), pytest.approx((0.6, -0.8)))
    maps = tap(NETWORK, ["c.0"])(TASK.images)[1]["c.0"]
    wanted = 0.6 * maps[:, 2] - 0.8 * maps[:, 5]
    assert torch.allclose(Problem(NETWORK, readout, TASK.images).original, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("loss", SettingsError, "which the loss has not"),
        ("c.0[1]@max", SettingsError, "leave out the position"),
        ("logit:1-logit:1", SettingsError, "two different logits"),
        ("logit:1-logit:9", SettingsError, "5 logits, 0 to 4"),
        ("c.1[1]", LayerError, "c.0"),
    ],
)
def test_what_has_no_map_is_refused(target, error, message):
    with pytest.raises(error, match=message):
        read_target(target, NETWORK)
