from __future__ import annotations

import re

import pytest
import torch
from tests.architectures import traced as convolutional
from tests.transformers import SHAPE, TRANSFORMERS, traced
from torch import nn

from neurochains.edit import examine
from neurochains.network import Network
from neurochains.network.attention import find_attentions, other_attention
from neurochains.network.tokens import NoTokens, Tokens, find_tokens

# special tokens, blocks, attentions of each, whether fused, blocks in which a patch must stay
WANTED = {
    "bundled": (1, 3, 1, True, 0),
    "timm vit with registers": (3, 3, 1, True, 0),
    "timm vit averaged": (0, 3, 1, True, 3),
    "timm vit parallel": (1, 3, 2, True, 0),
    "timm vit attention pool": (0, 4, 1, True, 4),
    "timm deit distilled": (2, 3, 1, True, 0),
    "timm beit": (1, 3, 1, True, 3),
    "timm eva": (1, 3, 1, True, 3),
    "timm cait": (0, 4, 1, False, 3),
    "torchvision vit": (1, 3, 1, True, 0),
    "hugging face vit": (1, 3, 1, True, 0),
    "hugging face deit unfused": (2, 3, 1, False, 0),
    "unfused by hand": (0, 2, 1, False, 2),
}


def tokens_of(model: nn.Module) -> Tokens | NoTokens:
    return find_tokens(Network.trace(model.eval(), torch.randn(2, *SHAPE)).module)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_tokens_are_found_in_every_make(name):
    special, blocks, attentions, fused, least = WANTED[name]
    found = find_tokens(traced(name).module)
    assert isinstance(found, Tokens)
    assert (found.special, found.grid, len(found.blocks), found.least) == (special, (4, 4), blocks, least)
    assert (found.patches, found.count) == (16, 16 + special)
    assert len(found.blocks[0].attentions) == attentions
    assert found.blocks[0].attentions[0].fused is fused


def test_talking_heads_are_told_apart():
    *patches, _ = find_attentions(traced("timm cait").module.graph)
    assert any(attention.mixed for attention in patches)
    assert not any(attention.mixed for attention in find_attentions(traced("bundled").module.graph))


class Wrong(nn.Module):
    """A transformer in which one thing is done to the tokens that cannot be followed."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 4, stride=4)
        self.out = nn.Linear(12, 5)
        self.mix = nn.Linear(16, 16)

    def attend(self, x):
        return x + nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]

    def forward(self, x):
        return self.out(self.wrong(self.attend(self.patches(x).flatten(2).transpose(1, 2))).mean(1))


class Windows(Wrong):
    def wrong(self, x):
        return self.attend(x.reshape(-1, 4, 4, 12).transpose(1, 2).reshape(-1, 16, 12))


class Mixing(Wrong):
    def wrong(self, x):
        return x + self.mix(x.transpose(1, 2)).transpose(1, 2)


class Picking(Wrong):
    def wrong(self, x):
        return x[:, 3:9]


class Normalising(Wrong):
    def wrong(self, x):
        return nn.functional.layer_norm(x, (16, 12))


class Summing(Wrong):
    def wrong(self, x):
        return x + x @ (x.transpose(1, 2) @ x)


class Scattered(Wrong):
    def wrong(self, x):
        return torch.cat([x, x[:, :1] * 0 + 1], 1)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Windows, "cuts the tokens up"),
        (Mixing, "aten.linear.default in mix .Linear. mixes the tokens by fixed weights"),
        (Picking, "picks some of the patches"),
        (Normalising, "normalises over the tokens"),
        (Summing, "sums over tokens without a softmax"),
        (Scattered, "picks some of the patches|puts tokens behind the patches"),
    ],
)
def test_what_cannot_be_followed_is_named(model, reason):
    found = tokens_of(model())
    assert isinstance(found, NoTokens)
    assert re.search(reason, found.reason)


class Maps(nn.Module):
    """Attention over the positions of a map, as in a convolutional network."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, stride=4)
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        read = x.flatten(2).transpose(1, 2)[:, None]
        read = nn.functional.scaled_dot_product_attention(read, read, read)
        return self.out((x + read[:, 0].transpose(1, 2).unflatten(2, (4, 4))).mean((2, 3)))


def test_networks_without_rows_of_tokens_say_so():
    assert "no attention" in find_tokens(convolutional("residual").module).reason
    assert "reads a tensor (1, 12, 4, 4), no row of tokens" in tokens_of(Maps()).reason


def test_tokens_may_differ_in_number_between_axes_of_one_length():
    """16 patches of width 16 in heads of 16: no axis is taken for another."""

    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.out = nn.Conv2d(3, 16, 4, stride=4), nn.Linear(16, 5)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            q = x.reshape(-1, 16, 1, 16).transpose(1, 2)
            x = x + nn.functional.scaled_dot_product_attention(q, q, q).transpose(1, 2).flatten(2)
            return self.out(x.mean(1))

    found = tokens_of(Square())
    assert isinstance(found, Tokens)
    assert found.patches == 16


class Einsum(nn.Module):
    """Attention in windows by einsum, as in torchvision's MaxViT: images, windows, heads, queries, keys."""

    def __init__(self):
        super().__init__()
        self.patches, self.qkv = nn.Conv2d(3, 12, 4, stride=4), nn.Linear(12, 36)
        self.out = nn.Linear(12, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2).unflatten(1, (4, 4))
        q, k, v = (part.unflatten(-1, (2, 6)).transpose(2, 3) for part in self.qkv(x).chunk(3, -1))
        maps = (torch.einsum("bghid,bghjd->bghij", q, k) * 0.4).softmax(-1)
        read = torch.einsum("bghij,bghjd->bghid", maps, v).transpose(2, 3).flatten(3)
        return self.out((x + read).mean((1, 2)))


def test_attention_by_einsum_is_recognised_without_its_heads():
    network = Network.trace(Einsum().eval(), torch.randn(2, *SHAPE))
    (found,) = find_attentions(network.module.graph)
    assert (found.heads, found.fused) == (0, False)
    assert network.heads == ()
    assert network.layer("qkv").role == "projection"
    assert "no row of tokens" in find_tokens(network.module).reason


class Factorised(nn.Module):
    """Keys normalised over the tokens, and multiplied with the values first, as in CoaT."""

    def __init__(self):
        super().__init__()
        self.patches, self.qkv, self.out = nn.Conv2d(3, 12, 4, stride=4), nn.Linear(12, 36), nn.Linear(12, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = (part.unflatten(-1, (2, 6)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        read = q @ (k.softmax(2).transpose(2, 3) @ v)
        return self.out((x + read.transpose(1, 2).flatten(2)).mean(1))


class Linear(Factorised):
    """Attention without a softmax, as in EfficientViT."""

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        q, k, v = (part.unflatten(-1, (2, 6)).transpose(1, 2) for part in self.qkv(x).relu().chunk(3, -1))
        read = q @ (k.transpose(2, 3) @ v)
        return self.out((x + read.transpose(1, 2).flatten(2)).mean(1))


def test_linear_attention_is_none_and_said_to_be_none():
    network = Network.trace(Linear().eval(), torch.randn(2, *SHAPE))
    assert other_attention(network.module.graph).endswith("without a softmax, as in linear attention: 2")
    assert "as in linear attention: 2)" in find_tokens(network.module).reason
    assert other_attention(convolutional("residual").module.graph) == ""


def test_factorised_attention_is_none_and_said_to_be_none():
    network = Network.trace(Factorised().eval(), torch.randn(2, *SHAPE))
    assert other_attention(network.module.graph).endswith("as in factorised attention: 1")
    assert "something else than values by keys, as in factorised attention: 1)" in find_tokens(network.module).reason
    assert other_attention(traced("hugging face deit unfused").module.graph) == ""
    assert any(
        "factorised attention: 1." in text for text in examine(Factorised().eval(), torch.randn(2, *SHAPE)).warnings
    )


def test_the_grid_is_that_of_the_map_even_where_a_row_is_as_long():
    class Row(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches, self.out = nn.Conv2d(3, 12, 4, stride=4), nn.Linear(12, 5)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = (x[:, None].transpose(2, 3).reshape(-1, 12, 16, 1) * 2)[..., 0].transpose(1, 2)
            read = nn.functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])
            return self.out((x + read[:, 0]).mean(1))

    assert tokens_of(Row()).grid == (4, 4)
