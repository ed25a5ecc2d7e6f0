"""Objectives: how far the outputs of a sub-network are from the original's, sample by sample.

Shapes: B samples, K outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

from neurochains.errors import SettingsError, did_you_mean

__all__ = ["OBJECTIVES", "Objective", "find_objective"]


class Objective(Protocol):
    """The divergence of each sample: 0 where the outputs are the same, never negative."""

    def __call__(self, outputs: Tensor, original: Tensor) -> Tensor:
        """Return ``(B,)`` for outputs ``(B, K)`` of the sub-network and of the original."""
        ...


OBJECTIVES: dict[str, Objective] = {}


def _objective(name: str) -> Callable[[Objective], Objective]:
    def enter(function: Objective) -> Objective:
        OBJECTIVES[name] = function
        return function

    return enter


@_objective("kl")
def kl_divergence(outputs: Tensor, original: Tensor) -> Tensor:
    """Return ``KL(softmax(original) || softmax(outputs))`` in nats (Eq. 5 of the NeuroChains paper): classifiers."""
    logs = F.log_softmax(original, -1)
    return F.kl_div(F.log_softmax(outputs, -1), logs, reduction="none", log_target=True).sum(-1)


@_objective("mse")
def squared_error(outputs: Tensor, original: Tensor) -> Tensor:
    """Return the mean squared error, relative to the variance of the original outputs over the batch: regression."""
    scale = original.var(0, unbiased=False).mean() if len(original) > 1 else original.square().mean()
    return (outputs - original).square().mean(-1) / scale.clamp_min(1e-12)


@_objective("cosine")
def cosine_distance(outputs: Tensor, original: Tensor) -> Tensor:
    """Return ``1 - cos(outputs, original)``: embeddings."""
    return 1 - F.cosine_similarity(outputs, original, dim=-1)


def find_objective(objective: str | Objective) -> Objective:
    """Return the objective with a name; any callable is its own.

    Raises:
        SettingsError: no objective has that name.
    """
    if callable(objective):
        return objective
    if objective not in OBJECTIVES:
        raise SettingsError(
            f"No objective is called {objective!r}; there are {', '.join(OBJECTIVES)}, or any callable "
            f"(outputs, original) -> (B,). {did_you_mean(objective, OBJECTIVES)}"
        )
    return OBJECTIVES[objective]
