"""The compact network against the scored one, on every architecture that makes compaction hard."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.architectures import ARCHITECTURES, SHAPE, build, images, traced
from torch import nn

from neurochains.edit import CompactNetwork, ScoredNetwork, SubNetwork, compact
from neurochains.errors import LayerError
from neurochains.network import Network

NAMES = sorted(ARCHITECTURES)
GATED = ("channels last", "dilated", "grouped", "residual", "reused", "tokens", "windows")
SHARES = (0.0, 0.2, 0.5, 0.8, 1.0)


def scorable(network):
    return [layer for layer in network.layers if layer.role != "head"]


def draw_scores(network, share, seed, *, samples=None):
    """Scores of every layer but the head, 0 for the units to remove; ``(units,)`` or ``(samples, units)``."""
    generator = torch.Generator().manual_seed(seed)
    scores = {}
    for layer in scorable(network):
        kept = torch.rand(layer.units, generator=generator) < share
        leading = () if samples is None else (samples,)
        scores[layer.name] = (torch.rand(*leading, layer.units, generator=generator).double() + 0.5) * kept
    return scores


def kept_of(scores):
    return {name: values.reshape(-1, values.shape[-1]).any(0) for name, values in scores.items()}


def run_scored(network, x, scores, **options):
    layers = [network.layer(name) for name in scores]
    return ScoredNetwork(network, layers=layers, **options)


def assert_same(left, right):
    left, right = left.detach(), right.detach()
    assert left.shape == right.shape
    assert torch.allclose(left, right, rtol=1e-9, atol=1e-9 * float(left.max() - left.min() + 1e-30))


@pytest.mark.parametrize("name", NAMES)
def test_the_trace_computes_what_the_model_computes(name):
    assert_same(build(name)(images()), traced(name)(images()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", SHARES)
def test_compact_computes_what_scored_computes(name, share):
    network, x = traced(name), images()
    for seed in range(2):
        scores = draw_scores(network, share, seed)
        wanted = run_scored(network, x, scores)(x, scores)[0]
        small = compact(network, kept_of(scores), scores)
        assert_same(wanted, small(x))
        assert_same(wanted[:1], small(x[:1]))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.data())
def test_compact_computes_what_scored_computes_whatever_is_kept(name, data):
    network, x = traced(name), images(2)
    layers = data.draw(st.lists(st.sampled_from(scorable(network)), unique_by=lambda layer: layer.name))
    keep = {}
    for layer in layers:
        mask = data.draw(st.lists(st.booleans(), min_size=layer.units, max_size=layer.units))
        keep[layer.name] = torch.tensor(mask)
    scores = {name: mask.double() for name, mask in keep.items()}
    assert_same(run_scored(network, x, scores)(x, scores)[0], compact(network, keep)(x))


@pytest.mark.parametrize("name", NAMES)
def test_scores_may_differ_from_image_to_image_and_gradients_agree(name):
    network, x = traced(name), images()
    scores = draw_scores(network, 0.6, 0, samples=len(x))
    keep = {name: mask.nonzero().flatten() for name, mask in kept_of(scores).items()}
    layers = [network.layer(name) for name in scores]
    full = {name: values.clone().requires_grad_() for name, values in scores.items()}
    wanted = ScoredNetwork(network, layers=layers)(x, full)[0]
    small = {name: values[:, keep[name]].clone().requires_grad_() for name, values in scores.items()}
    got = CompactNetwork(network, keep, layers=layers)(x, small)
    assert_same(wanted, got)
    weights = torch.randn_like(wanted)
    for side in (wanted, got):
        (side * weights).sum().backward()
    for name, values in small.items():
        of_kept = full[name].grad[:, keep[name]]
        zero = torch.zeros_like(of_kept)
        assert torch.allclose(of_kept, zero if values.grad is None else values.grad, atol=1e-10)


@pytest.mark.parametrize("name", GATED)
def test_gates_blend_and_skips_leave_out(name):
    network, x = traced(name), images()
    scores = draw_scores(network, 0.5, 1)
    kept = {name: mask.nonzero().flatten() for name, mask in kept_of(scores).items()}
    gates = {block.name: torch.rand(len(x), dtype=torch.float64) for block in network.blocks}
    wanted = run_scored(network, x, scores, blocks=network.blocks)(x, scores, gates)[0]
    layers = [network.layer(name) for name in scores]
    gated = CompactNetwork(network, kept, layers=layers, gated=network.blocks)
    small = {name: values[kept[name]] for name, values in scores.items()}
    assert_same(wanted, gated(x, small, gates))
    assert_same(run_scored(network, x, scores)(x, scores)[0], gated(x, small))
    skipped = {block.name: torch.zeros((), dtype=torch.float64) for block in network.blocks}
    wanted = run_scored(network, x, scores, blocks=network.blocks)(x, scores, skipped)[0]
    assert_same(wanted, compact(network, kept, scores, skipped=tuple(skipped))(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_other_memory_formats_and_half_precision_work_too(name, share):
    network, x = traced(name), images()
    scores = draw_scores(network, share, 3)
    small = compact(network, kept_of(scores), scores)
    last = torch.channels_last
    assert_same(small(x), small.to(memory_format=last)(x.contiguous(memory_format=last)))
    single = small.float()(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        half = small(x.float()).float()
    assert torch.allclose(single, half, atol=0.05 * float(single.abs().max()))


def plain(*widths: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 5)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
    return model


def test_weights_are_exact_copies_of_rows_and_columns():
    model = plain(3, 8, 6)
    network = Network.trace(model, torch.randn(1, *SHAPE))
    small = compact(network, {"0": torch.tensor([5, 1]), "3": torch.tensor([0, 2, 4])})
    tensors = [tensor for tensor in small.buffers() if tensor.is_floating_point()]
    first, second, head = model[0].weight[[1, 5]], model[3].weight[[0, 2, 4]][:, [1, 5]], model[8].weight[:, [0, 2, 4]]
    for wanted in (first, second, head, model[0].bias[[1, 5]], model[1].running_mean[[1, 5]], model[8].bias):
        assert sum(tensor.shape == wanted.shape and torch.equal(tensor, wanted) for tensor in tensors) == 1


def test_the_result_shares_no_memory_with_the_model():
    model = plain(3, 4)
    network = Network.trace(model, torch.randn(1, *SHAPE))
    small, x = compact(network, {"0": torch.arange(4)}), torch.randn(2, *SHAPE)
    before = small(x)
    for parameter in model.parameters():
        parameter.data.zero_()
    assert torch.equal(before, small(x))


def test_removed_filters_are_not_computed():
    network = Network.trace(plain(3, 8, 8), torch.randn(1, *SHAPE))
    small = compact(network, {"0": torch.arange(2), "3": torch.arange(3)})
    weights = [node.args[1].target for node in small.body.graph.nodes if node.target is torch.ops.aten.conv2d.default]
    assert [tuple(small.body.get_buffer(name).shape) for name in weights] == [(2, 3, 3, 3), (3, 2, 3, 3)]


def test_scores_of_one_cost_nothing_and_others_one_product():
    network = Network.trace(plain(3, 4), torch.randn(1, *SHAPE))
    keep = {"0": torch.arange(3)}

    def products(scores):
        nodes = compact(network, keep, scores).body.graph.nodes
        return sum(node.target is torch.ops.aten.mul.Tensor for node in nodes)

    assert products({"0": torch.ones(4)}) == 0
    assert products({"0": torch.full((4,), 0.5)}) == 1


def test_sums_keep_the_layout_of_images_and_add_one_side_in_its_places():
    """The stem lives on whole, the branch in part: nothing is spread to full width, and maps stay channels last."""
    network = traced("residual")
    keep = {layer.name: torch.arange(layer.units) for layer in scorable(network)}
    branch = next(name for name, units in reversed(keep.items()) if len(units) > 2)
    keep[branch] = torch.arange(2)
    small = compact(network, keep)
    targets = [node.target for node in small.body.graph.nodes]
    assert torch.ops.aten.index_add.default in targets
    assert torch.ops.aten.expand.default not in targets
    layouts = []

    class Watch(torch.fx.Interpreter):
        def run_node(self, n):
            value = super().run_node(n)
            if n.target is torch.ops.aten.conv2d.default:
                layouts.append(self.env[n.args[0]].is_contiguous(memory_format=torch.channels_last))
            return value

    Watch(small.body).run(images().contiguous(memory_format=torch.channels_last))
    assert len(layouts) > 2
    assert all(layouts)


def test_layers_are_named_by_label_too():
    network, x = Network.trace(plain(3, 4), torch.randn(1, *SHAPE)), torch.randn(2, *SHAPE)
    scores = torch.tensor([0.5, 0.0, 2.0, 1.0])
    by_label = compact(network, {"L0": scores != 0}, {"L0": scores})
    assert torch.equal(by_label(x), compact(network, {"0": scores.nonzero().flatten()}, {"0": scores})(x))


def test_a_sub_network_runs_in_another_type_and_is_traced_again():
    network, x = Network.trace(plain(3, 8, 6), torch.randn(1, *SHAPE)), torch.randn(2, *SHAPE)
    small = compact(network, {"0": torch.arange(3)}, {"0": torch.rand(8)})
    assert isinstance(small, SubNetwork)
    again = Network.trace(small, x)
    assert torch.allclose(again(x), small(x), atol=1e-6)
    assert [layer.units for layer in again.layers] == [3, 6, 5]


@pytest.mark.parametrize(
    ("keep", "skipped", "message"),
    [
        ({"9": torch.arange(2)}, (), "No layer is called '9'"),
        ({"0": torch.tensor([4])}, (), "0 has units 0 to 3; got 4 to 4"),
        ({"0": torch.tensor([True, False])}, (), r"A mask of 0 has shape \(4,\); got \(2,\)"),
        ({"0": torch.arange(2)}, ("nowhere",), "No block is called 'nowhere'"),
    ],
)
def test_wrong_names_and_indices_are_refused(keep, skipped, message):
    network = Network.trace(plain(3, 4), torch.randn(1, *SHAPE))
    with pytest.raises(LayerError, match=message):
        compact(network, keep, skipped=skipped)
