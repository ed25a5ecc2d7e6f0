"""The architecture-controlling module: from what a layer reads to the code that switches its filters.

1. Pool: ``p = GAP(X)``.
2. Reason: ``y = W2 relu(W1 p + b1) + b2``, with a quarter of the input's channels in between.
3. Hash (improved semantic hashing): with noise ``g = y + eps``, ``eps ~ N(0, 1)``, the smooth code is
   ``v1 = clip(1.2 sigmoid(g) - 0.1, 0, 1)`` and the binary code ``v2 = 1[g > 0]``. In training each *image* gets one of
   the two with probability 1/2; gradients always go through ``v1``. In eval mode the code is ``1[y > 0]``.

Source: Li et al., "Neural network decoupling", ECCV 2020, section 3; Kaiser and Bengio, 2018, for the hashing. The
published code drew the images to be hashed with replacement, from as many as there are channels, and started with a
quarter of the gates shut; here the draw is a coin for each image, and all gates start open.

Shapes: B images, I input channels, C filters of the layer, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["REDUCTION", "Controller", "hash_codes", "saturating_sigmoid"]

REDUCTION = 4
_OPEN, _SPREAD = 2.0, 0.01  # P(open) in training is Phi(2) = .977, and |g| < ln 11 keeps the gradient alive


class Controller(nn.Module):
    """Maps ``(B, I, H, W)`` to a code ``(B, C)``: 1 where a filter is on, 0 where it is off, between in training.

    Attributes:
        settled: ``(C,)`` int8: -1 for a filter that is off for good, 1 for one that is on for good, 0 for the others.
        keep_one: open the likeliest filter where an image would close them all.
        surrogate: let gradients pass through binary codes in eval mode, as those of the smooth code.
        hashing: hash in training mode; without it the codes of training are those of eval mode, with that gradient.
    """

    settled: Tensor

    def __init__(self, inputs: int, filters: int, *, keep_one: bool = False) -> None:
        super().__init__()
        self.squeeze = nn.Linear(inputs, inputs // REDUCTION)
        self.expand = nn.Linear(inputs // REDUCTION, filters)
        nn.init.normal_(self.expand.weight, std=_SPREAD)
        nn.init.constant_(self.expand.bias, _OPEN)
        self.register_buffer("settled", torch.zeros(filters, dtype=torch.int8))
        self.keep_one = keep_one
        self.surrogate = False
        self.hashing = True

    def forward(self, maps: Tensor) -> Tensor:
        """Return the code ``(B, C)``, in the type of the weights also under autocast."""
        with torch.autocast(maps.device.type, enabled=False):
            votes = self.votes(maps.mean((2, 3), dtype=self.squeeze.weight.dtype))
            return self.codes(votes)

    def votes(self, pooled: Tensor) -> Tensor:
        """Return ``y (B, C)`` for pooled maps ``(B, I)``: a filter is on where it is positive."""
        return self.expand(torch.relu(self.squeeze(pooled)))

    def codes(self, votes: Tensor) -> Tensor:
        """Return the code ``(B, C)`` that votes mean in the present mode."""
        if self.training and self.hashing:
            return self._settle(hash_codes(votes))
        binary = self._settle(self.binary(votes).to(votes.dtype))
        if not (self.surrogate or self.training):
            return binary
        smooth = saturating_sigmoid(votes) * (self.settled == 0)
        return binary + (smooth - smooth.detach())

    def binary(self, votes: Tensor) -> Tensor:
        """Return ``y > 0``, with the likeliest filter where there would be none and `keep_one` is set."""
        on = votes > 0
        if self.keep_one:
            likeliest = nn.functional.one_hot(votes.argmax(1), votes.shape[1]).bool()
            on = on | (likeliest & ~on.any(1, keepdim=True))
        return on

    def _settle(self, code: Tensor) -> Tensor:
        return torch.where(self.settled == 0, code, (self.settled > 0).to(code.dtype))


def saturating_sigmoid(votes: Tensor) -> Tensor:
    """Return ``clip(1.2 sigmoid(g) - 0.1, 0, 1)``; its gradient is 0 for ``|g| > ln 11``."""
    return (1.2 * torch.sigmoid(votes) - 0.1).clamp(0, 1)


def hash_codes(votes: Tensor) -> Tensor:
    """Return codes ``(B, C)`` of noisy votes: smooth for some images, binary for the others, a coin for each.

    The gradient is that of the smooth code for all of them.
    """
    noisy = votes + torch.randn_like(votes)
    smooth, hard = saturating_sigmoid(noisy), (noisy > 0).to(votes.dtype)
    coin = torch.rand(len(votes), 1, device=votes.device) < 0.5
    value = torch.where(coin, hard, smooth.detach())
    return value + (smooth - smooth.detach())
