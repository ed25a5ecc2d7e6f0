"""The content of a report: every number in it is that of the chain, every picture where it belongs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import neurochains as nc
from neurochains.chains import Chain, Scores
from neurochains.chains.contributions import contributions
from neurochains.chains.goal import Goal
from neurochains.data import Task
from neurochains.extraction.options import Options
from neurochains.network import Network
from neurochains.report import collect
from neurochains.report.answers import answer, in_turn, rows_by_class
from neurochains.report.maps import maps_of, smoe_layers, smoe_maps
from neurochains.report.origin import origin
from neurochains.report.structure import architecture, kept_layers
from neurochains.report.verdict import facts, notes, title, verdict, warnings
from neurochains.report.visuals import paint, scaled_steps

METRICS = {
    "filters": 77,
    "of": 26560,
    "layers": 13,
    "layers_of": 53,
    "kl": 0.0432,
    "divergence": 0.0432,
    "agreement": 1.0,
    "macs": 10,
    "macs_of": 1000,
}


def test_the_verdict_is_one_plain_sentence(chain):
    assert verdict(chain, METRICS) == (
        "77 of 26,560 filters in 13 of 53 layers reproduce the outputs on these 4 images: mean KL 0.043, "
        "every prediction kept."
    )
    worse = verdict(chain, {**METRICS, "kl": 0.9, "divergence": 0.9, "agreement": 0.75})
    assert worse.endswith(
        "only roughly approximate the outputs on these 4 images: mean KL 0.900, 3 of 4 predictions kept."
    )
    assert title(chain) == "red striped disc and green dotted square"
    assert [fact.value for fact in facts(chain, METRICS)] == ["0.3 %", "0.043", "100 %", "1.0 %"]


def test_what_speaks_against_a_chain_is_said(chain, alone):
    said = " ".join(warnings(chain, {**METRICS, "held_out": {"agreement": 0.5, "images": 8}, "parity": 0.01}))
    assert "On 8 images that were held out, only 50 % of the predictions are kept" in said
    assert "Compacted, the sub-network differs from the scored one by 0.01" in said
    assert "5 images or fewer of red striped disc, green dotted square" in said
    said = " ".join(warnings(alone, {**METRICS, "controls": {"random_global": {"divergence": 0.01}}}))
    assert "on one image" in said
    assert "The control “random, any layer” is as faithful" in said
    assert "No images were held out" in said
    held = {"agreement": 1.0, "divergence": 2.0}
    controls = {"random": {"divergence": 1.0, "held_out": {"divergence": 1.5}}, "complement": {"divergence": 1.0}}
    said = " ".join(warnings(chain, {**METRICS, "held_out": held, "controls": controls}))
    assert "On images held out, the chain is no nearer to the original than 1 of its 2 controls." in said
    asked = " ".join(warnings(chain, {**METRICS, "divergence": 0.06}))
    assert "above the 0.05 that was asked for" in asked


def test_the_certificate_is_claimed_only_where_it_holds(chain):
    kept = chain.subnetwork.kept
    high = {name: torch.where(values > 0, 0.2, math.nan) for name, values in chain.scores.items()}
    minimal = Chain(chain.network, chain.task, chain.subnetwork, chain.settings, {}, high)
    metrics = {**METRICS, "filters": kept}
    assert notes(minimal, metrics)[0].startswith(
        "No filter can be spared: without any one of them the mean KL is at least"
    )
    assert notes(minimal, {**metrics, "divergence": 0.06}) == ()
    low = {name: torch.where(values > 0, 0.04, math.nan) for name, values in chain.scores.items()}
    spare = Chain(chain.network, chain.task, chain.subnetwork, chain.settings, {}, low)
    assert notes(spare, metrics) == ()


def test_images_show_what_both_networks_say(chain, report):
    with torch.no_grad():
        probabilities = chain.network(chain.task.images).softmax(-1)
        reduced = chain.subnetwork.run(chain.network, chain.task.images).softmax(-1)
    order = [chain.task.names.index(view.name) for view in report.images]
    assert order == [0, 2, 1, 3]  # by class
    for row, view in zip(order, report.images):
        label = int(probabilities[row].argmax())
        assert view.original.text == chain.task.label_name(label)
        assert view.original.probability == pytest.approx(float(probabilities[row, label]), abs=1e-4)
        assert view.reduced.probability == pytest.approx(float(reduced[row].max()), abs=1e-4)
        assert view.kept == (int(reduced[row].argmax()) == label)
        assert np.array_equal(view.pixels, chain.task.pixels[row].permute(1, 2, 0).numpy())


def test_a_few_images_are_taken_from_each_class_in_turn(chain):
    answers = answer(chain, chain.task)
    assert rows_by_class(answers) == {0: (0, 2), 5: (1, 3)}
    assert in_turn(answers, 2) == [0, 1]
    assert in_turn(answers, 3) == [0, 2, 1]
    assert len(collect(chain, visual_steps=0, max_samples=2, paths_per_class=1).images) == 2


def test_chains_are_those_of_the_paths(chain, report):
    paths = chain.paths(2)
    assert [view.name for view in report.classes] == [chain.task.label_name(label) for label in paths]
    for view, several in zip(report.classes, paths.values()):
        assert [one.words for one in view.chains] == [" > ".join(step.label for step in path.steps) for path in several]
        for one in view.chains:
            for step in one.steps:
                assert step.visual is not None
                assert len(step.heatmaps) == 1
                assert 1 <= len(step.crops) <= 4
                unit = chain.network.filter(step.label)
                assert step.score == pytest.approx(float(chain.scores[unit.layer][unit.index]))


def test_the_largest_value_is_that_of_the_original_network(chain, report):
    step = report.classes[0].chains[0].steps[-1]
    unit = chain.network.filter(step.label)
    maps = torch.cat(
        [found[unit.layer][:, unit.index] for found in maps_of(chain.network, chain.task.images, [unit.layer])]
    )
    assert step.largest == pytest.approx(float(maps.max()), rel=1e-5)


def test_a_skipped_block_and_a_removed_layer_are_shown():
    network = Network.trace(nc.load_model("shapes:resnet"), Task.shapes(1).images)
    units = {layer.name: (torch.arange(layer.units) < 2).float() for layer in network.scored()}
    empty = [name for block in network.blocks[:2] for name in block.layers]
    units |= {name: torch.zeros_like(units[name]) for name in [*empty, "layer4.1.conv1"]}
    made = Chain(network, Task.shapes(2, classes=[0, 5]), Scores(units, {network.blocks[0].name: 0.0}))
    view = architecture(made, contributions(network, made.task, made.subnetwork), "title")
    assert [(block.name, block.skipped) for block in view.blocks] == [
        ("L1B2", True),
        ("L2B2", True),
        ("L3B2", False),
        ("L4B2", False),
    ]
    assert view.columns[0].unit_names == ("red", "green", "blue")
    assert view.columns[-1].kept == (0, 5)
    assert (
        view.summary
        == f"{made.subnetwork.kept} of {made.subnetwork.total:,} filters in {len(made.filters)} of 29 layers"
    )
    assert sum(len(layer.units) for layer in kept_layers(made)) == made.subnetwork.kept
    assert kept_layers(made)[0].units[0].left_out is None


def test_kernels_are_those_of_the_contributions(chain, report, monkeypatch):
    found = contributions(chain.network, chain.task, chain.subnetwork)
    names = [column.name for column in report.architecture.columns]
    literal = {
        (str(edge.source), str(edge.target)): max(edge.contributions.values(), key=abs) for edge in found.edges()
    }
    drawn = {
        (f"{names[edge.source_column]}[{edge.source}]", f"{names[edge.target_column]}[{edge.target}]"): edge.weight
        for edge in report.architecture.edges
    }
    assert drawn == pytest.approx(literal)
    assert report.architecture.kernels == len(literal)
    monkeypatch.setattr("neurochains.report.structure.MOST_BETWEEN", 3)
    few = architecture(chain, found, "")
    assert few.kernels == len(literal)
    assert len(few.edges) == 3 * len(found.kernels)


def test_saliency_maps_of_the_sub_network_are_its_own(chain):
    layers = smoe_layers(chain.network, chain.subnetwork)
    assert layers == list(chain.filters)
    original = smoe_maps(chain.network, chain.task.images[:1], layers)
    everything = Scores.ones(chain.network.scored())
    again = smoe_maps(chain.network, chain.task.images[:1], layers, everything)
    reduced = smoe_maps(chain.network, chain.task.images[:1], layers, chain.subnetwork)
    assert all(torch.equal(a, b) for a, b in zip(original, again))
    assert not torch.equal(original[-1], reduced[-1])
    assert all(float(one.min()) >= 0 and float(one.max()) <= 1 for one in reduced)


def test_pictures_of_early_filters_are_small_and_raise_them(chain):
    images = chain.task.images
    first, last = chain.network.scored()[0].name, chain.network.scored()[-1].name
    found = paint(chain.network, {first: [0, 1], last: [3]}, images, steps=4)
    assert [str(unit) for unit in found] == [f"{first}[0]", f"{first}[1]", f"{last}[3]"]
    assert all(one.pixels.shape == (64, 64, 3) and math.isfinite(one.peak) for one in found.values())
    again = paint(chain.network, {last: [3]}, images, steps=4)
    assert np.array_equal(*(next(u.pixels for k, u in one.items() if k.layer == last) for one in (found, again)))


def test_large_networks_get_fewer_steps(chain, monkeypatch):
    wanted = {chain.network.scored()[-1].name: [0, 1, 2]}
    assert scaled_steps(chain.network, wanted, 96) == 96
    monkeypatch.setattr("neurochains.report.visuals.WORK", 1e6)
    assert scaled_steps(chain.network, wanted, 96) == 32
    assert scaled_steps(chain.network, {}, 7) == 7


def test_a_further_image_is_seen_beside_its_class(chain, report):
    (study,) = report.studies
    assert study.image.truth == "yellow striped disc"
    assert study.beside in ("red striped disc", "green dotted square")
    assert study.likeness is not None
    assert list(study.likeness.layers) == [chain.network.layer(name).label for name in chain.filters]
    assert set(study.likeness.similarity) == {"red striped disc", "green dotted square"}
    for view in study.classes:
        assert all(len(step.heatmaps) == 2 for step in view.chains[0].steps)
    assert study.smoe is not None
    assert next(one.name for one in study.smoe.images) == study.image.name


@pytest.mark.parametrize(
    ("options", "said"), [({}, ""), ({"effort": "thorough"}, ", effort='thorough'"), ({"refit": 5}, ", refit=5")]
)
def test_origin_passes_what_is_no_default(chain, options, said):
    settings = Options(**options).to_json(Goal(divergence=0.05))
    again = origin(Chain(chain.network, chain.task, chain.subnetwork, settings)).python
    assert again.splitlines()[-1] == f"chain = nc.extract(model, task, fidelity=0.05{said}, seed=0)"


def test_origin_says_how_to_do_it_again(chain):
    found = origin(chain)
    assert found.python.splitlines()[2:] == [
        "model = nc.load_model('shapes:vgg')",
        "task = nc.Task.shapes(4, seed=0, split='test', classes=[0, 5])",
        "chain = nc.extract(model, task, fidelity=0.05, seed=0)",
    ]
    task = Task(chain.task.images, chain.task.labels, chain.task.class_names, names=[f"a/{i}.png" for i in range(4)])
    settings = {"size": 20, "method": "paper", "gates": True, "refit": 100, "seed": 3}
    other = origin(Chain(chain.network, task, chain.subnetwork, settings))
    assert other.python.endswith("chain = nc.extract(model, task, size=20, method='paper', seed=3)")
    assert other.command == (
        "neurochains extract --model shapes:vgg --images IMAGES --classes 'red striped disc' 'green dotted square' "
        "--per-class 2 --size 20 --method paper --seed 3 --out RUN"
    )
    other = Chain(chain.network, task, chain.subnetwork, provenance={"command": "neurochains extract --x"})
    assert origin(other).command == "neurochains extract --x"
