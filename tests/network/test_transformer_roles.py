from __future__ import annotations

import pytest
import torch
from tests.architectures import traced as convolutional
from tests.transformers import SHAPE, TRANSFORMERS, images, make, traced
from torch import nn
from torch.nn import functional as F

from neurochains.edit import ScoredNetwork, compact
from neurochains.errors import LayerError
from neurochains.network import Network

UNITS = ("filters", "heads", "hidden")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_heads_and_hidden_units_are_told_from_projections(name):
    network = traced(name)
    roles = {layer.name.rsplit(".", 1)[-1]: layer.role for layer in network.layers}
    for last, role in roles.items():
        if last in ("qkv", "q", "k", "v", "proj", "q_proj", "out_proj", "fc2", "proj_l", "kv"):
            assert role in ("projection", "filter"), last  # "proj" is the patch embedding's name too
        if last in ("fc1", "fc1_g", "fc1_x"):
            assert role == "hidden", last
    if "by hand" not in name:
        assert len(network.heads) >= 3
        assert {layer.units for layer in network.heads} <= {3, 4, 8}
        assert [layer.label for layer in network.heads] == [f"A{i}" for i in range(len(network.heads))]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_compaction_keeps_what_scores_say_of_heads_and_hidden_units(name):
    network = traced(name)
    layers = network.scored(UNITS)
    generator = torch.Generator().manual_seed(5)
    scores = {layer.name: (torch.rand(layer.units, generator=generator) < 0.5) * 1.3 for layer in layers}
    scored = ScoredNetwork(network, layers=layers)(images(), scores)[0]
    small = compact(network, {name: values.nonzero().flatten() for name, values in scores.items()}, scores)
    assert torch.allclose(small(images()), scored, atol=1e-4)
    assert sum(part.numel() for part in small.buffers()) < sum(part.numel() for part in network.module.buffers())


def test_a_head_is_scaled_before_its_projection():
    model, network = make("bundled"), traced("bundled")
    scores = {"blocks.1.attn.heads": torch.tensor([1.0, 0.0, 0.5])}
    found = ScoredNetwork(network, layers=network.heads)(images(), scores)[0]

    class Scaled(nn.Module):
        def __init__(self, proj):
            super().__init__()
            self.proj = proj

        def forward(self, read):
            return self.proj((read.unflatten(-1, (3, 8)) * torch.tensor([1.0, 0.0, 0.5])[:, None]).flatten(-2))

    attention = model.blocks[1].attn
    whole, attention.proj = attention.proj, Scaled(attention.proj)
    try:
        assert torch.allclose(model(images()), found, atol=1e-5)
    finally:
        attention.proj = whole


def test_a_hidden_unit_is_scaled_after_its_activation():
    model, network = make("bundled"), traced("bundled")
    factors = torch.linspace(0, 2, 32)
    name = "blocks.2.mlp.fc1"
    found = ScoredNetwork(network, layers=[network.layer(name)])(images(), {name: factors})[0]
    tokens = model.embed(images())
    for place, block in enumerate(model.blocks):
        tokens = tokens + block.attn(block.norm1(tokens))
        hidden = F.gelu(block.mlp.fc1(block.norm2(tokens)))
        tokens = tokens + block.mlp.fc2(hidden * factors if place == 2 else hidden)
    assert torch.allclose(model.head(model.norm(tokens)[:, 0]), found, atol=1e-5)


def test_units_are_asked_for_by_kind_and_come_in_order():
    network = traced("bundled")
    assert [layer.label for layer in network.scored(("heads",))] == ["A0", "A1", "A2"]
    assert [layer.role for layer in network.scored(("heads", "hidden"))] == ["heads", "hidden"] * 3
    assert network.layer("blocks.0.attn.heads").units == 3
    assert str(network.filter("A1_2")) == "blocks.1.attn.heads[2]"
    with pytest.raises(LayerError, match="The network has no heads to score"):
        convolutional("residual").scored(("heads",))


def test_blocks_are_attention_and_perceptron_apart():
    wanted = ["patch_embed.proj", *(f"blocks.{i}.{part}" for i in range(3) for part in ("attn", "mlp"))]
    assert [block.name for block in traced("bundled").blocks] == wanted
    assert len(traced("hugging face vit").blocks) == 6


def test_networks_without_attention_are_as_they_were():
    network = convolutional("flattened")
    assert network.heads == ()
    assert network.layer("classifier.0").role == "hidden"
    assert network.layer("classifier.0").site is network.layer("classifier.0").producer


class Windowed(nn.Module):
    """Two heads in four windows, as in Swin: images and windows share an axis."""

    def __init__(self):
        super().__init__()
        self.patches, self.qkv = nn.Conv2d(3, 12, 4, stride=4), nn.Linear(12, 36)
        self.proj, self.out = nn.Linear(12, 12), nn.Linear(12, 5)

    def forward(self, x):
        x = self.patches(x).permute(0, 2, 3, 1)
        windows = x.reshape(-1, 2, 2, 2, 2, 12).transpose(2, 3).reshape(-1, 4, 12)
        q, k, v = self.qkv(windows).reshape(-1, 4, 3, 2, 6).permute(2, 0, 3, 1, 4).unbind(0)
        maps = (q @ k.transpose(-2, -1) * 0.4).softmax(-1)
        read = self.proj((maps @ v).transpose(1, 2).reshape(-1, 4, 12))
        x = x + read.reshape(-1, 2, 2, 2, 2, 12).transpose(2, 3).reshape(-1, 4, 4, 12)
        return self.out(x.mean((1, 2)))


def test_heads_in_windows_are_scored_for_each_image():
    network = Network.trace(Windowed().eval(), torch.randn(2, *SHAPE))
    (layer,) = network.heads
    assert (layer.name, layer.units) == ("attention.heads", 2)
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    by_image = ScoredNetwork(network, layers=network.heads)(images(), {layer.name: rows})[0]
    for place, row in enumerate(rows):
        alone = ScoredNetwork(network, layers=network.heads)(images()[place : place + 1], {layer.name: row})[0]
        assert torch.allclose(by_image[place], alone[0], atol=1e-5)
