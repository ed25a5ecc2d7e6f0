"""The penalty against its formula, written out kernel by kernel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from neurochains.circuits import SPARSITY, dead_kernels, hierarchical_group_sparsity
from neurochains.errors import ModelError, SettingsError

from ..architectures import build


def size_of(kernel: torch.Tensor, form: str) -> float:
    weights = kernel.flatten().tolist()
    if form.endswith("lasso"):
        return math.sqrt(sum(weight**2 for weight in weights))
    return math.sqrt(sum(abs(weight) for weight in weights))


def literal(model: nn.Module, form: str, groups: str) -> float:
    """Mitsuno et al. 2020, one kernel after the other."""
    total = 0.0
    for module in model.modules():
        if not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            continue
        sums: dict[int, float] = {}
        outputs, inputs = module.weight.shape[:2]
        for o in range(outputs):
            for i in range(inputs):
                channel = o // (outputs // module.groups) * inputs + i
                group = o if groups == "filter" else channel
                sums[group] = sums.get(group, 0.0) + size_of(module.weight[o, i], form)
        total += sum(value**2 if form.startswith("squared") else math.sqrt(value) for value in sums.values())
    return total


@pytest.mark.parametrize("groups", ["filter", "channel"])
@pytest.mark.parametrize("form", SPARSITY)
@pytest.mark.parametrize("name", ["residual", "grouped", "depthwise"])
def test_it_is_the_formula(name, form, groups):
    model = build(name).double()
    found = hierarchical_group_sparsity(model, form=form, groups=groups)
    assert found.item() == pytest.approx(literal(model, form, groups), rel=1e-9)


@pytest.mark.parametrize("form", SPARSITY)
def test_its_gradient_is_right_and_0_for_dead_kernels(form):
    model = nn.Sequential(nn.Conv2d(3, 4, 2, bias=False)).double()
    with torch.no_grad():
        model[0].weight[1, 2] = 0
        model[0].weight[3] = 0  # a whole filter
    hierarchical_group_sparsity(model, form=form).backward()
    slope = model[0].weight.grad
    assert torch.isfinite(slope).all()
    assert not slope[1, 2].any()
    assert not slope[3].any()
    step = 1e-6
    with torch.no_grad():
        before = hierarchical_group_sparsity(model, form=form).item()
        model[0].weight[0, 1, 1, 0] += step
        after = hierarchical_group_sparsity(model, form=form).item()
    assert (after - before) / step == pytest.approx(slope[0, 1, 1, 0].item(), rel=1e-4)


def test_kernels_of_one_filter_compete():
    """Of two filters of equal weights, the one with a single large kernel pays less than the one with four."""
    one, four = torch.zeros(1, 4, 2, 2), torch.full((1, 4, 2, 2), 0.5)
    one[0, 0] = 1.0
    costs = []
    for weight in (one, four):
        layer = nn.Conv2d(4, 1, 2, bias=False)
        layer.weight.data = weight
        costs.append(hierarchical_group_sparsity(layer, form="squared_lasso").item())
    assert one.norm() == four.norm()
    assert costs == [pytest.approx(4.0), pytest.approx(16.0)]


def test_it_makes_kernels_die_in_training():
    shares = []
    images = torch.randn(8, 6, 6, 6)
    wanted = 0.5 * images[:, [0, 1, 2, 3, 4, 5, 0, 1]] + torch.randn(8, 8, 6, 6)  # each filter needs one kernel
    for strength in (0.0, 0.02):
        torch.manual_seed(0)
        layer = nn.Conv2d(6, 8, 3, padding=1)
        for _ in range(120):
            loss = nn.functional.mse_loss(layer(images), wanted) + strength * hierarchical_group_sparsity(layer)
            layer.weight.data -= 0.5 * torch.autograd.grad(loss, layer.weight)[0]
        (dead,) = dead_kernels(layer, threshold=0.1).values()
        shares.append(dead.double().mean().item())
    assert shares[0] < 0.1
    assert shares[1] > 0.6


def test_dead_kernels_are_those_of_zeros_or_small_ones():
    model = build("residual")
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad():
        first.weight[2, 1] = 0
        first.weight[0, 0] = first.weight.abs().max() * 1e-4
    name = next(name for name, module in model.named_modules() if module is first)
    assert dead_kernels(model)[name].nonzero().tolist() == [[2, 1]]
    assert dead_kernels(model, threshold=1e-3)[name].nonzero().tolist() == [[0, 0], [2, 1]]


def test_nothing_of_the_model_changes():
    model = build("residual").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hierarchical_group_sparsity(model)
    dead_kernels(model)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_bad_settings():
    model = build("residual")
    with pytest.raises(SettingsError, match=r"No sparsity is called 'squared_laso'.*Did you mean squared_lasso"):
        hierarchical_group_sparsity(model, form="squared_laso")
    with pytest.raises(SettingsError, match="by 'filter' or by 'channel', got 'row'"):
        hierarchical_group_sparsity(model, groups="row")
    with pytest.raises(SettingsError, match=r"0 to below 1; got 1\.5"):
        dead_kernels(model, threshold=1.5)
    for function in (hierarchical_group_sparsity, dead_kernels):
        with pytest.raises(ModelError, match="Linear has no convolution"):
            function(nn.Linear(3, 2))
