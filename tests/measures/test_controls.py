"""Controls: of the same size, seeded, what they say they are, and refitted like the chain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.transformers import images
from tests.transformers import traced as transformer

from neurochains.chains.scores import Scores
from neurochains.errors import SettingsError
from neurochains.measures import CONTROLS, control, map_sizes, measure_controls, measure_fidelity
from neurochains.measures import controls as module

SAME_SIZE = sorted(CONTROLS.keys() - {"complement"})
GLOBAL = [name for name in SAME_SIZE if name.endswith("_global")]
shares = st.tuples(st.floats(0.05, 0.9), st.integers(0, 10**6))


def drawn_scores(network, share: float, seed: int) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    units = {la.name: (torch.rand(la.units, generator=generator) < share).float() for la in network.scored()}
    return Scores(units)


def counts(scores: Scores) -> dict[str, int]:
    return {name: int(values.count_nonzero()) for name, values in scores.units.items()}


@pytest.mark.parametrize("name", SAME_SIZE)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=shares)
def test_controls_have_exactly_the_same_size(network, task, name, case):
    scores = drawn_scores(network, *case)
    found = control(name, network, task.images, scores, seed=case[1])
    assert found.kept == scores.kept
    assert list(found.units) == list(scores.units)
    if not name.endswith("_global"):
        assert counts(found) == counts(scores)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=shares)
def test_the_complement_is_all_the_rest(network, task, case):
    scores = drawn_scores(network, *case)
    found = control("complement", network, task.images, scores)
    for name, values in scores.units.items():
        assert torch.equal(found.units[name] != 0, values == 0)


@pytest.mark.parametrize("name", CONTROLS)
def test_the_same_seed_gives_the_same_control_and_scores_of_one(network, task, scores, name):
    found, again, other = (control(name, network, task.images, scores, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(values, again.units[layer]) for layer, values in found.units.items())
    changed = any(not torch.equal(values, other.units[layer]) for layer, values in found.units.items())
    assert changed == name.startswith("random")
    assert {float(value) for values in found.units.values() for value in values} == {0.0, 1.0}


def test_maps_are_measured_behind_their_activation(network, task):
    sizes = map_sizes(network, task.images, network.scored())
    stem = network.module.graph  # the stem's map goes through one ReLU; the block's last one into a sum
    values = {}
    for node in stem.nodes:
        if node.op == "placeholder":
            values[node] = task.images
        elif node.op == "get_attr":
            values[node] = getattr(network.module, node.target)
        elif node.op == "call_function":
            values[node] = node.target(*torch.fx.map_arg(node.args, values.__getitem__), **node.kwargs)
    sites = {name: values[network.layer(name).site] for name in ("stem.0", "outer", "expand")}
    for name, maps in (
        ("stem.0", sites["stem.0"].relu()),
        ("outer", sites["outer"]),
        ("expand", sites["expand"].clamp(0, 6)),
    ):
        torch.testing.assert_close(sizes[name], maps.square().sum((0, 2, 3)).sqrt())


def test_activation_keeps_the_largest_maps(network, task, scores):
    sizes = map_sizes(network, task.images, network.scored())
    found = control("activation", network, task.images, scores)
    for name in ("stem.0", "inner", "project"):
        kept = found.units[name] != 0
        assert sizes[name][kept].min() > sizes[name][~kept].max()
    everywhere = control("activation_global", network, task.images, scores)
    relative = {name: values / values.mean() for name, values in sizes.items()}
    chosen = torch.cat([relative[name][values != 0] for name, values in everywhere.units.items()])
    passed = torch.cat([relative[name][values == 0] for name, values in everywhere.units.items()])
    forced = sum(block_free(network, name) for name in relative)
    assert int((chosen < passed.max()).sum()) <= forced


def block_free(network, name: str) -> bool:
    return not any(name in block.layers for block in network.blocks)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kept=st.integers(4, 12), seed=st.integers(0, 10**6), name=st.sampled_from(["random_global", "activation_global"])
)
def test_layers_that_no_skip_replaces_keep_a_filter_and_empty_blocks_are_skipped(network, task, kept, seed, name):
    free = [layer for layer in network.scored() if block_free(network, layer.name)]
    assert len(free) == 4
    flat = torch.zeros(70)
    flat[torch.randperm(70, generator=torch.Generator().manual_seed(seed))[:kept]] = 1.0
    parts = flat.split([layer.units for layer in network.scored()])
    scores = Scores({layer.name: part for layer, part in zip(network.scored(), parts, strict=True)})
    found = control(name, network, task.images, scores, seed=seed)
    assert all(found.units[layer.name].any() for layer in free)
    for block in network.blocks:
        empty = not any(found.units[layer].any() for layer in block.layers)
        assert (block.name in found.skipped) == empty


@pytest.mark.parametrize("name", ["random", "activation"])
def test_depthwise_units_are_taken_where_their_source_is_kept(network, task, name):
    even = {name: torch.arange(0, 16, 4) for name in ("expand", "depthwise")}
    whole = Scores.ones(network.scored())
    units = {**whole.units, **Scores.from_filters([network.layer("expand"), network.layer("depthwise")], even).units}
    found = control(name, network, task.images, Scores(units), seed=3)
    assert torch.equal(found.units["expand"], found.units["depthwise"])


def test_the_blocks_of_the_chain_stay_skipped_where_its_counts_are_kept(network, task, scores):
    (block,) = (block for block in network.blocks if "inner" in block.layers)
    units = {**scores.units, "inner": torch.zeros(10), "outer": torch.zeros(8)}
    found = control("random", network, task.images, Scores(units, {block.name: 0.0}))
    assert found.skipped == (block.name,)


def test_controls_are_measured_on_given_and_held_out_images(network, task, scores):
    measured = measure_controls(network, task, scores, steps=0, seed=7, names=["random", "complement"])
    assert list(measured) == ["random", "complement"]
    for name, found in measured.items():
        wanted = measure_fidelity(network, task, control(name, network, task.images, scores, seed=7))
        assert found.to_json() == wanted.to_json()
    assert measured["random"].held_out.images == 5


def test_the_refit_lowers_the_divergence_of_all_but_the_complement(network, task, scores):
    plain = measure_controls(network, task, scores, steps=0)
    tuned = measure_controls(network, task, scores, steps=15)
    assert list(tuned) == list(CONTROLS)
    for name in SAME_SIZE:
        assert tuned[name].given.kl < plain[name].given.kl
    assert tuned["complement"].to_json() == plain["complement"].to_json()


def test_objective_and_steps_reach_the_refit(network, task, scores, monkeypatch):
    given_ = []
    monkeypatch.setattr(module, "refit", lambda _n, _i, found, **how: given_.append(how) or found)
    measured = measure_controls(network, task, scores, objective="mse", steps=9, names=["random"])
    assert given_ == [{"objective": "mse", "steps": 9}]
    assert measured["random"].given.kl is None


def test_unknown_controls_are_named(network, task, scores):
    with pytest.raises(SettingsError, match=r"No control is called 'radom'; there are random, .*Did you mean random"):
        control("radom", network, task.images, scores)
    with pytest.raises(SettingsError, match="No objective is called"):
        measure_controls(network, task, scores, objective="l3")


@pytest.mark.parametrize("name", GLOBAL)
@pytest.mark.parametrize(("units", "skipped"), [(("hidden",), {"mlp"}), (("heads", "hidden"), {"mlp", "attn"})])
def test_a_block_with_units_that_are_not_scored_is_never_skipped(name, units, skipped):
    network = transformer("bundled")
    layers = network.scored(units)
    few = Scores.from_filters(layers, {layer.name: torch.arange(layer is layers[0]) for layer in layers})
    found = control(name, network, images(), few, seed=1)
    assert {block.split(".")[-1] for block in found.skipped} == skipped
    for block in network.blocks:
        inside = [layer.name for layer in network.units_in(block)]
        everything = bool(inside) and all(layer in found.units for layer in inside)
        assert (block.name in found.skipped) == (everything and not any(found.units[la].any() for la in inside))
