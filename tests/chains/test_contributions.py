from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.transformers import images as tokens_images
from tests.transformers import make as make_transformer
from tests.transformers import traced as traced_transformer
from torch.func import functional_call

from neurochains.chains import Scores
from neurochains.chains.calculation import OUTPUT, Calculation, class_margin
from neurochains.chains.contributions import contributions, kernel_contributions
from neurochains.data import Task
from neurochains.edit.scores import ScoredNetwork
from neurochains.network import Filter, Network


def literal(model, scores, images):
    """The contributions to class 0 (of 0 and 1) of a small residual network, kernel by kernel, from the formula."""
    names = ("stem", "inner", "last")
    score = {name: scores.units[name].view(-1, 1, 1) for name in names}
    found = {}
    for image in images:
        z1 = (model.stem(image[None]) * score["stem"]).detach().requires_grad_()
        z2 = model.norm(model.inner(torch.relu(z1))) * score["inner"]
        x = torch.relu(z2 + torch.relu(z1))
        z3 = model.last(x) * score["last"]
        logits = model.fc(torch.relu(z3).mean((2, 3)))[0]
        g1, g2, g3 = torch.autograd.grad(logits[0] - logits[1], (z1, z2, z3))
        gain = (model.norm.weight / (model.norm.running_var + model.norm.eps).sqrt()).view(-1, 1, 1)
        opened = z2 + torch.relu(z1) > 0
        steps = [
            ("input", "stem", image[None], model.stem, score["stem"], g1),
            ("stem", "inner", torch.relu(z1), model.inner, gain * score["inner"], g2),
            ("stem", "last", opened * torch.relu(z1), model.last, score["last"], g3),
            ("inner", "last", opened * z2, model.last, score["last"], g3),
        ]
        for source, target, part, layer, scale, gradient in steps:
            block = found.setdefault((source, target), torch.zeros(layer.weight.shape[:2], dtype=part.dtype))
            for i in range(part.shape[1]):
                maps = F.conv2d(part[:, i : i + 1], layer.weight[:, i : i + 1], padding=layer.padding) * scale
                block[:, i] += (maps * gradient).sum((0, 2, 3)).detach() / len(images)
        weights = model.fc.weight[0] - model.fc.weight[1]
        block = found.setdefault(("last", OUTPUT), torch.zeros(1, len(weights), dtype=weights.dtype))
        block[0] += (torch.relu(z3).mean((2, 3))[0] * weights).detach() / len(images)
    return found


class Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(2, 4, 3, padding=1)
        self.inner = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.norm = torch.nn.BatchNorm2d(4)
        self.last = torch.nn.Conv2d(4, 3, 1)
        self.fc = torch.nn.Linear(3, 2)
        torch.nn.init.uniform_(self.norm.weight, 0.5, 1.5)
        torch.nn.init.uniform_(self.norm.bias, -0.5, 0.5)

    def forward(self, images):
        maps = torch.relu(self.stem(images))
        maps = torch.relu(self.norm(self.inner(maps)) + maps)
        return self.fc(torch.relu(self.last(maps)).mean((2, 3)))


def test_it_is_the_formula_written_out_kernel_by_kernel():
    model = Residual().eval().requires_grad_(False).double()
    images = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    network = Network.trace(model, images)
    scores = Scores({name: 0.5 + torch.rand(units) for name, units in (("stem", 4), ("inner", 4), ("last", 3))})
    scores.units["stem"][1] = scores.units["inner"][3] = scores.units["last"][0] = 0
    found = Calculation(network, scores).kernels(images, 0, [1])
    wanted = literal(model, scores, images)
    kept = {"input": torch.arange(2), **scores.filters, OUTPUT: torch.tensor([0])}
    assert found.keys() == wanted.keys()
    for (source, target), block in found.items():
        chosen = wanted[source, target][kept[target]][:, kept[source]]
        torch.testing.assert_close(block / len(images), chosen, rtol=1e-9, atol=1e-12)


def weight_products(network, scores, images, label, others):
    """The contributions of all kernels into each unit together: weight times gradient, by plain differentiation."""
    scored = ScoredNetwork(network, layers=[network.layer(name) for name in scores.units])
    held = dict(scored.graph.named_buffers())
    weights = {name: value.clone().requires_grad_("running" not in name) for name, value in held.items()}
    rows = [scores.units[layer.name].view(1, -1, 1, 1) for layer in scored.layers]
    logits, _ = functional_call(scored.graph, weights, (images, *rows))
    class_margin(logits, label, others).sum().backward()
    layers = {name: network.layer(name) for name in scores.filters}
    return {name: (weights[la.weight] * weights[la.weight].grad).flatten(1).sum(1) for name, la in layers.items()}


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_all_that_comes_into_a_filter_adds_up(mixed, mixed_task, draw_scores, share):
    """Through residual adds, concatenation, pooling, squeeze-and-excitation and activations that are no ReLUs."""
    scores = draw_scores(mixed, share)
    images = mixed_task.images[[0, 2, 4]]
    found = Calculation(mixed, scores).kernels(images, 0, [2])
    wanted = weight_products(mixed, scores, images, 0, [2])
    assert wanted.keys() == {target for _, target in found} - {OUTPUT}
    for name, kept in scores.filters.items():
        total = sum(block.sum(1) for (_, target), block in found.items() if target == name)
        torch.testing.assert_close(total.float(), wanted[name][kept], rtol=1e-3, atol=1e-5)


def test_all_that_comes_into_a_class_adds_up_to_its_margin(mixed, mixed_task, draw_scores):
    scores = draw_scores(mixed)
    images = mixed_task.images[[1, 3]]
    block = Calculation(mixed, scores).kernels(images, 2, [0])["last", OUTPUT]
    bias = mixed.module.w_fc_bias
    margin = (scores.run(mixed, images) - bias) @ torch.tensor([-1.0, 0.0, 1.0])
    torch.testing.assert_close(block.sum().float(), margin.sum(), rtol=1e-4, atol=1e-5)


def test_only_kernels_that_exist_contribute(mixed, mixed_task):
    found = contributions(mixed, mixed_task, Scores.ones(mixed.scored())).kernels
    into = {target: {source for source, other in found if other == target} for _, target in found}
    assert into == {
        "stem": {"input"},
        "conv1": {"stem"},
        "depthwise": {"stem", "conv1"},
        "grouped": {"stem", "conv1", "depthwise"},
        "side": {"stem", "conv1"},
        "last": {"grouped", "side"},
        OUTPUT: {"last"},
    }
    for source in into["depthwise"]:
        assert (found[source, "depthwise"].abs().sum(0) > 0).int().equal(torch.eye(6, dtype=torch.int32))
    across = found["depthwise", "grouped"].abs().sum(0)
    assert across[:4, 3:].eq(0).all()
    assert across[4:, :3].eq(0).all()
    assert across[:4, :3].gt(0).any()


def test_images_weigh_the_same_however_they_are_cut(mixed, mixed_task, draw_scores, monkeypatch):
    scores = draw_scores(mixed)
    at_once = contributions(mixed, mixed_task, scores)
    monkeypatch.setattr(Calculation, "images_at_once", 2)
    cut = contributions(mixed, mixed_task, scores)
    for pair, block in at_once.kernels.items():
        torch.testing.assert_close(cut.kernels[pair], block, rtol=1e-4, atol=1e-6)


def test_a_skipped_block_is_no_part_of_it():
    model = Residual().eval().requires_grad_(False)
    images = torch.randn(4, 2, 6, 6)
    network = Network.trace(model, images)
    (block,) = [block for block in network.blocks if block.layers == ("inner",)]
    scores = Scores(Scores.ones(network.scored()).units, {block.name: 0.0})
    task = Task(images, torch.tensor([0, 0, 1, 1]))
    found = contributions(network, task, scores)
    assert found.kernels.keys() == {("input", "stem"), ("stem", "last"), ("last", OUTPUT)}
    margin = (scores.run(network, images[:2]) - model.fc.bias) @ torch.tensor([1.0, -1.0])
    assert float(found.kernels["last", OUTPUT][0].sum()) == pytest.approx(float(margin.mean()), rel=1e-4)


def test_edges_name_kept_filters_and_classes(mixed, mixed_task, draw_scores):
    scores = draw_scores(mixed)
    found = contributions(mixed, mixed_task, scores)
    edges = kernel_contributions(mixed, mixed_task, scores)
    kept = set(scores.list_filters())
    assert found.classes == (0, 2)
    assert {edge.source for edge in edges if edge.source.layer != "input"} <= kept
    assert {edge.target for edge in edges if edge.target.layer == OUTPUT} == {Filter(OUTPUT, 0), Filter(OUTPUT, 2)}
    for edge in edges:
        assert set(edge.contributions) == ({edge.target.index} if edge.target.layer == OUTPUT else {0, 2})
        assert edge.strength > 0
    edge = next(edge for edge in edges if edge.target.layer == "last" and edge.source.layer == "side")
    row, column = (found.units[f.layer].tolist().index(f.index) for f in (edge.target, edge.source))
    assert edge.contributions[2] == float(found.kernels["side", "last"][1, row, column])


def test_images_without_labels_count_for_what_the_original_predicts(mixed, draw_scores):
    images = torch.randn(6, 3, 12, 12)
    predicted = mixed(images).argmax(1)
    without = contributions(mixed, Task(images), draw_scores(mixed))
    assert set(without.classes) == set(predicted.tolist())
    labelled = contributions(mixed, Task(images, predicted), draw_scores(mixed))
    for pair, block in labelled.kernels.items():
        torch.testing.assert_close(without.kernels[pair], block)


@pytest.mark.parametrize(("others", "wanted"), [([1], 2.0), ([1, 2], 1.5), ([], 1.0)])
def test_a_class_is_its_logit_less_the_mean_of_the_others(others, wanted):
    assert class_margin(torch.tensor([[3.0, 1.0, 2.0, 3.0]]), 0, others).tolist() == [wanted]


def test_the_only_output_counts_for_itself():
    assert class_margin(torch.tensor([[3.0]]), 0, []).tolist() == [3.0]


def test_the_network_is_left_as_it_was(mixed, mixed_task, draw_scores):
    before = {name: value.clone() for name, value in mixed.module.named_buffers()}
    contributions(mixed, mixed_task, draw_scores(mixed))
    assert not mixed_task.images.requires_grad
    for name, value in mixed.module.named_buffers():
        assert value.equal(before[name])
        assert not value.requires_grad


def test_heads_are_passed_through_with_their_scores():
    """A head with a score is a head whose columns of the projection carry it."""
    network = traced_transformer("bundled")
    heads = {layer.name: torch.linspace(0.0, 1.5, layer.units) for layer in network.heads}
    hidden = {f"blocks.{i}.mlp.fc1": torch.rand(32, generator=torch.Generator().manual_seed(i)) for i in range(3)}
    model = copy.deepcopy(make_transformer("bundled"))
    for block in model.blocks:
        block.attn.proj.weight.data.mul_(torch.linspace(0.0, 1.5, 3).repeat_interleave(8))
    task = Task(tokens_images(4), labels=torch.tensor([0, 0, 1, 1]), class_names=list("abcde"))
    found = contributions(network, task, Scores({**heads, **hidden}))
    scaled = contributions(Network.trace(model, task.images[:1]), task, Scores(hidden))
    assert found.kernels.keys() == scaled.kernels.keys()
    assert ("blocks.0.mlp.fc1", "blocks.2.mlp.fc1") in found.kernels
    for pair, values in found.kernels.items():
        assert torch.allclose(values, scaled.kernels[pair], atol=1e-6)
