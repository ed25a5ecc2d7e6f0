from __future__ import annotations

import copy

import pytest
import torch
from tests import architectures
from tests.decoupling.conftest import CONTROLLED, gated

from neurochains.decoupling import Controller, decouple, default_layers
from neurochains.errors import DataError, LayerError, SettingsError
from neurochains.network import load_model


def test_the_default_layers_are_those_of_the_paper():
    resnet = decouple(load_model("shapes:resnet"), torch.zeros(2, 3, 64, 64))
    assert len(resnet.layers) == 28  # all but the stem; the projections too
    assert "conv1" not in resnet.layers
    assert "layer1.0.downsample.0" in resnet.layers
    vgg = decouple(load_model("shapes:vgg"), torch.zeros(2, 3, 64, 64))
    assert len(vgg.layers) == 7  # 7 of 8, as 12 of 13 in VGG-16
    parameters = sum(p.numel() for c in resnet.controllers.values() for p in c.parameters())
    assert parameters == sum(
        layer.inputs * (layer.inputs // 4) + layer.inputs // 4 + layer.units * (layer.inputs // 4) + layer.units
        for layer in default_layers(resnet.network)
    )


@pytest.mark.parametrize("name", CONTROLLED)
def test_it_starts_as_the_network_it_was_made_from(name):
    model, images = architectures.build(name), architectures.images()
    decoupled = decouple(model, images)
    assert torch.equal(decoupled.predict(images), model(images).float())
    assert all(code.all() for code in decoupled.codes(images).values())


def test_the_model_is_not_touched(tiny, coloured):
    images, _ = coloured
    before = copy.deepcopy(tiny.state_dict())
    decoupled = decouple(tiny, images[:2]).train()
    decoupled(images).sum().backward()
    assert not tiny.training
    assert all(torch.equal(value, before[key]) for key, value in tiny.state_dict().items())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in tiny.parameters())
    assert decoupled.detach() is tiny
    with pytest.raises(DataError):
        decoupled(torch.zeros(1, 3, 5, 5))
    assert not any(module._forward_hooks for module in tiny.modules())


def test_the_backbone_comes_back_without_controllers(tiny, coloured):
    images, _ = coloured
    decoupled = decouple(tiny, images[:2])
    torch.testing.assert_close(decoupled.detach_controllers()(images), tiny(images))
    with torch.no_grad():
        decoupled.body.get_parameter("w_fc_bias").add_(1)
    alone = decoupled.detach_controllers()
    torch.testing.assert_close(alone(images), tiny(images) + 1)
    assert type(alone) is type(tiny)
    assert not any(isinstance(module, Controller) for module in alone.modules())
    assert not alone.training
    torch.testing.assert_close(decoupled(images), alone(images))


@pytest.mark.parametrize("name", CONTROLLED)
def test_the_backbone_of_any_network_comes_back(name):
    decoupled, images = gated(name), architectures.images()
    for norm in decoupled.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.running_mean.add_(0.5)
    for controller in decoupled.controllers.values():
        controller.settled.fill_(1)
    torch.testing.assert_close(decoupled.detach_controllers()(images), decoupled(images))


def test_codes_are_eval_codes_whatever_the_mode():
    decoupled, images = gated("residual"), architectures.images(5)
    codes = decoupled.codes(images)
    modes = [module.training for module in decoupled.train().modules()]
    again = decoupled.codes(images, batch=2)
    assert [module.training for module in decoupled.modules()] == modes
    assert all(torch.equal(codes[name], again[name]) for name in decoupled.layers)
    assert {code.dtype for code in codes.values()} == {torch.bool}
    assert {name: code.shape[1] for name, code in codes.items()} == decoupled.filters


def test_a_filter_that_is_off_is_an_empty_channel():
    decoupled, images = gated("residual"), architectures.images(4)
    answer = decoupled.answer(images)
    products = [node for node in decoupled.body.graph.nodes if "layer" in node.meta]
    maps = {}

    class Watch(torch.fx.Interpreter):
        def run_node(self, node):
            value = super().run_node(node)
            if node in products:
                maps[node.meta["layer"]] = value
            return value

    Watch(decoupled.body).run(images)
    for name, code in answer.codes.items():
        assert torch.equal(
            maps[name].flatten(2).abs().sum(2) > 0, (code > 0) & (maps[name].flatten(2).abs().sum(2) > 0)
        )
        assert not maps[name][code == 0].any()


def test_settling_changes_nothing_on_the_images_it_was_settled_on():
    decoupled, images = gated("residual"), architectures.images(6)
    settled = decoupled.settle(decoupled.states(images))
    assert torch.equal(settled.predict(images), decoupled.predict(images))
    counts = [int((controller.settled != 0).sum()) for controller in settled.controllers.values()]
    assert sum(counts) > 0
    assert not any(controller.settled.any() for controller in decoupled.controllers.values())


def test_surrogate_gradients_end_with_the_block():
    decoupled, images = gated("residual"), architectures.images(2)
    plain = decoupled.predict(images)
    with decoupled.surrogate_gradients():
        assert torch.equal(decoupled(images).detach().float(), plain)
        assert all(controller.surrogate for controller in decoupled.controllers.values())
    assert not any(controller.surrogate for controller in decoupled.controllers.values())


def test_messages(tiny):
    example = torch.zeros(2, 3, 12, 12)
    with pytest.raises(SettingsError, match=r"stem is too narrow to be controlled: it reads 3 channels, .* at least 4"):
        decouple(tiny, example, layers=["stem"])
    with pytest.raises(SettingsError, match=r"fc \(linear, head\) cannot be controlled"):
        decouple(tiny, example, layers=["fc"])
    with pytest.raises(LayerError, match=r"conv3.*Did you mean conv[12], conv[12]"):
        decouple(tiny, example, layers=["conv3"])
    with pytest.raises(SettingsError, match=r"layers must be names .* got \[\]"):
        decouple(tiny, example, layers=[])
    with pytest.raises(LayerError, match="a convolution that reads at least 4 channels; its layers: 1, 3, 6"):
        decouple(architectures.build("mlp"), architectures.images(2))
    decoupled = decouple(tiny, example, layers=["conv2", "conv1"])
    assert decoupled.layers == ("conv1", "conv2")
    with pytest.raises(DataError, match=r"traced for inputs \(B, 3, 12, 12\); got \(1, 3, 8, 8\)"):
        decoupled(torch.zeros(1, 3, 8, 8))
    with pytest.raises(DataError, match="at least one image"):
        decoupled.codes(example[:0])
    with pytest.raises(SettingsError, match="batch must be at least 1"):
        decoupled.codes(example, batch=0)


def test_the_seed_decides_the_weights_and_the_global_generator_stays():
    example, model = architectures.images(2), architectures.build("residual")
    state = torch.get_rng_state()
    one, same, other = (decouple(model, example, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(state, torch.get_rng_state())
    weights = [next(iter(made.controllers.values())).squeeze.weight for made in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
