"""Sums over kernels against a map for each of them."""

from __future__ import annotations

import pytest
import torch
from tests.architectures import ARCHITECTURES, images, traced
from tests.circuits.literal import kernel_means, names_to

from neurochains.circuits import Target, kernels
from neurochains.circuits.kernels import absolute_sums, signed_sums, weight_gradient
from neurochains.circuits.probe import Probe, layers_to


def opened(name, target="logit:1"):
    """Yield (layer, weight, input, slope) of every layer that leads to a logit."""
    network = traced(name)
    asked = Target.parse(target, network)
    probe = Probe(network, asked, layers_to(network, asked, names_to(network, asked.end(network))))
    values, layers = probe.run(images(3), None)
    for layer, (slope, _) in zip(layers, probe.slopes(values, layers), strict=True):
        yield layer.layer, layer.weight, layer.input.detach(), slope


def positions(layer, slope):
    return slope.numel() / layer.units


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_sums_are_those_of_a_map_for_each_kernel(name):
    for layer, weight, inputs, slope in opened(name):
        for signed, sums in ((False, absolute_sums), (True, signed_sums)):
            found = sums(layer, weight, inputs, slope) / positions(layer, slope)
            wanted = kernel_means(layer, weight, inputs, slope, signed=signed)
            torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["residual", "grouped", "dilated", "depthwise", "gated"])
@pytest.mark.parametrize("most", [1, 40, 300, 5000])
def test_the_size_of_a_tile_changes_nothing(name, most, monkeypatch):
    wanted = [absolute_sums(*layer) for layer in opened(name)]
    monkeypatch.setattr(kernels, "_MAPS", {"cpu": most})
    for layer, sums in zip(opened(name), wanted, strict=True):
        torch.testing.assert_close(absolute_sums(*layer), sums)


def test_rows_and_positions_without_gradient_are_left_out_rightly():
    for layer, weight, inputs, slope in opened("residual"):
        few = torch.zeros_like(slope)
        few[1:, ::3] = slope[1:, ::3]
        if few.ndim == 4:
            few[..., 1:] = 0.0
        wanted = kernel_means(layer, weight, inputs, few) * positions(layer, few)
        torch.testing.assert_close(absolute_sums(layer, weight, inputs, few), wanted, rtol=1e-8, atol=1e-12)
        signed = kernel_means(layer, weight, inputs, few, signed=True) * positions(layer, few)
        torch.testing.assert_close(signed_sums(layer, weight, inputs, few), signed, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["residual", "grouped", "depthwise", "flattened"])
def test_without_any_gradient_all_sums_are_0(name):
    for layer, weight, inputs, slope in opened(name):
        for sums in (absolute_sums, signed_sums):
            found = sums(layer, weight, inputs, torch.zeros_like(slope))
            assert found.shape == weight.shape[:2]
            assert not found.any()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_weight_gradient_is_autograds(name):
    network = traced(name)
    asked = Target.parse("logit:1", network)
    probe = Probe(network, asked, layers_to(network, asked))
    leaves = {key: values.clone().requires_grad_() for key, values in probe.weights().items()}
    values, _ = probe.run(images(3), None, leaves)
    wanted = torch.autograd.grad(values.sum(), list(leaves.values()))
    values, layers = probe.run(images(3), None)
    for part, (slope, _), gradient in zip(layers, probe.slopes(values, layers), wanted, strict=True):
        torch.testing.assert_close(weight_gradient(part.layer, part.weight, part.input, slope), gradient)
