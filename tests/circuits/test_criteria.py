"""Criteria against their formulas, written out; the contract that all of them keep."""

from __future__ import annotations

import math
import re

import pytest
import torch
from tests.architectures import images, traced
from tests.circuits.literal import kernel_means
from torch import nn

from neurochains.circuits import CRITERIA, Target, importance
from neurochains.circuits.criteria import Question, find_criterion
from neurochains.circuits.probe import Probe, layers_to
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.network import Network

FORMS = [
    (name, reduce) for name in CRITERIA for reduce in ("abs", "signed") if reduce == "abs" or CRITERIA[name].signed
]
MAPS = ("activation", "gradient", "activation_gradient")


class Small(nn.Module):
    """Two convolutions and a linear layer, with second derivatives that are not 0."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Conv2d(2, 3, 3), nn.Conv2d(3, 4, 3, stride=2), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(torch.tanh(self.b(torch.tanh(self.a(x)))).mean((2, 3)))


@pytest.fixture
def small():
    return Small().double().eval()


@pytest.fixture
def task():
    return Task(torch.randn(5, 2, 8, 8), [0, 2, 1, 1, 0])


def traced_small(model, task):
    return Network.trace(model, task.images[:1].double())


def mean_loss(model, task):
    return nn.functional.cross_entropy(model(task.images.double()), task.labels)


@pytest.mark.parametrize(("name", "reduce"), FORMS)
def test_every_criterion_gives_every_filter_and_kernel_a_number(name, reduce):
    network = traced("grouped")
    found = importance(network, images(4), target="c.0[7]@max", criterion=name, reduce=reduce)
    assert list(found.filters) == list(found.kernels) == ["a.0", "b.0", "c.0"]
    for layer, kernels in found.kernels.items():
        assert kernels.shape == network.kernels(layer).weight.shape[:2]
        assert found.filters[layer].shape == kernels.shape[:1]
        assert torch.isfinite(kernels).all()
        assert kernels.any()
        assert found.filters[layer].any()
        if reduce == "abs":
            assert (kernels >= 0).all()
            assert (found.filters[layer] >= 0).all()
    others = torch.arange(12) != 7
    assert not found.kernels["c.0"][others].any()
    assert not found.filters["c.0"][others].any()


@pytest.mark.parametrize(("name", "reduce"), FORMS)
def test_the_batch_size_changes_nothing(name, reduce):
    whole, parts = (
        importance(traced("residual"), images(5), target="c.0[3]", criterion=name, reduce=reduce, batch_size=size)
        for size in (5, 2)
    )
    for layer in whole.kernels:
        torch.testing.assert_close(whole.filters[layer], parts.filters[layer], rtol=1e-9, atol=1e-14)
        torch.testing.assert_close(whole.kernels[layer], parts.kernels[layer], rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("reduce", ["abs", "signed"])
@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("target", ["logit:2", "c.0:direction@centre"])
def test_map_criteria_are_means_over_maps(name, reduce, target):
    """The formulas of the module, with a map for each kernel and gradients of the traced graph."""
    network, size = traced("residual"), (lambda v: v.abs()) if reduce == "abs" else (lambda v: v)
    vector = torch.randn(12, generator=torch.Generator().manual_seed(0)) if "direction" in target else None
    asked = Target.parse(target, network, direction=vector)
    found = importance(network, images(3), target=asked, criterion=name, reduce=reduce)
    probe = Probe(network, asked, layers_to(network, asked))
    values, opened = probe.run(images(3).float(), None)
    for part, (slope, map_slope) in zip(opened, probe.slopes(values, opened), strict=True):
        one = {"activation": part.map, "gradient": map_slope, "activation_gradient": part.map * map_slope}[name]
        torch.testing.assert_close(found.filters[part.layer.name], size(one).mean((0, 2, 3)).detach())
        if name == "gradient":
            wanted = size(slope).mean((0, 2, 3))[:, None].expand(part.weight.shape[:2])
        else:
            weighting = torch.ones_like(slope) if name == "activation" else slope
            wanted = kernel_means(part.layer, part.weight, part.input, weighting, signed=reduce == "signed")
        torch.testing.assert_close(found.kernels[part.layer.name], wanted.detach())


@pytest.mark.parametrize("reduce", ["abs", "signed"])
def test_weight_is_the_mean_and_magnitude_the_length(small, task, reduce):
    network = traced_small(small, task)
    found = importance(network, task, target="loss", criterion="weight", reduce=reduce)
    values = small.b.weight.detach().abs() if reduce == "abs" else small.b.weight.detach()
    torch.testing.assert_close(found.kernels["b"], values.mean((2, 3)))
    torch.testing.assert_close(found.filters["b"], values.mean((1, 2, 3)))
    found = importance(network, task, target="loss", criterion="magnitude")
    torch.testing.assert_close(found.kernels["b"], (values**2).sum((2, 3)).sqrt())
    torch.testing.assert_close(found.filters["b"], (values**2).sum((1, 2, 3)).sqrt())


@pytest.mark.parametrize("reduce", ["abs", "signed"])
def test_snip_is_weight_times_gradient_of_the_mean_loss(small, task, reduce):
    found = importance(traced_small(small, task), task, target="loss", criterion="snip", reduce=reduce, batch_size=2)
    for name, module in (("a", small.a), ("b", small.b)):
        products = (module.weight * torch.autograd.grad(mean_loss(small, task), module.weight)[0]).detach()
        products = products.abs() if reduce == "abs" else products
        torch.testing.assert_close(found.kernels[name], products.sum((2, 3)))
        torch.testing.assert_close(found.filters[name], products.sum((1, 2, 3)))


@pytest.mark.parametrize("reduce", ["abs", "signed"])
def test_grasp_is_weight_times_hessian_times_gradient(small, task, reduce):
    found = importance(traced_small(small, task), task, target="loss", criterion="grasp", reduce=reduce, batch_size=2)
    weights = (small.a.weight, small.b.weight)

    def loss(*leaves):
        model = dict(zip(("a.weight", "b.weight"), leaves, strict=True))
        outputs = torch.func.functional_call(small, model, (task.images.double(),))
        return nn.functional.cross_entropy(outputs, task.labels)

    slopes = torch.autograd.grad(loss(*weights), weights)
    (_, products) = torch.autograd.functional.vhp(loss, weights, slopes)
    for name, weight, product in zip(("a", "b"), weights, products, strict=True):
        wanted = (weight * product).detach()
        wanted = wanted.abs() if reduce == "abs" else wanted
        torch.testing.assert_close(found.kernels[name], wanted.sum((2, 3)))
    assert found.kernels["a"].any()


def test_grasp_is_0_where_the_gradient_does_not_change(task):
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).double().eval()
    found = importance(traced_small(model, task), task, target="0[1]", criterion="grasp")
    assert not found.kernels["0"].any()


def test_force_is_snip_on_what_is_left_round_after_round(small, task):
    criterion = CRITERIA["force"].having(keep=0.4, rounds=4)
    found = importance(traced_small(small, task), task, target="loss", criterion=criterion)
    weights = {"a": small.a.weight.detach().clone(), "b": small.b.weight.detach().clone()}
    total = sum(values.shape[0] * values.shape[1] for values in weights.values())
    masks = {name: torch.ones(values.shape[:2]) for name, values in weights.items()}
    for step in range(1, 5):
        leaves = {name: (values * masks[name][..., None, None]).requires_grad_() for name, values in weights.items()}
        inputs = {f"{name}.weight": leaf for name, leaf in leaves.items()}
        outputs = torch.func.functional_call(small, inputs, (task.images.double(),))
        slopes = torch.autograd.grad(nn.functional.cross_entropy(outputs, task.labels), list(leaves.values()))
        scores = {n: (weights[n] * s).abs().sum((2, 3)) for n, s in zip(leaves, slopes, strict=True)}
        kept = round(math.exp(step / 4 * math.log(0.4 * total) + (1 - step / 4) * math.log(total)))
        lowest = torch.cat([values.flatten() for values in scores.values()]).sort(descending=True).values[kept - 1]
        masks = {name: (values >= lowest).double() for name, values in scores.items()}
    for name, values in scores.items():
        torch.testing.assert_close(found.kernels[name], values)
    assert min(float(mask.mean()) for mask in masks.values()) < 1


def test_force_says_when_no_path_is_left(task):
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3), nn.Flatten(), nn.Linear(16, 2))
    with torch.no_grad():
        model[2].weight.mul_(1e-6)
        model[0].bias.zero_()
        model[2].bias.zero_()
    network = traced_small(model.double().eval(), task)
    asked = Target.parse("2[0]@0,0", network)
    question = Question(Probe(network, asked, layers_to(network, asked)), task, "abs")
    with pytest.raises(
        SettingsError, match=r"FORCE keeps a fraction above 0, at most 1, in 1 round or more; got 0, 10"
    ):
        CRITERIA["force"].having(keep=0).measure(question)


def test_random_depends_on_its_seed_and_the_layer_alone():
    def drawn(target, **options):
        return importance(traced("residual"), images(1), target=target, criterion=CRITERIA["random"].having(**options))

    one, two, other = drawn("logit:0"), drawn("b[1]"), drawn("logit:0", seed=1)
    assert torch.equal(one.kernels["a.0"], two.kernels["a.0"])
    assert not torch.equal(one.kernels["a.0"], other.kernels["a.0"])
    assert not torch.equal(one.kernels["a.0"], one.kernels["b"])
    assert one.kernels["a.0"].max() < 1
    assert len(set(one.filters["b"].tolist())) == 8


def test_a_criterion_is_found_by_name_or_given():
    made = CRITERIA["random"].having(seed=3)
    assert find_criterion(made, "abs") is made
    assert find_criterion("snip", "signed") is CRITERIA["snip"]
    wanted = "activation gradient activation_gradient weight snip force grasp magnitude random"
    assert sorted(CRITERIA) == sorted(wanted.split())
    assert all(criterion.name == name and criterion.words for name, criterion in CRITERIA.items())


@pytest.mark.parametrize(
    ("name", "reduce", "message"),
    [
        ("activation_grad", "abs", "There is no criterion 'activation_grad'. Did you mean activation_gradient"),
        ("xyz", "abs", "There is no criterion 'xyz'. There are activation, gradient, activation_gradient, weight"),
        ("snip", "sum", "Wanted reduce='abs' or 'signed'; got 'sum'"),
        ("random", "signed", "The criterion random has no signed form. Leave reduce='abs'"),
    ],
)
def test_unknown_criteria_are_refused(name, reduce, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        find_criterion(name, reduce)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("random", "The criterion random has no option 'keep'; it has seed."),
        ("snip", "The criterion snip has no option 'keep'; it has none."),
    ],
)
def test_unknown_options_are_refused(name, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        CRITERIA[name].having(keep=0.1)
