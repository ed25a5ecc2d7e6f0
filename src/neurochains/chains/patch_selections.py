"""Patches chosen otherwise: by the paper's recipe, at random, or by how much attention they get.

The paper's recipe (section 4.5): one score for each patch, block and image, 1 at first, cumulative over blocks; Adam on
KL + lam * sum(scores), images together but scores apart; in the end the patches whose cumulative score is below the
threshold are removed. The paper names neither lam nor threshold nor rate for transformers; these are its own for CNNs.

The controls keep as many patches of each image in each block as the patches that they are compared with.

Shapes: N images, L blocks, P patches.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.objectives import kl_divergence
from neurochains.chains.patches import depths_to_kept
from neurochains.edit.token_steps import weighing
from neurochains.edit.tokens import TokenNetwork

__all__ = ["PatchRecipe", "attended_patches", "judge_patches", "paper_patches", "random_patches"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchRecipe:
    """The paper's numbers: steps and rate of Adam, weight of the scores' sum, threshold of removal."""

    steps: int = 300
    rate: float = 0.005
    lam: float = 0.005
    threshold: float = 0.1


def paper_patches(tokens: TokenNetwork, images: Tensor, recipe: PatchRecipe | None = None) -> Tensor:
    """Return which patches the paper's recipe keeps, ``(N, L, P)`` bool."""
    recipe = recipe or PatchRecipe()
    with torch.no_grad():
        stream = tokens.embed(images)
        original = tokens.read(stream)
    shape = (len(images), len(tokens.tokens.blocks), tokens.tokens.patches)
    scores = torch.ones(shape, device=stream.device, requires_grad=True)
    adam = torch.optim.Adam([scores], lr=recipe.rate)
    for _ in range(recipe.steps):
        logits = tokens.read(stream, weighing(scores.cumprod(1)))
        loss = kl_divergence(logits, original).sum() + recipe.lam * scores.sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        with torch.no_grad():
            scores.clamp_(min=0.0)
    kept = scores.detach().cumprod(1).cpu() >= recipe.threshold
    strongest = scores.detach().cumprod(1)[:, -1].argmax(1).cpu()
    kept[torch.arange(len(kept)), : tokens.tokens.least, strongest] = True
    return kept


def random_patches(kept: Tensor, *, seed: int = 0) -> Tensor:
    """Return as many patches as are kept in each block of each image, chosen at random; nested like these."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(kept), kept.shape[2], generator=generator).argsort(1)
    return _same_depths(kept, order)


def attended_patches(tokens: TokenNetwork, images: Tensor, kept: Tensor) -> Tensor:
    """Return as many patches as are kept in each block of each image: those that get the most attention.

    What counts is the attention that the class token pays, or all tokens where there is none, averaged over heads and
    blocks.
    """
    special, patches = tokens.tokens.special, tokens.tokens.patches
    with torch.no_grad():
        maps = tokens.maps(images)
    paid = [(part[:, 0] if special else part.mean(1))[:, -patches:] for part in maps]
    return _same_depths(kept, torch.stack(paid).mean(0).argsort(1, descending=True).cpu())


def _same_depths(kept: Tensor, order: Tensor) -> Tensor:
    """Return the depths of the kept patches, deepest first, given to patches in another order."""
    deepest = kept.sum(1).sort(1, descending=True).values
    depths = torch.empty_like(deepest).scatter_(1, order, deepest)
    return depths_to_kept(depths, kept.shape[1])


def judge_patches(tokens: TokenNetwork, images: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """Return the divergence ``(N,)`` of the network without the other patches, and whether predictions are the same."""
    with torch.no_grad():
        stream = tokens.embed(images)
        original, logits = tokens.read(stream), tokens.dropped(images, kept)
    return kl_divergence(logits, original).cpu(), (logits.argmax(-1) == original.argmax(-1)).cpu()
