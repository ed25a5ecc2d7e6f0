from __future__ import annotations

import pytest
import torch
from tests.transformers import TRANSFORMERS, images, make, traced

from neurochains.edit.tokens import TokenNetwork
from neurochains.errors import DataError, ModelError


def random_kept(tokens: TokenNetwork, count: int, share: float = 0.6) -> torch.Tensor:
    """Patches kept at random, nested over blocks; the first always, but by the first image where that is allowed."""
    shape = (count, len(tokens.tokens.blocks), tokens.tokens.patches)
    kept = (torch.rand(shape, generator=torch.Generator().manual_seed(2)) < share).cumprod(1).bool()
    kept[:, :, 0] = True
    if not tokens.tokens.least:
        kept[0] = False
    return kept


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_weights_of_one_are_the_original(name):
    network = traced(name)
    tokens = TokenNetwork(network)
    ones = torch.ones(3, len(tokens.tokens.blocks), tokens.tokens.patches)
    assert torch.allclose(tokens(images(), ones), network(images()), atol=1e-5)
    assert torch.allclose(tokens.dropped(images(), ones.bool()), network(images()), atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_weights_of_zero_are_patches_really_dropped(name):
    network = traced(name)
    tokens = TokenNetwork(network)
    kept = random_kept(tokens, 3)
    weighed, dropped = tokens(images(), kept.float()), tokens.dropped(images(), kept)
    assert torch.allclose(weighed, dropped, atol=1e-5)
    assert (dropped - network(images())).abs().max() > 1e-3


def test_dropped_patches_are_those_that_a_loop_over_the_blocks_leaves_out():
    model, tokens = make("bundled"), TokenNetwork(traced("bundled"))
    kept = random_kept(tokens, 3)
    for image, mask, logits in zip(images(), kept, tokens.dropped(images(), kept), strict=True):
        stream, there = model.embed(image[None]), torch.arange(tokens.tokens.patches)
        for block, stays in zip(model.blocks, mask, strict=True):
            places = stays[there].nonzero().flatten()
            stream, there = torch.cat([stream[:, :1], stream[:, 1:][:, places]], 1), there[places]
            stream = block(stream)
        assert torch.allclose(model.head(model.norm(stream)[:, 0])[0], logits, atol=1e-5)


def test_images_do_not_touch_each_other():
    tokens = TokenNetwork(traced("timm beit"))
    kept = random_kept(tokens, 3)
    together = tokens.dropped(images(), kept)
    alone = torch.cat([tokens.dropped(images()[i : i + 1], kept[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_gradient_of_a_weight_is_what_a_small_change_makes():
    tokens = TokenNetwork(traced("bundled"))
    weights = torch.ones(3, len(tokens.tokens.blocks), tokens.tokens.patches).requires_grad_()
    tokens(images(), weights)[:, 2].sum().backward()
    changed = weights.detach().clone()
    changed[1, 1, 3] += 0.01
    rise = (tokens(images(), changed) - tokens(images(), weights)).detach()[1, 2]
    assert float(rise) / 0.01 == pytest.approx(float(weights.grad[1, 1, 3]), rel=0.05, abs=1e-4)
    assert bool(weights.grad.any(2).all())


@pytest.mark.parametrize("name", ["bundled", "hugging face deit unfused", "unfused by hand"])
def test_maps_are_shares_of_what_is_there(name):
    tokens = TokenNetwork(traced(name))
    kept = random_kept(tokens, 3)
    for block, maps in enumerate(tokens.maps(images(), kept.float())):
        assert maps.shape == (3, tokens.tokens.count, tokens.tokens.count)
        assert torch.allclose(maps.sum(-1), torch.ones(()), atol=1e-5)
        gone = torch.cat([torch.zeros(3, tokens.tokens.special, dtype=torch.bool), ~kept[:, block]], 1)
        assert float(maps.transpose(1, 2)[gone].abs().max()) < 1e-12


def test_maps_are_those_that_the_model_itself_gives():
    model, tokens = make("hugging face deit unfused"), TokenNetwork(traced("hugging face deit unfused"))
    told = model(images(), output_attentions=True).attentions
    for own, theirs in zip(tokens.maps(images()), told, strict=True):
        assert torch.allclose(own, theirs.mean(1), atol=1e-5)


def test_a_network_without_tokens_says_why():
    from tests.architectures import traced as convolutional

    with pytest.raises(ModelError, match="cannot be scored: it has no attention"):
        TokenNetwork(convolutional("residual"))


def test_wrong_shapes_and_nothing_to_read_are_refused():
    tokens = TokenNetwork(traced("unfused by hand"))
    with pytest.raises(DataError, match=r"Wanted \(B, 2 blocks, 16 patches\); got \(3, 2, 4\)"):
        tokens(images(), torch.ones(3, 2, 4))
    kept = torch.ones(3, 2, 16, dtype=torch.bool)
    kept[1, 1] = False
    with pytest.raises(DataError, match="at least one patch in every block"):
        tokens.dropped(images(), kept)


@pytest.mark.parametrize("name", ["bundled", "unfused by hand"])
def test_maps_of_heads_average_to_the_maps(name):
    tokens = TokenNetwork(traced(name))
    for whole, heads in zip(tokens.maps(images()), tokens.head_maps(images()), strict=True):
        assert heads.ndim == 4
        assert heads.shape[1] == {"bundled": 3, "unfused by hand": 2}[name]
        assert torch.allclose(heads.sum(-1), torch.ones(()), atol=1e-5)
        assert torch.allclose(heads.mean(1), whole, atol=1e-6)
