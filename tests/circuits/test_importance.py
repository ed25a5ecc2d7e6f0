"""Importance: what it takes, gives, saves and refuses; interventions that confirm it."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.architectures import ARCHITECTURES, build, images, traced
from tests.circuits.literal import names_to

import neurochains as nc
from neurochains.circuits import CRITERIA, Criterion, Importance, Target, importance, load_importance
from neurochains.circuits.probe import Probe, layers_to
from neurochains.data import Task
from neurochains.errors import ArtifactError, DataError, LayerError, SettingsError


@pytest.fixture
def found():
    return importance(traced("residual"), images(3), target="c.0[5]")


def assert_same(left, right, *, rtol=1e-12):
    assert list(left.filters) == list(right.filters)
    for name in left.filters:
        torch.testing.assert_close(left.filters[name], right.filters[name], rtol=rtol, atol=1e-14)
        torch.testing.assert_close(left.kernels[name], right.kernels[name], rtol=rtol, atol=1e-14)


def test_a_module_a_network_a_task_and_a_tensor_are_all_taken(found):
    model = build("residual").float()
    network = nc.Network.trace(model, images(1).float())
    wanted = importance(network, Task(images(3)), target="c.0[5]")
    assert_same(importance(model, images(3), target="c.0[5]"), wanted)
    assert_same(nc.importance(model, images(3), target=Target.parse("c.0[5]", network)), wanted)
    assert wanted.filters["a.0"].dtype == torch.float32
    assert found.filters["a.0"].dtype == torch.float64
    torch.testing.assert_close(wanted.kernels["a.0"].double(), found.kernels["a.0"], rtol=1e-3, atol=1e-7)


def test_it_says_what_it_is_of(found):
    assert (found.target, found.criterion, found.reduce) == ("c.0[5]", "activation_gradient", "abs")
    assert found.images == ("0000", "0001", "0002")
    assert found.provenance["model"]["digest"] == traced("residual").digest
    assert repr(found) == "Importance(36 filters and 248 kernels for 'c.0[5]': activation_gradient)"


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_network_answers_for_all_layers_and_for_any_batch_size(name):
    network = traced(name)
    names = names_to(network, Target.parse("logit:3", network).end(network))
    one, two = (importance(network, images(3), target="logit:3", layers=names, batch_size=size) for size in (3, 2))
    assert_same(one, two, rtol=1e-9)
    assert list(one.kernels) == names
    for layer, kernels in one.kernels.items():
        assert kernels.shape == network.kernels(layer).weight.shape[:2]


def test_removing_a_kernel_of_the_targets_own_layer_costs_what_the_signed_form_says():
    """Intervention: the target is linear in these kernels, so the first order is the whole."""
    network, batch = traced("residual"), images(3).float()
    signed = importance(network, batch, target="b[4]", reduce="signed")
    target = Target.parse("b[4]", network)
    probe = Probe(network, target, layers_to(network, target))
    before = probe.run(batch, None)[0].mean()
    for channel in range(8):
        weight = probe.weights()["b"].clone()
        weight[4, channel] = 0.0
        without = probe.run(batch, None, {"b": weight})[0].mean()
        torch.testing.assert_close(before - without, signed.kernels["b"][4, channel] * 16 * 16)


def test_removing_the_most_important_kernels_costs_more_than_removing_the_least():
    model, task = nc.load_model("shapes:vgg"), Task.shapes(8)
    network = nc.Network.trace(model, task.images[:1])
    target = Target.parse("features.5[3]", network)
    kernels = importance(network, task, target=target).kernels["features.3"]
    probe = Probe(network, target, layers_to(network, target))
    before = probe.run(task.images, None)[0]

    def cost(chosen):
        weight = probe.weights()["features.3"].clone()
        weight.view(-1, *weight.shape[2:])[chosen] = 0.0
        without = probe.run(task.images, None, {"features.3": weight})[0]
        return float((before - without).detach().abs().mean())

    order = kernels.flatten().argsort()
    assert cost(order[-40:]) > 5 * cost(order[:40])


@settings(max_examples=10, deadline=None)
@given(split=st.integers(1, 5), seed=st.integers(0, 100))
def test_the_importance_for_a_task_is_the_mean_over_its_images(split, seed):
    network, batch = traced("grouped"), images(6, seed)
    whole, first, rest = (importance(network, part, target="logit:1") for part in (batch, batch[:split], batch[split:]))
    for name, values in whole.kernels.items():
        mean = (first.kernels[name] * split + rest.kernels[name] * (6 - split)) / 6
        torch.testing.assert_close(values, mean, rtol=1e-9, atol=1e-14)


def test_the_mode_of_the_caller_does_not_matter(found):
    with torch.no_grad():
        assert_same(importance(traced("residual"), images(3), target="c.0[5]"), found)


def test_it_is_computed_in_full_precision_on_any_device():
    seen = []

    def measure(question):
        seen.append(torch.backends.cudnn.allow_tf32)
        return CRITERIA["weight"].measure(question)

    before = torch.backends.cudnn.allow_tf32
    importance(traced("mlp"), images(1), target="logit:0", criterion=Criterion("own", "", measure))
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 == before


def state(model):
    hooks = [len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules()]
    flags = [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()]
    values = {name: values.clone() for name, values in model.state_dict().items()}
    return hooks, flags, [module.training for module in model.modules()], values


@pytest.mark.parametrize("criterion", ["activation_gradient", "snip", "force", "grasp"])
@pytest.mark.parametrize("target", ["loss", "logit:99"])
def test_the_model_is_as_before_also_after_a_failure(criterion, target):
    model = build("residual").float().requires_grad_(True)
    before = state(model)
    task = Task(images(2), [0, 1])
    if target == "loss":
        importance(model, task, target=target, criterion=criterion)
    else:
        with pytest.raises(SettingsError):
            importance(model, task, target=target, criterion=criterion)
    after = state(model)
    assert before[:3] == after[:3]
    assert all(torch.equal(values, after[3][name]) for name, values in before[3].items())


def test_a_network_without_filters_answers_with_its_hidden_layers():
    found = importance(traced("mlp"), images(2), target="logit:0")
    assert [tuple(values.shape) for values in found.kernels.values()] == [(10, 768), (8, 10)]


def test_layers_can_be_named():
    found = importance(traced("residual"), images(2), target="logit:1", layers=["head", "b"])
    assert list(found.filters) == ["b", "head"]
    assert found.kernels["head"].shape == (5, 12)


def test_values_are_brought_to_one_scale_layer_by_layer(found):
    spread, share = found.normalised("layer-minmax"), found.normalised("layer-sum")
    for name, values in found.kernels.items():
        low, high = values.min(), values.max()
        torch.testing.assert_close(spread.kernels[name], (values - low) / (high - low))
        torch.testing.assert_close(share.kernels[name], values / values.sum())
        assert float(spread.filters[name].max()) == 1.0
        assert float(share.filters[name].sum()) == pytest.approx(1.0)
    assert_same(found.normalised("none"), found)
    assert (share.target, share.images) == (found.target, found.images)
    still = Importance({"a": torch.zeros(3)}, {"a": torch.ones(3, 2)}, "loss")
    assert not still.normalised("layer-minmax").kernels["a"].any()
    assert not still.normalised("layer-sum").filters["a"].any()
    with pytest.raises(SettingsError, match="Wanted one of layer-minmax, layer-sum, none; got 'max'"):
        found.normalised("max")


def test_it_is_saved_and_loaded(found, tmp_path):
    found.save(tmp_path / "a")
    again = load_importance(tmp_path / "a")
    for name, values in found.filters.items():
        assert torch.equal(again.filters[name], values)
        assert torch.equal(again.kernels[name], found.kernels[name])
    rest = ("target", "criterion", "reduce", "images", "provenance")
    assert [getattr(again, name) for name in rest] == [getattr(found, name) for name in rest]
    with pytest.raises(ArtifactError, match="exists already"):
        found.save(tmp_path / "a")
    found.normalised("layer-sum").save(tmp_path / "a", force=True)
    assert float(load_importance(tmp_path / "a").filters["b"].sum()) == pytest.approx(1.0)


def test_damaged_files_are_refused(found, tmp_path):
    found.save(tmp_path / "a")
    path = tmp_path / "a" / "importance.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "layers": ["other"]}))
    with pytest.raises(ArtifactError, match=r"importance\.json is damaged: 'filter/other' is missing"):
        load_importance(tmp_path / "a")
    tensors = next((tmp_path / "a").glob("*.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-8])
    with pytest.raises(ArtifactError, match="truncated or damaged"):
        load_importance(tmp_path / "a")
    with pytest.raises(ArtifactError, match="there is no such folder"):
        load_importance(tmp_path / "b")


def test_what_does_not_fit_is_refused():
    network = traced("residual")
    with pytest.raises(DataError, match=r"traced for inputs \(B, 3, 16, 16\); got \(1, 3, 8, 8\)"):
        importance(network, torch.randn(1, 3, 8, 8), target="logit:0")
    with pytest.raises(LayerError, match="head lies behind or beside the target 'b\\[0\\]'"):
        importance(network, images(1), target="b[0]", layers=["head"])
    with pytest.raises(DataError, match="The loss needs the label of each image; 1 of 1 have none"):
        importance(network, images(1), target="loss")
    with pytest.raises(DataError, match="Wanted labels below 5"):
        importance(network, Task(images(1), [7]), target="loss")
    with pytest.raises(LayerError, match="There are"):
        importance(network, images(1), target="zzz[0]")


def test_values_that_overflow_are_refused():
    model = build("flattened").float()
    with torch.no_grad():
        model.features[0].weight.mul_(1e30)
        model.features[3].weight.mul_(1e30)
    with pytest.raises(DataError, match=r"The importance for 'features\.3\[0\]' is not finite in features"):
        importance(model, images(2), target="features.3[0]")
