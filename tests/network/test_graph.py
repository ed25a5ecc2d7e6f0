"""Tracing: the user's model stays as it is, what comes out is functional, and errors name the remedy."""

from __future__ import annotations

import copy
import logging
import subprocess
import sys

import pytest
import torch
from tests.architectures import ARCHITECTURES, SHAPE, build, images, traced
from torch import nn

from neurochains.errors import DataError, ModelError, TraceError, WeightsError
from neurochains.network import Network
from neurochains.network.functional import is_functional
from neurochains.network.quiet import quiet


def state(model):
    """Everything about a model that a trace must not change."""
    tensors = {name: (tensor.clone(), tensor.data_ptr(), tensor.requires_grad) for name, tensor in named(model)}
    grads = {name: None if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    modules = {
        name: (module.training, len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
        for name, module in model.named_modules()
    }
    return tensors, grads, modules


def named(model):
    return [*model.named_parameters(), *model.named_buffers()]


def assert_untouched(before, model):
    tensors, grads, modules = before
    assert modules == state(model)[2]
    for name, tensor in named(model):
        assert torch.equal(tensor, tensors[name][0])
        assert (tensor.data_ptr(), tensor.requires_grad) == tensors[name][1:]
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (grads[name] is None)
        assert grads[name] is None or torch.equal(parameter.grad, grads[name])


@pytest.mark.parametrize("name", ["flattened", "written views", "tokens"])
def test_the_model_stays_as_it_is(name):
    model = build(name).requires_grad_(True)
    model.register_forward_hook(lambda module, inputs, output: None)
    model(images()).sum().backward()
    before = state(model)
    network = Network.trace(model, images())
    network(images())
    assert_untouched(before, model)
    assert not any(tensor.requires_grad for tensor in network.module.buffers())


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)

    def forward(self, x):
        y = self.conv(x).mean((2, 3))
        if y.sum() > 0:
            y = y + 1
        return y


def test_a_failing_trace_names_the_line_and_leaves_the_model_alone(capfd):
    model = Branching().eval()
    before = state(model)
    with pytest.raises(TraceError, match=r"torch.export cannot follow Branching.*test_graph.py:\d+: if y.sum\(\) > 0:"):
        Network.trace(model, images().float())
    assert_untouched(before, model)
    assert capfd.readouterr() == ("", "")


def test_torch_is_quiet_only_while_it_exports():
    handler = logging.StreamHandler()
    logger = logging.getLogger("torch.of_this_test")
    logger.addHandler(handler)
    try:
        with quiet():
            assert handler.level > logging.CRITICAL
        assert handler.level == logging.NOTSET
    finally:
        logger.removeHandler(handler)


def test_a_fixed_number_of_images_is_explained():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(768, 5)

        def forward(self, x):
            return self.head(x.view(len(x), -1))

    with pytest.raises(TraceError, match=r"Fixed fixes the number of images to the 2.*x.shape\[0\]"):
        Network.trace(Fixed().eval(), torch.randn(4, *SHAPE))


def test_an_input_of_the_wrong_size_names_the_line(capfd):
    with pytest.raises(TraceError, match=r"shape \(2, 3, 20, 20\).*architectures.py:\d+.*another shape may be wanted"):
        Network.trace(build("flattened"), torch.randn(2, 3, 20, 20, dtype=torch.float64))
    assert capfd.readouterr() == ("", "")


def test_training_mode_is_refused_with_its_reason():
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.Dropout(0.5))
    with pytest.raises(ModelError, match=r"training mode: 2 \(Dropout\).*Call model.eval\(\) first"):
        Network.trace(model, torch.randn(1, *SHAPE))
    assert model.training
    without = nn.Sequential(nn.Flatten(), nn.Linear(768, 5))
    assert Network.trace(without.train(), torch.randn(1, *SHAPE)).outputs == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).eval()
    model[1].running_mean[2] = value
    with pytest.raises(WeightsError, match=r"1.running_mean \(4,\) holds NaN or infinite values"):
        Network.trace(model, torch.randn(1, *SHAPE))


def test_a_mask_may_be_infinite():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(768, 5)
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf, 0.0, 0.0, 0.0]))

        def forward(self, x):
            return torch.softmax(self.head(x.flatten(1)) + self.mask, 1)

    model, x = Masked().eval(), torch.randn(2, *SHAPE)
    assert torch.allclose(Network.trace(model, x)(x), model(x))


def test_layers_that_are_dropped_at_random_are_refused_too():
    class DropPath(nn.Identity):
        pass

    with pytest.raises(ModelError, match=r"training mode: 2 \(DropPath\)"):
        Network.trace(nn.Sequential(nn.Flatten(), nn.Linear(768, 5), DropPath()), torch.randn(1, *SHAPE))


@pytest.mark.parametrize("example", [torch.zeros(3), torch.zeros(0, *SHAPE), [1, 2]])
def test_examples_that_are_no_batch_are_refused(example):
    with pytest.raises((DataError, ModelError), match="batch of images"):
        Network.trace(build("residual"), example)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_graph_writes_into_nothing(name):
    assert is_functional(traced(name).module.graph)


@pytest.mark.parametrize("name", ["residual", "flattened", "written views"])
def test_inputs_are_not_written_into(name):
    x = images()
    before = x.clone()
    traced(name)(x)
    assert torch.equal(x, before)


def test_the_trace_holds_for_any_number_of_images():
    for name in ("tokens", "one kernel each", "windows"):
        for count in (1, 2, 5):
            assert torch.allclose(traced(name)(images(count)), build(name)(images(count)), atol=1e-12)


def test_constants_are_computed_once_and_weights_shared():
    model = build("standardised")
    network = Network.trace(model, images())
    targets = {str(node.target) for node in network.module.graph.nodes}
    assert not any("std" in target for target in targets)
    pointers = {tensor.data_ptr() for tensor in network.module.buffers()}
    assert model.head.weight.data_ptr() in pointers


def test_random_numbers_are_not_folded():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.noise = nn.Conv2d(3, 5, 3), nn.Parameter(torch.ones(1, 5, 1, 1))

        def forward(self, x):
            return (self.conv(x) + torch.randn_like(self.noise)).mean((2, 3))

    network = Network.trace(Noisy().eval(), x := torch.randn(2, *SHAPE))
    assert not torch.equal(network(x), network(x))


def test_importing_the_package_does_not_import_torch():
    code = "import sys, neurochains; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_copy_of_the_model_has_the_same_digest_and_a_change_another():
    model = build("residual")
    first = Network.trace(model, images()).digest
    other = copy.deepcopy(model)
    assert Network.trace(other, images()).digest == first
    other.head.bias.data[0] += 1
    assert Network.trace(other, images()).digest != first


def test_several_threads_trace_at_a_time():
    from concurrent.futures import ThreadPoolExecutor

    models = [ARCHITECTURES["residual"]().eval() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        found = [pool.submit(Network.trace, model, torch.zeros(1, *SHAPE)) for model in models]
    assert [type(one.exception()) for one in found] == [type(None)] * 3
