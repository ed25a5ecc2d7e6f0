"""Attribution of a vision transformer's tokens to the tokens it began with, block by block.

1. ``A_l`` is the attention of block l, softmax(Q K^T / sqrt(d)), averaged over heads: N x N. (Eq. 10 of the
   NeuroChains paper multiplies it by V, which does not fit the shapes; the attention map is what is meant.)
2. ``R_0 = I`` and ``R_l = (A_l + I) R_{l-1}``: what a token reads, and, by the shortcut, what it had. Where a block has
   several attentions side by side, their maps are added.

Shapes: N images, L blocks, T tokens, the special ones first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurochains.data import Task
from neurochains.edit.tokens import TokenNetwork
from neurochains.errors import DataError, ModelError
from neurochains.network import Network, load_model

__all__ = ["attribution", "row_normalised"]

_BATCH = 32


def attribution(
    model: nn.Module | str | Network, task: Task | Tensor, *, kept: Tensor | None = None, normalise: bool = False
) -> Tensor:
    """Return how much of each first token is in each token after each block, ``(N, L, T, T)``: [image, block, of, to].

    Args:
        model: a vision transformer in eval mode, its name, or a traced network. It is never changed.
        task: the images.
        kept: ``(N, L, T)`` bool, the tokens of a sub-network, such as ``chain.patches``; a token that was dropped is
            read by none, and its own row stays what it was. By default all are kept.
        normalise: divide each row by its sum, as for display; without it the rows of block l sum to 2^l.

    Raises:
        ModelError: the network has no tokens that could be followed, or a block reads them otherwise than all by all.
        DataError: the images do not fit the network, or `kept` does not fit both.
    """
    images = Task.of(task).images
    network = _network(model, images)
    tokens = TokenNetwork(network)
    _check_kept(kept, (len(images), len(tokens.tokens.blocks), tokens.tokens.count))
    parts = []
    for start in range(0, len(images), _BATCH):
        chosen = slice(start, start + _BATCH)
        parts.append(_rollout(tokens, images[chosen], None if kept is None else kept[chosen]))
    found = torch.cat(parts)
    return row_normalised(found) if normalise else found


def row_normalised(attributions: Tensor) -> Tensor:
    """Return attributions with each row divided by its sum."""
    return attributions / attributions.sum(-1, keepdim=True).clamp_min(torch.finfo(attributions.dtype).tiny)


@torch.no_grad()
def _rollout(tokens: TokenNetwork, images: Tensor, kept: Tensor | None) -> Tensor:
    found = tokens.tokens
    weights = None if kept is None else kept[..., found.special :].to(tokens.device, torch.float32)
    maps = iter(tokens.maps(images, weights))
    total = torch.eye(found.count).expand(len(images), -1, -1)
    rows = []
    for place, block in enumerate(found.blocks):
        read = torch.zeros_like(total)
        for attention in block.attentions:
            read = read + _square(next(maps).cpu(), found.count, attention.name)
        if kept is not None:
            read = read * kept[:, place, :, None].cpu()
        total = total + read @ total
        rows.append(total)
    return torch.stack(rows, 1)


def _square(maps: Tensor, count: int, name: str) -> Tensor:
    if tuple(maps.shape[1:]) != (count, count):
        raise ModelError(
            f"Attribution goes from all {count} tokens to all; {name} reads {maps.shape[2]} tokens for "
            f"{maps.shape[1]}, as a class token does that joins late, or a pooling by attention."
        )
    return maps


def _network(model: nn.Module | str | Network, images: Tensor) -> Network:
    if isinstance(model, Network):
        return model
    return Network.trace(load_model(model) if isinstance(model, str) else model, images[:2])


def _check_kept(kept: Tensor | None, wanted: tuple[int, int, int]) -> None:
    if kept is not None and (tuple(kept.shape) != wanted or kept.dtype is not torch.bool):
        raise DataError(
            f"Wanted kept tokens of shape {wanted} (images, blocks, tokens), bool; got {tuple(kept.shape)}, "
            f"{kept.dtype}."
        )
