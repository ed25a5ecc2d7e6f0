from __future__ import annotations

import pytest
import torch
from tests.transformers import images, traced

from neurochains.chains.objectives import kl_divergence
from neurochains.chains.patch_selections import (
    PatchRecipe,
    attended_patches,
    judge_patches,
    paper_patches,
    random_patches,
)
from neurochains.chains.patches import PatchSettings, depths_to_kept, find_patches, kept_tokens
from neurochains.edit.tokens import TokenNetwork
from neurochains.errors import SettingsError

FIDELITY = 0.05


@pytest.fixture(scope="module")
def tokens() -> TokenNetwork:
    return TokenNetwork(traced("bundled"))


@pytest.fixture(scope="module")
def found(tokens):
    return find_patches(tokens, images(6), fidelity=FIDELITY)


def literal_divergence(tokens: TokenNetwork, image: torch.Tensor, kept: torch.Tensor) -> float:
    """One image at a time, by weights of 0 at full width."""
    weights = kept[None].float()
    return float(kl_divergence(tokens(image[None], weights), tokens(image[None], torch.ones_like(weights))))


def test_every_image_is_within_the_budget_and_keeps_its_prediction(tokens, found):
    assert found.kept.shape == (6, 3, 16)
    assert bool(found.agrees.all())
    for image, kept, divergence in zip(images(6), found.kept, found.divergence, strict=True):
        assert literal_divergence(tokens, image, kept) == pytest.approx(float(divergence), abs=1e-5)
        assert float(divergence) <= FIDELITY * 1.0001
    assert float(found.dropped.median()) > 0.5


def test_what_is_dropped_stays_dropped(found):
    assert bool((found.kept[:, 1:] <= found.kept[:, :-1]).all())


def test_no_single_patch_can_leave_a_block(tokens, found):
    assert bool(found.minimal.all())
    image, kept = images(6)[1], found.kept[1]
    answer = tokens(image[None], torch.ones(1, 3, 16)).argmax()
    for block, patch in kept.nonzero().tolist():
        less = kept.clone()
        less[block:, patch] = False
        same = tokens(image[None], less[None].float()).argmax() == answer
        assert not same or literal_divergence(tokens, image, less) > FIDELITY


def test_a_smaller_budget_keeps_more(tokens, found):
    strict = find_patches(tokens, images(6), fidelity=FIDELITY / 50)
    assert int(strict.kept.sum()) > int(found.kept.sum())


def test_what_the_units_have_used_up_is_not_used_again(tokens):
    """The mean stays within the budget where the network searched differs from the original already."""
    original = tokens(images(6), torch.ones(6, 3, 16))
    moved = original + 0.4 * torch.randn(6, 5, generator=torch.Generator().manual_seed(3))
    start = kl_divergence(original, moved)
    less = find_patches(tokens, images(6), fidelity=float(start.mean()) + 0.02, original=moved)
    assert float(less.divergence.mean()) <= float(start.mean()) + 0.02 * 1.001
    assert bool((less.divergence <= start + 0.0201).all())
    assert float(less.dropped.median()) > 0.2
    none = find_patches(tokens, images(6), fidelity=0.5 * float(start.mean()), original=moved)
    assert float((none.divergence - start).clamp_min(0).max()) < 1e-5


def test_images_are_searched_apart(tokens, found):
    alone = find_patches(tokens, images(6)[2:3], fidelity=FIDELITY)
    assert torch.equal(alone.kept[0], found.kept[2])


def test_small_batches_change_nothing(tokens, found):
    small = find_patches(tokens, images(6), fidelity=FIDELITY, settings=PatchSettings(tokens=40))
    assert torch.equal(small.kept, found.kept)


@pytest.mark.parametrize("name", ["unfused by hand", "hugging face deit unfused"])
def test_without_a_class_token_a_patch_is_left(name):
    tokens = TokenNetwork(traced(name))
    found = find_patches(tokens, images(3), fidelity=5.0)
    assert bool(found.kept[:, : tokens.tokens.least].any(-1).all())
    assert bool(found.agrees.all())


def test_rounds_are_reported(tokens):
    rounds = []
    found = find_patches(tokens, images(2), fidelity=FIDELITY, report=rounds.append)
    assert rounds == list(found.history)
    assert [entry.step for entry in rounds] == list(range(len(rounds)))
    assert rounds[-1].dropped == pytest.approx(float(found.dropped.mean()), abs=1e-6)


def test_controls_keep_as_many_in_each_block(tokens, found):
    for other in (random_patches(found.kept), attended_patches(tokens, images(6), found.kept)):
        assert torch.equal(other.sum(2), found.kept.sum(2))
        assert bool((other[:, 1:] <= other[:, :-1]).all())
        assert not torch.equal(other, found.kept)
    chosen = judge_patches(tokens, images(6), found.kept)[0]
    assert torch.allclose(chosen, found.divergence, atol=1e-5)
    assert float(judge_patches(tokens, images(6), random_patches(found.kept))[0].mean()) > float(chosen.mean())


def test_the_recipe_drops_by_its_weight(tokens):
    gentle = paper_patches(tokens, images(2), PatchRecipe(steps=12, rate=0.1, lam=1e-4))
    harsh = paper_patches(tokens, images(2), PatchRecipe(steps=12, rate=0.1, lam=1.0))
    assert int(harsh.sum()) < int(gentle.sum())
    assert bool((gentle[:, 1:] <= gentle[:, :-1]).all())


def test_special_tokens_are_always_kept():
    kept = kept_tokens(depths_to_kept(torch.tensor([[0, 2, 1]]), 2), 1)
    assert kept.tolist() == [[[True, False, True, True], [True, False, True, False]]]


@pytest.mark.parametrize("fidelity", [0.0, -1.0, float("nan"), float("inf")])
def test_a_fidelity_is_a_positive_number(tokens, fidelity):
    with pytest.raises(SettingsError, match="A fidelity is a positive number"):
        find_patches(tokens, images(1), fidelity=fidelity)
