from __future__ import annotations

import pytest
import torch
from tests import architectures
from tests.decoupling.conftest import CONTROLLED
from torch import nn

from neurochains.edit import can_be_controlled, control, place_of
from neurochains.network import Network


class Ones(nn.Module):
    def __init__(self, units, value=1.0):
        super().__init__()
        self.units, self.value = units, nn.Parameter(torch.tensor(value, dtype=torch.float64))

    def forward(self, maps):
        return self.value.expand(len(maps), self.units)


def controllers(network, value=1.0):
    layers = [layer for layer in network.layers if can_be_controlled(layer)]
    return {layer.name: Ones(layer.units, value) for layer in layers}


@pytest.mark.parametrize("name", CONTROLLED)
def test_open_gates_change_nothing(name):
    network, images = architectures.traced(name), architectures.images()
    body = control(network, controllers(network)).eval()
    logits, codes, means = body(images)
    torch.testing.assert_close(logits, network(images), rtol=0, atol=1e-12)
    assert len(codes) == len(means) == len(controllers(network))


@pytest.mark.parametrize("name", ["residual", "dense", "constants", "standardised"])
def test_a_plain_copy_shares_no_memory_and_trains(name):
    network, images = architectures.traced(name), architectures.images()
    before = {key: value.clone() for key, value in network.module.named_buffers()}
    body = control(network, {}).train()
    optimiser = torch.optim.SGD(body.parameters(), 0.1)
    body(images)[0].square().sum().backward()
    optimiser.step()
    assert all(parameter.grad is not None for parameter in body.parameters())
    assert all(torch.equal(before[key], value) for key, value in network.module.named_buffers())
    assert not torch.allclose(body.eval()(images)[0], network(images))


def test_batch_norm_has_a_training_mode_again():
    network, images = architectures.traced("residual"), architectures.images(8)
    body = control(network, {}).train()
    norms = [module for module in body.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    body(images)
    assert len(norms) == 4
    assert not any(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))


def test_a_module_that_is_used_twice_keeps_one_batch_norm():
    body = control(architectures.traced("reused"), {})
    assert sum(isinstance(module, nn.BatchNorm2d) for module in body.modules()) == 1


def test_the_code_multiplies_behind_batch_norm_and_activation():
    network = architectures.traced("residual")
    layer = network.layer("a.0")
    assert "relu" in str(place_of(layer).target.target)
    assert place_of(network.layer("b")).target is network.layer("b").site  # a sum follows
    body, images = control(network, {"a.0": Ones(layer.units, 0.0)}).eval(), architectures.images()
    _, (code,), (mean,) = body(images)
    assert not code.any()
    with torch.no_grad():
        stem = torch.relu(network.module(images))  # the mean is that of the maps before they are multiplied
    assert stem.shape[0] == len(mean)
    assert bool((mean > 0).any())


def test_a_closed_gate_is_an_ablation():
    from neurochains.edit import ScoredNetwork

    network, images = architectures.traced("residual"), architectures.images()
    body = control(network, {"a.0": Ones(network.layer("a.0").units, 0.0)}).eval()
    scored, _ = ScoredNetwork(network)(images, {"a.0": torch.zeros(network.layer("a.0").units)})
    torch.testing.assert_close(body(images)[0], scored)


@pytest.mark.parametrize(("name", "layer"), [("squeezed", "reduce"), ("channels last", "up"), ("mlp", "1")])
def test_what_cannot_be_controlled(name, layer):
    network: Network = architectures.traced(name)
    assert not can_be_controlled(network.layer(layer))
