"""Scored kernels against weights that are multiplied by hand in the user's own module."""

from __future__ import annotations

import copy

import pytest
import torch
from tests.architectures import ARCHITECTURES, build, images, traced

from neurochains.edit import OUTPUT, KernelNetwork, Readout, compact, cut, scale_kernels
from neurochains.errors import LayerError

FEW = ("residual", "dense", "depthwise", "grouped", "slopes", "windows")
MORE = sorted(set(ARCHITECTURES) - {"mlp", *FEW})
NETWORKS = (*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MORE))
BY_HAND = ("residual", "depthwise", "grouped", "dilated", "channels last")


def scored_layers(network):
    return [layer for layer in network.layers if layer.role == "filter"]


def drawn(network, *, share=0.6):
    """Random kernel and filter masks; the last layer keeps its filters."""
    dice = torch.Generator().manual_seed(0)
    layers = scored_layers(network)
    shapes = {layer.name: getattr(network.module, layer.weight).shape[:2] for layer in layers}
    kernels = {name: (torch.rand(shape, generator=dice) < share).double() for name, shape in shapes.items()}
    filters = {name: (torch.rand(shape[0], generator=dice) < 0.8).double() for name, shape in shapes.items()}
    filters[layers[-1].name][:] = 1
    return kernels, filters


@pytest.mark.parametrize("name", BY_HAND)
def test_a_kernel_score_multiplies_the_kernels_weights(name):
    network, x = traced(name), images()
    kernels, _ = drawn(network)
    model = copy.deepcopy(build(name))
    with torch.no_grad():
        for layer, scores in kernels.items():
            weight = model.get_submodule(layer).weight
            weight.mul_(scores.view(*scores.shape, *[1] * (weight.ndim - 2)))
        scored = KernelNetwork(network, layers=scored_layers(network))(x, kernels)[OUTPUT]
        assert torch.allclose(scored, model(x), atol=1e-12)
        assert not torch.allclose(scored, build(name)(x), atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_scored_scaled_cut_and_compact_networks_agree(name):
    network, x = traced(name), images()
    kernels, filters = drawn(network)
    layers = scored_layers(network)
    last = layers[-1]
    maps = KernelNetwork(network, layers=layers, filters=layers, taps=[last.name, OUTPUT])(x, kernels, filters)
    scaled = scale_kernels(network, kernels, filters)
    assert [layer.name for layer in scaled.layers] == [layer.name for layer in network.layers]
    assert torch.allclose(scaled(x), maps[OUTPUT], atol=1e-12)
    for readout in (Readout(last.name, (1,), (1.0,)), Readout(OUTPUT, (1, 2), (1.0, -1.0))):
        ended = cut(scaled, readout)
        wanted = readout.of(network, maps[readout.layer])
        assert torch.allclose(ended(x), wanted, atol=1e-12)
        known = {layer.name for layer in ended.layers}
        small = compact(ended, {name: values.bool() for name, values in filters.items() if name in known})
        assert torch.allclose(small(x), wanted, atol=1e-10)


def test_what_is_not_given_counts_as_one_and_nothing_behind_the_taps_is_computed():
    network, x = traced("residual"), images()
    scored = KernelNetwork(network, layers=scored_layers(network), taps=["a.0"])
    assert {node.target for node in scored.graph.graph.nodes if node.op == "get_attr"}.isdisjoint({"w_head_weight"})
    model = build("residual")
    assert torch.allclose(scored(x)["a.0"], model.a[1](model.a[0](model.stem(x))), atol=1e-12)


def test_scaling_twice_multiplies_and_leaves_the_first_alone():
    network, x = traced("residual"), images()
    kernels, filters = drawn(network)
    once = scale_kernels(network, kernels, filters)
    before = once(x)
    half = {name: values / 2 for name, values in kernels.items()}
    twice = scale_kernels(once, half, {"a.0": torch.full((8,), 0.5).double()})
    layers = scored_layers(network)
    both = {name: values * half[name] for name, values in kernels.items()}
    halved = {**filters, "a.0": filters["a.0"] / 2}
    wanted = KernelNetwork(network, layers=layers, filters=layers)(x, both, halved)[OUTPUT]
    assert torch.allclose(twice(x), wanted, atol=1e-12)
    assert torch.equal(once(x), before)


def test_gradients_reach_the_scores():
    network, x = traced("grouped"), images()
    layers = scored_layers(network)
    shape = getattr(network.module, layers[1].weight).shape[:2]
    scores = torch.ones(shape, dtype=torch.float64, requires_grad=True)
    KernelNetwork(network, layers=layers)(x, {layers[1].name: scores})[OUTPUT].sum().backward()
    step = torch.zeros_like(scores)
    step[0, 0] = 1e-6
    run = KernelNetwork(network, layers=layers)
    rise = (run(x, {layers[1].name: scores + step})[OUTPUT].sum() - run(x)[OUTPUT].sum()) / 1e-6
    assert scores.grad is not None
    assert scores.grad[0, 0].item() == pytest.approx(rise.item(), rel=1e-3)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(LayerError, match=r"a\.0 take scores of shape \(8, 8\); got \(8,\)"):
        scale_kernels(traced("residual"), {"a.0": torch.ones(8)})
