"""Hierarchical group sparsity: a penalty that any training loop adds, so that kernels die and circuits stay small.

The kernels of a convolution are groups of weights, and the kernels of one filter (or of one input channel) are a group
of groups. With ``W_oi`` the kernel from channel i to filter o, one convolution pays (Mitsuno et al., arXiv 2004.04394)

- ``squared_lasso``: ``sum_o (sum_i ||W_oi||_2)^2``,
- ``squared_half``: ``sum_o (sum_i sqrt(||W_oi||_1))^2``,
- ``rooted_lasso``: ``sum_o sqrt(sum_i ||W_oi||_2)``,
- ``rooted_half``: ``sum_o sqrt(sum_i sqrt(||W_oi||_1))``,

and the network the sum over its convolutions. The squared forms let the kernels of one group compete, so that a few
remain in each; the rooted forms also remove whole groups. A group is what leads *into* a filter (their "neuron-wise"
grouping, as written above) or what leaves an input channel ("feature-wise": o and i change places).

Shapes: O out-channels, I in-channels per group, G groups of a convolution, K weights of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from neurochains.errors import ModelError, SettingsError, did_you_mean

__all__ = ["SPARSITY", "dead_kernels", "hierarchical_group_sparsity"]

_GROUPS = ("filter", "channel")
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _root(values: Tensor) -> Tensor:
    """Return the square root, with gradient 0 where a value is exactly 0: what is dead stays dead."""
    alive = values > 0
    return torch.where(alive, torch.where(alive, values, 1.0).sqrt(), 0.0)


def _lasso(weight_OIK: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight_OIK, dim=-1)


def _half(weight_OIK: Tensor) -> Tensor:
    return _root(weight_OIK.abs().sum(-1))


SPARSITY: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "squared_lasso": (_lasso, torch.square),
    "squared_half": (_half, torch.square),
    "rooted_lasso": (_lasso, _root),
    "rooted_half": (_half, _root),
}
"""By name of the penalty, the size of a kernel and what is done to the sum of a group's sizes."""


def hierarchical_group_sparsity(model: nn.Module, *, form: str = "squared_lasso", groups: str = "filter") -> Tensor:
    """Return the penalty of all convolutions of a model, a number with a gradient, to be added to a loss.

    It grows with the number of kernels: a weight of 1e-5 to 1e-3 suits networks of 1e4 to 1e5 kernels. Adam and SGD
    bring kernels near 0, not to it; `dead_kernels` says which share of them is there. The gradient of the ``half``
    and ``rooted`` forms grows without bound as a kernel or group shrinks, and is 0 at 0. Linear layers and transposed
    convolutions are left out.

    Args:
        model: in any mode; nothing of it is changed.
        form: one of `SPARSITY`.
        groups: ``"filter"`` or ``"channel"``: which kernels make one group.

    Raises:
        SettingsError: there is no such form or grouping.
        ModelError: the model has no convolution.
    """
    if form not in SPARSITY:
        raise SettingsError(
            f"No sparsity is called {form!r}. There are {', '.join(SPARSITY)}. {did_you_mean(form, SPARSITY)}".rstrip()
        )
    if groups not in _GROUPS:
        raise SettingsError(f"The kernels are grouped by 'filter' or by 'channel', got {groups!r}.")
    size, outer = SPARSITY[form]
    return torch.stack(
        [outer(_sums(size(weight.flatten(2)), part, groups)).sum() for weight, part in _convolutions(model)]
    ).sum()


def dead_kernels(model: nn.Module, *, threshold: float = 0.0) -> dict[str, Tensor]:
    """Return which kernels are dead, by name of the convolution: boolean ``(O, I)``.

    Args:
        model: in any mode.
        threshold: a kernel is dead whose largest weight is at most this share of the largest of its convolution; by
            default only one that is 0.

    Raises:
        SettingsError: the threshold is not in [0, 1).
        ModelError: the model has no convolution.
    """
    if not 0 <= threshold < 1:
        raise SettingsError(f"A threshold is a share of the largest weight, 0 to below 1; got {threshold}.")
    found = {}
    for name, module in _named(model):
        peaks = module.weight.detach().flatten(2).abs().amax(-1)
        found[name] = peaks <= threshold * peaks.max()
    return found


def _sums(sizes_OI: Tensor, groups: int, by: str) -> Tensor:
    """Return the sum of the sizes of each filter's kernels ``(O,)``, or of each input channel's ``(G * I,)``."""
    return sizes_OI.sum(1) if by == "filter" else sizes_OI.unflatten(0, (groups, -1)).sum(1).flatten()


def _convolutions(model: nn.Module) -> Iterator[tuple[Tensor, int]]:
    return ((module.weight, module.groups) for _, module in _named(model))


def _named(model: nn.Module) -> list[tuple[str, nn.Conv1d | nn.Conv2d | nn.Conv3d]]:
    found = [(name, module) for name, module in model.named_modules() if isinstance(module, _CONVOLUTIONS)]
    if not found:
        raise ModelError(f"{type(model).__name__} has no convolution as a module, so it has no kernels to make sparse.")
    return found
