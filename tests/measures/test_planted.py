"""Planted networks: their circuits do what is said of them, and nothing smaller can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from neurochains.chains import Scores
from neurochains.edit import ScoredNetwork
from neurochains.errors import SettingsError
from neurochains.extraction import extract
from neurochains.measures import Recovery, average_precision, planted, planted_names
from neurochains.measures.planted_designs import SIZES, VARIANTS, design_of
from neurochains.measures.planted_trained import further_images
from neurochains.measures.planted_truth import least_divergence
from neurochains.measures.planted_wiring import wire
from neurochains.network import Filter, Network

FIDELITY = 0.05
SMALL = [name for name in planted_names() if name.endswith("small")]
LARGER = [pytest.param(name, marks=pytest.mark.slow) for name in planted_names() if name not in SMALL]


def network_of(made) -> Network:
    return Network.trace(made.model, made.task.images[:2])


def scores_of(network: Network, filters) -> Scores:
    kept: dict[str, list[int]] = {}
    for layer, index in filters:
        kept.setdefault(layer, []).append(index)
    return Scores.from_filters(network.scored(), {name: torch.tensor(some) for name, some in kept.items()})


def divergence(network: Network, task, scores: Scores) -> float:
    p, q = network(task.images).log_softmax(-1), scores.run(network, task.images).log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


@pytest.mark.parametrize("name", [*SMALL, *LARGER])
def test_the_original_is_right_and_the_truth_suffices(name):
    made = planted(name, seed=3)
    network = network_of(made)
    for task in (made.task, made.task.held_out):
        assert torch.equal(made.model(task.images).argmax(-1), task.labels)
    everything = frozenset().union(*made.truth.by_class.values())  # copies included, all at a score of 1
    assert divergence(network, made.task, scores_of(network, everything)) < (0.005 if "trained" in name else 1e-6)
    assert made.truth.least_kl > FIDELITY
    assert made.truth.filters <= everything
    assert set(made.truth.names) == everything


@pytest.mark.parametrize("name", [*SMALL, *LARGER])
def test_without_a_group_shape_and_nothing_are_as_likely_on_its_witnesses(name):
    """Whatever the scores of all other filters: drawn at random, small and large, from 0 to 4."""
    made = planted(name, seed=1)
    network = network_of(made)
    generator = torch.Generator().manual_seed(0)
    for group, pairs in zip(made.truth.alike, made.truth.witnesses, strict=True):
        assert pairs
        for _ in range(2):
            units = {la.name: 4 * torch.rand(la.units, generator=generator) for la in network.scored()}
            for layer, index in group:
                units[layer][index] = 0.0
            outputs = Scores(units).run(network, made.task.images)
            for whole, changed in pairs:
                shape, nothing = made.task.labels[[whole, changed]].tolist()
                apart = outputs[[whole, changed]][:, shape] - outputs[[whole, changed]][:, nothing]
                torch.testing.assert_close(apart[0], apart[1], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_scores_wake_a_silent_filter(variant, size):
    wiring = wire(variant, design_of(variant, size), np.random.default_rng(2))
    quiet = [unit for units in wiring.layers.values() for unit in units if unit.name.startswith(("silent", "waiting"))]
    assert len(quiet) >= 3
    for unit in quiet:
        assert unit.taps
        assert unit.bias < 0
        assert all(tap.weight <= 0 for tap in unit.taps)


@pytest.mark.parametrize("name", ["trained-small"])
def test_trained_filters_leave_the_planted_logits_alone(name):
    made = planted(name, seed=1)
    network = network_of(made)
    planted_logits = made.model(made.task.images)[:, :-3]
    rest = scores_of(network, frozenset().union(*made.truth.by_class.values()))
    torch.testing.assert_close(rest.run(network, made.task.images)[:, :-3], planted_logits)
    images, labels = further_images(np.random.default_rng(9), 20)
    found = made.model(torch.from_numpy(images)).argmax(-1) - planted_logits.shape[1]
    assert float((found == torch.from_numpy(labels)).double().mean()) > 0.6


@pytest.mark.parametrize("name", ["plain-small", "inhibition-small", "residual-small", "concatenated-small"])
def test_one_of_each_group_is_needed(name):
    made = planted(name)
    network = network_of(made)
    for unit in made.truth.filters:
        assert divergence(network, made.task, scores_of(network, made.truth.filters - {unit})) > made.truth.least_kl


def test_copies_can_stand_for_each_other():
    made = planted("copies-small")
    network = network_of(made)
    groups = [group for group in made.truth.alike if len(group) > 1]
    assert len(groups) == 3
    for group in groups:
        maps = []
        for unit in group:
            alone = scores_of(network, frozenset().union(*made.truth.by_class.values()) - group | {unit})
            doubled = alone.units[unit[0]].clone()
            doubled[unit[1]] = 2.0
            maps.append(Scores({**alone.units, unit[0]: doubled}).run(network, made.task.images))
        torch.testing.assert_close(maps[0], made.model(made.task.images))
        torch.testing.assert_close(maps[0], maps[1])


@pytest.mark.parametrize("name", ["plain-small", "trained-small", "residual-small"])
def test_the_same_seed_plants_the_same_network(name):
    one, same, other = (planted(name, seed=seed) for seed in (4, 4, 5))
    states = [made.model.state_dict() for made in (one, same, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert any(not torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert one.truth.filters == same.truth.filters != other.truth.filters
    assert torch.equal(one.task.images, same.task.images)


def test_noise_moves_weights_by_its_part_of_their_size():
    clean, noisy = planted("plain-small").model, planted("plain-small", noise=0.1).model
    for name, weight in clean.named_parameters():
        change = noisy.get_parameter(name) - weight
        if not name.endswith("weight") or name.startswith("head"):
            assert not change.any()
        else:
            size = weight[weight != 0].square().mean().sqrt()
            assert float(change.std() / size) == pytest.approx(0.1, rel=0.1)


def test_planting_leaves_the_random_state_alone():
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    planted("trained-small", noise=0.1)
    assert torch.equal(torch.rand(3), wanted)


def test_recovery_counts_groups_once():
    truth = planted("copies-small").truth
    one_each = [next(iter(group)) for group in truth.alike]
    assert truth.recovery(one_each) == Recovery(1.0, 1.0, True, 9, 9)
    assert truth.recovery([Filter(*place) for place in one_each]).exact
    everything = [place for group in truth.alike for place in group]
    assert truth.recovery(everything) == Recovery(9 / 12, 1.0, False, 12, 9)
    assert truth.recovery(one_each[:3]) == Recovery(1.0, 1 / 3, False, 3, 9)
    assert truth.recovery([]) == Recovery(0.0, 0.0, False, 0, 9)
    assert truth.first([*one_each, ("edges", 99)]).exact


def test_average_precision_is_that_of_scikit_learn_without_copies():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    truth = planted("plain-small").truth
    made = planted("plain-small")
    places = [(la.name, index) for la in network_of(made).scored() for index in range(la.units)]
    order = np.random.default_rng(0).permutation(len(places))
    flags = [places[i] in truth.filters for i in order]
    wanted = metrics.average_precision_score(flags, -np.arange(len(order)))
    assert average_precision(truth, [places[i] for i in order]) == pytest.approx(wanted)


def test_the_bound_is_the_sum_over_witnesses():
    outputs = torch.randn(6, 3, dtype=torch.float64)
    p, labels = outputs.softmax(-1).numpy(), torch.tensor([1, 0, 0, 2, 0, 0])

    def bound(a: int, b: int) -> float:
        some = p[[a, b]][:, [int(labels[a]), int(labels[b])]]
        share = some.sum(1)
        return 2 * share.min() * jensenshannon(some[0] / share[0], some[1] / share[1]) ** 2 / 6

    single, double = bound(0, 1), bound(0, 2) + bound(3, 4)
    assert least_divergence(outputs, labels, [[(0, 1), (0, 2)]]) == pytest.approx(single)  # they share an image
    assert least_divergence(outputs, labels, [[(0, 2), (3, 4)]]) == pytest.approx(double)
    assert least_divergence(outputs, labels, [[(0, 1)], [(0, 2), (3, 4)]]) == pytest.approx(min(single, double))


def test_no_scores_make_up_for_a_group_that_is_missing():
    """Tuned on the divergence from many starts, the rest stays above the bound."""
    made = planted("plain-small")
    network = network_of(made)
    original = network(made.task.images).log_softmax(-1)
    scored = ScoredNetwork(network)
    for group in made.truth.alike[::3]:
        units = {la.name: (3 * torch.rand(2, la.units)).requires_grad_(True) for la in network.scored()}
        mask = {la.name: torch.ones(la.units) for la in network.scored()}
        for layer, index in group:
            mask[layer][index] = 0.0
        adam = torch.optim.Adam(units.values(), lr=0.05)
        for _ in range(60):
            kls = []
            for start in range(2):
                outputs = scored(made.task.images, {n: (v[start] * mask[n]).clamp_min(0) for n, v in units.items()})[0]
                kls.append((original.exp() * (original - outputs.log_softmax(-1))).sum(-1).mean())
            adam.zero_grad()
            sum(kls).backward()
            adam.step()
            assert min(float(kl.detach()) for kl in kls) > made.truth.least_kl


@pytest.mark.parametrize("name", ["plain-small", "inhibition-small", "concatenated-small", *LARGER])
def test_the_budget_method_finds_the_truth(name):
    made = planted(name, seed=2)
    chain = extract(made.model, made.task, fidelity=FIDELITY, controls=False)
    assert made.truth.recovery(chain.subnetwork.list_filters()).exact


def test_bad_arguments_are_named():
    with pytest.raises(SettingsError, match=r"No planted network is called 'plan-small'; .*Did you mean plain-small"):
        planted("plan-small")
    with pytest.raises(SettingsError, match="noise is a number, 0 or more"):
        planted("plain-small", noise=-1)
    with pytest.raises(SettingsError, match="seed is a whole number"):
        planted("plain-small", seed=1.5)
