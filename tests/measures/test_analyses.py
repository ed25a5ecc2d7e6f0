"""The measures of the papers' analyses against their protocols written out, and what all of them promise."""

from __future__ import annotations

import json
import math
from dataclasses import is_dataclass, replace

import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from neurochains.attacks import fgsm, pgd
from neurochains.chains import Chain, Scores
from neurochains.data import Task
from neurochains.edit import tap
from neurochains.errors import DataError, SettingsError
from neurochains.measures import (
    MEASURES,
    control,
    measure_baselines,
    measure_classes,
    measure_gates,
    measure_locality,
    measure_maps,
    measure_quotients,
    measure_removal,
    measure_robustness,
    measure_samples,
    measure_seeds,
    measure_size_fidelity,
    measure_stability,
    quotient,
)
from neurochains.measures.features import nearest, penultimate, relu_pattern
from neurochains.measures.variation import against_the_rest, settings_of
from neurochains.pictures import smoe
from neurochains.preprocess import Preprocess

HOW = Preprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
LABELS = [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.fixture(scope="module")
def chains(network) -> list[Chain]:
    """Two chains with halves of the filters; their images are pixels in [0, 1], normalised by `HOW`."""
    found = []
    for seed in range(2):
        generator = torch.Generator().manual_seed(seed)
        images = [(torch.rand(n, 3, 8, 8, generator=generator) - 0.5) / 0.25 for n in (8, 24)]
        task = Task(images[0], LABELS, held_out=Task(images[1], LABELS * 3))
        units = {
            layer.name: (torch.rand(layer.units, generator=generator) < 0.6) * 1.0 + 0.0 for layer in network.scored()
        }
        for values in units.values():
            values *= 0.5 + torch.rand(len(values), generator=generator)
            values[0] = 0.8
        settings = {
            "fidelity": 0.1,
            "method": "budget",
            "objective": "kl",
            "gates": False,
            "seed": 3,
            "units": ["filters"],
        }
        found.append(Chain(network, task, Scores(units), settings))
    return found


class Extract:
    """Keeps as many filters of each layer as the task has images, moved on by the seed; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, network, task, **options) -> Chain:
        self.asked.append((task, options))
        shift = options.get("seed", 0)
        units = {}
        for layer in network.scored():
            units[layer.name] = torch.zeros(layer.units)
            units[layer.name][[(place + shift) % layer.units for place in range(min(len(task), layer.units))]] = 1.0
        gates = {network.blocks[0].name: 0.0} if options.get("gates") else {}
        return Chain(network, task, Scores(units, gates), metrics={"divergence": 0.1 * len(task)})


FURTHER = {
    "robustness": {"preprocess": HOW, "steps": 0, "eps": (4 / 255,), "attacks": ("fgsm",), "controls": ()},
    "baselines": {"steps": 0},
}
EXTRACTING = ("gates", "classes", "samples", "seeds")


@pytest.mark.parametrize("name", MEASURES)
def test_every_measure_is_a_function_of_model_chain_and_task(name, network, chains):
    further = {"extract": Extract()} if name in EXTRACTING else FURTHER.get(name, {})
    before = {key: value.clone() for key, value in network.module.state_dict().items()}
    one = MEASURES[name](network, chains[0], chains[0].task, **further)
    several = MEASURES[name](None, chains, None, **further)
    for found in (one, several):
        assert is_dataclass(found)
        assert type(found).__dataclass_params__.frozen
        assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()
    assert all(torch.equal(value, before[key]) for key, value in network.module.state_dict().items())
    with pytest.raises(DataError, match="at least one chain"):
        MEASURES[name](None, [], None, **further)
    with pytest.raises(DataError, match="of a model with other weights"):
        MEASURES[name](torch.nn.Linear(2, 2).eval(), chains, None, **further)


def test_size_and_fidelity_of_each(network, chains):
    found = measure_size_fidelity(None, chains)
    for row, chain in zip(found.rows, chains):
        p = network(chain.task.images).softmax(-1)
        q = chain.subnetwork.run(network, chain.task.images).softmax(-1)
        first = p.argmax(-1)
        assert row.filters == chain.subnetwork.kept
        assert row.kl == pytest.approx(float((p * (p / q).log()).sum(-1).mean()), rel=1e-3)
        drops = (p - q)[torch.arange(8), first]
        assert row.drops == pytest.approx(drops.tolist(), abs=1e-5)
        assert row.drop == pytest.approx(float(drops.mean()), abs=1e-5)
    assert found.mean("share").value == pytest.approx(sum(r.filters / r.of for r in found.rows) / 2)


def test_removal_is_that_of_whole_runs(network, chains):
    found = measure_removal(None, chains)
    removed, chain = found.removed[1], chains[1]
    original = network(chain.task.images)
    before = chain.subnetwork.run(network, chain.task.images)
    first, rows = original.argmax(-1), torch.arange(8)
    assert removed.filters == tuple(chain.subnetwork.list_filters())
    for place in range(0, len(removed.filters), 7):
        unit = removed.filters[place]
        after = chain.subnetwork.without(unit).run(network, chain.task.images)
        drop = (before.softmax(-1) - after.softmax(-1))[rows, first].mean()
        change = F.kl_div(after.log_softmax(-1), before.softmax(-1), reduction="batchmean")
        torch.testing.assert_close(removed.drop[place], drop, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(removed.change[place], change, rtol=1e-2, atol=1e-5)
        assert float(removed.negative[place]) == pytest.approx(float((quotient(original, after) < 0).double().mean()))
        assert float(removed.score[place]) == float(chain.scores[unit.layer][unit.index])
    scores, drops = (torch.cat([getattr(part, name) for part in found.removed]) for name in ("score", "drop"))
    assert found.correlation("drop").pearson == pytest.approx(stats.pearsonr(scores, drops).statistic, abs=1e-5)
    bins = found.bins("drop", count=4)
    assert sum(each.filters for each in bins) == len(scores)
    inside = (scores >= bins[1].low) & (scores < bins[1].high)
    assert bins[1].mean.value == pytest.approx(float(drops[inside].mean()), abs=1e-6)


def test_quotients_are_pooled(network, chains):
    found = measure_quotients(None, chains)
    values = torch.cat([quotient(network(c.task.images), c.subnetwork.run(network, c.task.images)) for c in chains])
    assert found.negative.value == pytest.approx(float((values < 0).double().mean()))
    assert found.quantile(0.5).value == pytest.approx(float(values.quantile(0.5)), rel=1e-3)


def test_baselines_have_the_size_of_the_chain(network, chains):
    found = measure_baselines(None, chains, names=("random", "activation"), steps=0, seed=5)
    assert list(found.given) == ["chain", "random", "activation"]
    other = control("random", network, chains[1].task.images, chains[1].subnetwork, seed=6)
    assert other.kept == chains[1].subnetwork.kept
    p, q = network(chains[1].task.images).log_softmax(-1), other.run(network, chains[1].task.images).log_softmax(-1)
    torch.testing.assert_close(found.given["random"][1].float(), (p.exp() * (p - q)).sum(-1), rtol=1e-3, atol=1e-5)
    every = torch.cat(found.given["random"])
    cut = float(every.median())
    assert found.share_of_images("random", 0, cut).value == pytest.approx(float((every <= cut).double().mean()))
    means = [float(each.mean()) for each in found.given["chain"]]
    assert found.share("chain", 0, min(means)).value == 0.5
    assert len(found.held_out["chain"][0]) == 24


def test_what_the_last_layer_reads_makes_its_outputs(network, chains):
    images = chains[0].task.images
    head = network.layer("head")
    features = penultimate(network, images)
    assert features.shape == (8, 12)
    tensors = [*network.module.parameters(), *network.module.buffers()]
    weight = next(value for value in tensors if value.shape == (4, 12))
    bias = next(value for value in tensors if value.shape == (4,))
    assert head.role == "head"
    torch.testing.assert_close(8 * (features @ weight.T + bias), network(images), rtol=1e-4, atol=1e-4)


def test_neighbours_are_sorted_by_their_distance():
    one, other = torch.randn(4, 6), torch.randn(9, 6)
    distances, order = nearest(one, other)
    for row in range(4):
        wanted = sorted(range(9), key=lambda place: float((one[row] - other[place]).norm()))
        assert order[row].tolist() == wanted
        assert distances[row, 0] == pytest.approx(float((one[row] - other[wanted[0]]).norm()))
    bits, others = one > 0, other > 0
    assert nearest(bits, others)[0][0].tolist() == sorted(int((bits[0] != each).sum()) for each in others)


def test_stability_is_the_agreement_on_neighbours(network, chains):
    found = measure_stability(None, chains[0], neighbours=(2, 5, 99))
    assert [row.neighbours for row in found.rows] == [2, 5]
    task = chains[0].task
    near = torch.cdist(penultimate(network, task.images), penultimate(network, task.held_out.images)).argsort(1)[:, :5]
    first = network(task.held_out.images).argmax(-1)
    second = chains[0].subnetwork.run(network, task.held_out.images).argmax(-1)
    chosen = near.flatten()
    assert found.rows[1].agreement.value == pytest.approx(float((first == second)[chosen].double().mean()))
    right = (second == task.held_out.labels)[chosen].double().mean()
    assert found.rows[1].accuracy.value == pytest.approx(float(right))
    with pytest.raises(DataError, match="has none held out"):
        measure_stability(None, chains[0], Task(task.images))
    with pytest.raises(SettingsError, match="neighbours are whole numbers"):
        measure_stability(None, chains[0], neighbours=(0,))


def test_locality_compares_two_kinds_of_neighbours(network, chains):
    found = measure_locality(None, chains[0], neighbours=3)
    task = chains[0].task
    near = torch.cdist(penultimate(network, task.images), penultimate(network, task.held_out.images))
    bits, others = relu_pattern(network, task.images), relu_pattern(network, task.held_out.images)
    by_bits = (bits[:, None] != others[None]).sum(2).sort(dim=1, stable=True).indices[:, :3]
    by_features = near.argsort(1)[:, :3]
    common = [len(set(a.tolist()) & set(b.tolist())) / 3 for a, b in zip(by_bits, by_features)]
    assert found.common.value == pytest.approx(sum(common) / 8)
    assert found.pattern.distance.value == pytest.approx(
        float((near.gather(1, by_bits) / near.mean()).mean()), rel=1e-3
    )
    assert found.penultimate.distance.value < found.pattern.distance.value


def test_attacks_are_made_for_the_original_and_for_each(network, chains):
    eps = 8 / 255
    found = measure_robustness(None, chains[0], attacks=("fgsm", "pgd-10"), eps=(eps,), preprocess=HOW, steps=0, seed=2)
    task, sub = chains[0].task, chains[0].subnetwork
    labels = task.labels
    original = lambda pixels: network((pixels - 0.5) / 0.25)  # noqa: E731
    chain = lambda pixels: sub.run(network, (pixels - 0.5) / 0.25)  # noqa: E731
    pixels = task.images * 0.25 + 0.5

    def sure(run, images):
        return run(images).softmax(-1)[torch.arange(8), labels].double()

    close = {"rtol": 1e-3, "atol": 1e-3}
    moved = fgsm(original, pixels, labels, eps=eps)
    torch.testing.assert_close(found.row("chain", "fgsm", "transfer", eps).probability[0], sure(chain, moved), **close)
    torch.testing.assert_close(
        found.row("original", "fgsm", "white box", eps).probability[0], sure(original, moved), **close
    )
    own = pgd(chain, pixels, labels, eps=eps, steps=10, seed=2)
    torch.testing.assert_close(found.row("chain", "pgd-10", "white box", eps).probability[0], sure(chain, own), **close)
    clean = found.row("chain", "none", "clean", 0.0)
    torch.testing.assert_close(clean.probability[0], sure(chain, pixels), **close)
    assert found.row("chain", "pgd-10", "white box", eps).mean.value < clean.mean.value
    names = {row.network for row in found.rows}
    assert names == {"original", "chain", "random", "activation", "original, restricted"}
    assert len(found.row("random", "fgsm", "transfer", eps, "held out").right[0]) == 24
    with pytest.raises(SettingsError, match=r"No attack is called 'pgd'; .*Did you mean pgd"):
        measure_robustness(None, chains[0], attacks=("pgd",), preprocess=HOW)
    with pytest.raises(SettingsError, match="not known how this model's images are normalised"):
        measure_robustness(None, chains[0])
    with pytest.raises(DataError, match=r"outside \[0, 1\]"):
        measure_robustness(None, chains[0], preprocess=replace(HOW, std=(1.0,) * 3))


def test_maps_of_the_whole_network_are_its_own(network, chains, whole):
    same = measure_maps(None, replace(chains[0], subnetwork=whole))
    assert all(row.smoe == pytest.approx(1) and row.both == 1 for row in same.rows[0] if row.smoe is not None)
    found = measure_maps(None, chains[0]).rows[0]
    first = found[0]
    assert first.layer == "stem.0"
    site = network.layer("stem.0")
    original = tap(network, [site.name])(chains[0].task.images)[1][site.name].relu()
    sub = original * chains[0].scores["stem.0"].view(1, -1, 1, 1)
    pairs = zip(smoe(original).flatten(1), smoe(sub).flatten(1))
    assert first.smoe == pytest.approx(sum(stats.pearsonr(a, b).statistic for a, b in pairs) / 8, abs=1e-4)
    assert first.firing == pytest.approx(1, abs=1e-4)  # a score of the first layer only scales its maps
    assert first.both == 1


def test_gates_are_switched_and_all_else_kept(chains):
    extract = Extract()
    found = measure_gates(None, chains, extract=extract)
    assert [row.condition for row in found.rows] == ["with gates", "without gates"]
    assert found.row("with gates").blocks_skipped.value == 1
    assert found.row("without gates").blocks_skipped.value == 0
    assert [options["gates"] for _, options in extract.asked] == [True, True, False, False]
    assert all(options["fidelity"] == 0.1 and options["seed"] == 3 for _, options in extract.asked)


def test_classes_grow_one_by_one_and_stand_against_the_rest(network, chains):
    extract = Extract()
    found = measure_classes(None, chains[0], extract=extract, most=3)
    names = [f"{count} classes" for count in (1, 2, 3)] + [f"class {label} against the rest" for label in (0, 1, 2)]
    assert [row.condition for row in found.rows] == names
    assert [task.classes for task, _ in extract.asked[:3]] == [(0,), (0, 1), (0, 1, 2)]
    outputs, original = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    p, q = original.softmax(-1)[:, 1], outputs.softmax(-1)[:, 1]
    wanted = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(extract.asked[4][1]["objective"](outputs, original), wanted)
    torch.testing.assert_close(against_the_rest(1)(outputs, original), wanted)
    unlabelled = Task(chains[0].task.images)
    with pytest.raises(DataError, match="the task has none"):
        measure_classes(None, chains[0], unlabelled, extract=extract)


def test_samples_are_the_first_of_each_class_and_measured_on_held_out_ones(network, chains):
    extract = Extract()
    found = measure_samples(None, chains[0], extract=extract, counts=(2, 1, 5))
    assert [row.condition for row in found.rows] == ["1 of each class", "2 of each class"]
    assert [len(task) for task, _ in extract.asked] == [4, 8]
    held = chains[0].task.held_out
    again = Extract()(network, chains[0].task).subnetwork.run(network, held.images).argmax(-1)
    assert found.rows[1].agreement.value == pytest.approx(
        float((again == network(held.images).argmax(-1)).float().mean())
    )
    assert found.rows[1].accuracy.value == pytest.approx(float((again == held.labels).float().mean()))
    with pytest.raises(SettingsError, match="No class has 7 images"):
        measure_samples(None, chains[0], extract=extract, counts=(7,))


def test_seeds_differ_in_size_and_overlap(chains):
    found = measure_seeds(None, chains[0], extract=Extract(), seeds=(0, 1))
    kept = [min(8, units) for units in (8, 10, 8, 16, 16, 12)]
    shared = sum(8 if units == 8 else 7 for units in (8, 10, 8, 16, 16, 12))
    assert found.sizes == ((sum(kept), sum(kept)),)
    assert found.deviation.value == 0
    assert found.overlap.value == pytest.approx(shared / (2 * sum(kept) - shared))
    with pytest.raises(SettingsError, match="two seeds or more"):
        measure_seeds(None, chains[0], extract=Extract(), seeds=(1,))


def test_settings_are_those_of_the_extraction(chains):
    assert settings_of(chains[0])["units"] == ["filters"]
    assert math.isclose(settings_of(chains[0])["fidelity"], 0.1)
    other = replace(chains[0], settings={"objective": "my_own"})
    with pytest.raises(SettingsError, match="objective of its own, 'my_own'"):
        settings_of(other)
