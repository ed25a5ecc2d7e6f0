"""The probe against taps, scores and edited models."""

from __future__ import annotations

import pytest
import torch
from tests.architectures import ARCHITECTURES, build, images, traced
from tests.circuits.literal import names_to

from neurochains.circuits import Target
from neurochains.circuits.probe import Probe, layers_to
from neurochains.data import Task
from neurochains.edit import ScoredNetwork, tap
from neurochains.errors import LayerError, SettingsError


def opened(name, text, count=3):
    network = traced(name)
    target = Target.parse(text, network)
    probe = Probe(network, target, layers_to(network, target))
    values, layers = probe.run(images(count), None)
    return network, probe, values, layers


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_target_and_the_maps_are_those_of_the_network(name):
    network, _, values, layers = opened(name, "logit:1")
    logits, maps = tap(network, [layer.layer.name for layer in layers])(images(3))
    torch.testing.assert_close(values, logits[:, 1])
    for layer in layers:
        torch.testing.assert_close(layer.map, maps[layer.layer.name])


@pytest.mark.parametrize("name", ["residual", "grouped", "channels last", "reused", "windows"])
def test_the_slopes_say_what_scores_would_change(name):
    """The gradient at a score of 1 is the sum of map times gradient."""
    network, probe, values, layers = opened(name, "logit:1")
    scores = {layer.layer.name: torch.ones(layer.layer.units, dtype=torch.float64).requires_grad_() for layer in layers}
    logits, _ = ScoredNetwork(network, layers=probe.layers)(images(3), scores)
    wanted = torch.autograd.grad(logits[:, 1].sum(), list(scores.values()))
    for layer, (_, slope), gradient in zip(layers, probe.slopes(values, layers), wanted, strict=True):
        found = (layer.map * slope).movedim(layer.layer.axis, 0).flatten(1).sum(1)
        torch.testing.assert_close(found, gradient)


def test_only_what_leads_to_the_target_is_run():
    network, probe, values, layers = opened("residual", "b[2]")
    assert [layer.layer.name for layer in layers] == ["stem.0", "a.0", "b"]
    assert not any("head" in str(node.target) for node in probe._graph.graph.nodes)
    torch.testing.assert_close(values, tap(network, ["b"])(images(3))[1]["b"][:, 2].mean((1, 2)))


def test_given_weights_take_the_place_of_the_models():
    network = traced("grouped")
    target = Target.parse("logit:0", network)
    probe = Probe(network, target, layers_to(network, target))
    before = {name: values.clone() for name, values in probe.weights().items()}
    mask = torch.ones_like(before["b.0"])
    mask[3, 1] = 0.0
    values, _ = probe.run(images(2), None, {"b.0": before["b.0"] * mask})
    model = build("grouped")
    with torch.no_grad():
        model.b[0].weight[3, 1] = 0.0
        torch.testing.assert_close(values, model(images(2))[:, 0])
    assert all(torch.equal(values, before[name]) for name, values in probe.weights().items())


def test_gradients_are_there_whatever_the_mode():
    with torch.no_grad():
        _, probe, values, layers = opened("residual", "logit:0")
        slopes = probe.slopes(values, layers)
    assert all(slope.any() for pair in slopes for slope in pair)


def test_batches_hold_all_images_in_order():
    network = traced("residual")
    probe = Probe(network, Target.parse("logit:0", network), ())
    task = Task(images(7), [0, 1, 2, 3, 4, 0, 1])
    for size, lengths in ((3, [3, 3, 1]), (7, [7]), (100, [7]), (None, [7])):
        batches = list(probe.batches(task, size))
        assert [len(batch) for batch, _ in batches] == lengths
        assert torch.equal(torch.cat([batch for batch, _ in batches]), task.images)
        assert torch.equal(torch.cat([labels for _, labels in batches]), task.labels)
    for wrong in (0, -1, 2.0):
        with pytest.raises(SettingsError, match="A batch size is a whole number of images, 1 or more"):
            list(probe.batches(task, wrong))


def test_a_batch_is_no_larger_than_its_maps_allow(monkeypatch):
    network = traced("residual")
    probe = Probe(network, Target.parse("logit:0", network), ())
    monkeypatch.setattr("neurochains.circuits.probe._MAPS_BYTES", 2 * probe._bytes_of_an_image())
    assert [len(batch) for batch, _ in probe.batches(Task(images(5)), None)] == [2, 2, 1]
    monkeypatch.setattr("neurochains.circuits.probe._MAPS_BYTES", 1)
    assert [len(batch) for batch, _ in probe.batches(Task(images(2)), None)] == [1, 1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_layers_that_lead_to_the_logits_are_found(name):
    network = traced(name)
    target = Target.parse("logit:0", network)
    wanted = names_to(network, target.end(network))
    scored = [layer.name for layer in network.scored() if layer.name in wanted]
    assert [layer.name for layer in layers_to(network, target)] == scored
    assert [layer.name for layer in layers_to(network, target, wanted[::-1])] == wanted


def test_layers_that_do_not_lead_there_are_refused():
    network = traced("residual")
    target = Target.parse("b[2]", network)
    with pytest.raises(
        LayerError, match=r"c\.0, head lies behind or beside the target 'b\[2\]'\. To it lead: stem\.0, a\.0"
    ):
        layers_to(network, target, ["a.0", "head", "c.0"])
    with pytest.raises(LayerError, match="No layer was named for the target"):
        layers_to(network, target, [])
    with pytest.raises(LayerError, match="No layer is called 'x'"):
        layers_to(network, target, ["x"])
