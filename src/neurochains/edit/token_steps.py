"""What one run does to the patches of each block: which are there, and how much attention weighs them.

Shapes: B images, L blocks, P patches, K patches that are there in a block (the most of any image).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["ABSENT", "TokenStep", "dropping", "weighing"]

ABSENT = -1e4
"""Added to the logits of a token that is not there; its exponential is 0 in every type of number."""


@dataclass(frozen=True, slots=True)
class TokenStep:
    """What is done at the entry of a block; None means that nothing is.

    Attributes:
        move: ``(B, K)``, where the patches that stay are among those of the block before.
        ids: ``(B, K)``, which patches these are.
        weight: ``(B, K)``, what each counts in attention and in averages: 1 all, 0 nothing.
    """

    move: Tensor | None = None
    ids: Tensor | None = None
    weight: Tensor | None = None

    @property
    def bias(self) -> Tensor | None:
        """``(B, K)``: the logarithm of the weights, which attention adds to its logits."""
        if self.weight is None:
            return None
        gone = self.weight <= 0
        return torch.where(gone, ABSENT, torch.where(gone, 1.0, self.weight).log())


def weighing(weights: Tensor) -> list[TokenStep]:
    """Return the steps that drop nothing and weigh patches ``(B, L, P)``, block by block."""
    return [TokenStep(weight=weight) for weight in weights.unbind(1)]


def dropping(kept: Tensor, weights: Tensor | None = None) -> list[TokenStep]:
    """Return the steps that drop the patches which are not kept, ``(B, L, P)`` bool; once dropped, always dropped.

    Images with fewer patches than others are filled up with patches of weight 0.

    Args:
        kept: of later blocks only those count that are kept in all earlier ones.
        weights: ``(B, L, P)``, of those that are kept.
    """
    images, _, patches = kept.shape
    ids = torch.arange(patches, device=kept.device).expand(images, -1)
    steps: list[TokenStep] = []
    there = torch.ones_like(ids, dtype=torch.bool)
    for block, mask in enumerate(kept.unbind(1)):
        stays = mask.gather(1, ids) & there
        width = int(stays.sum(1).max())
        move = None
        if width < ids.shape[1]:
            move = (~stays).int().argsort(dim=1, stable=True)[:, :width]
            ids, stays = ids.gather(1, move), stays.gather(1, move)
        there = stays
        weight = _weight(stays, None if weights is None else weights[:, block].gather(1, ids))
        steps.append(TokenStep(move, ids if ids.shape[1] < patches else None, weight))
    return _with_ids(steps)


def _weight(there: Tensor, weights: Tensor | None) -> Tensor | None:
    if weights is not None:
        return weights * there
    return None if bool(there.all()) else there.float()


def _with_ids(steps: Sequence[TokenStep]) -> list[TokenStep]:
    return [replace(step) for step in steps]
