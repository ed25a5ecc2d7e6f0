"""Scored and dropped tokens: a vision transformer whose patches are weighed, or not there, block by block.

1. The graph is cut at the first entry: what makes the tokens runs once, what reads them as often as wanted.
2. At the entry of each block the patches that are not kept leave the stream.
3. The logarithm of a patch's weight is added to the attention logits of the block, where it is a key. So weight 1 is
   the original, and weight 0 is removal, exactly: nothing else in the network reads across tokens, except an average
   over patches at the end, which is weighted likewise, and talking heads, whose maps are masked a second time.
4. Sizes of views that count tokens are computed from the stream; constants with one value for each token (relative
   positions, rotations) are read at the tokens that are there.

Shapes: B images, L blocks, T tokens (special ones first), P patches, W the width of the stream.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from neurochains.edit.token_graph import read_graph
from neurochains.edit.token_steps import TokenStep, dropping, weighing
from neurochains.errors import DataError, ModelError
from neurochains.network.network import Network
from neurochains.network.tokens import NoTokens, Tokens, find_tokens, values_of

__all__ = ["TokenNetwork"]


class TokenNetwork(nn.Module):
    """A network whose patches can be weighed and dropped, for each image and block.

    Raises:
        ModelError: it has no tokens that could be dropped; says why.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        found = find_tokens(network.module)
        if isinstance(found, NoTokens):
            raise ModelError(
                f"The patches of this network cannot be scored: {found.reason}. Its filters, heads and hidden units "
                "may be."
            )
        self.tokens: Tokens = found
        self._network = network
        self._making = values_of(network.module, found.blocks[0].entry)
        self._reading = read_graph(network.module, found)
        self._mapping: fx.GraphModule | None = None

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self._network.device

    def embed(self, images: Tensor) -> Tensor:
        """Return the tokens ``(B, T, W)`` as the first block reads them."""
        return self._making(self._network.check(images))

    def read(self, stream: Tensor, steps: Sequence[TokenStep] | None = None) -> Tensor:
        """Return the logits ``(B, outputs)`` for tokens ``(B, T, W)``, with what `steps` do at each block."""
        return self._reading(stream, *(steps or [TokenStep()] * len(self.tokens.blocks)))

    def forward(self, images: Tensor, weights: Tensor) -> Tensor:
        """Return the logits with patches that are weighed: nothing is dropped, and gradients reach the weights.

        Args:
            images: ``(B, C, H, W)``.
            weights: ``(B, L, P)``, 0 or above, each for its block alone; a score that is to hold from a block on is
                their product up to there, ``scores.cumprod(1)``.
        """
        return self.read(self.embed(images), weighing(self._checked(weights)))

    def dropped(self, images: Tensor, kept: Tensor) -> Tensor:
        """Return the logits of the network without the patches that are not kept; they are really dropped.

        Args:
            images: ``(B, C, H, W)``.
            kept: ``(B, L, P)`` bool; a patch that is dropped in one block is gone in the next.
        """
        self.check_kept(kept)
        return self.read(self.embed(images), dropping(self._checked(kept)))

    def maps(self, images: Tensor, weights: Tensor | None = None) -> list[Tensor]:
        """Return the attention maps of each attention, averaged over heads: ``(B, queries, keys)``."""
        return [maps.mean(1) for maps in self.head_maps(images, weights)]

    def head_maps(self, images: Tensor, weights: Tensor | None = None) -> list[Tensor]:
        """Return the attention maps of each attention, ``(B, heads, queries, keys)``.

        Fused attention makes none, so they are computed again here.
        """
        if self._mapping is None:
            self._mapping = read_graph(self._network.module, self.tokens, maps=True)
        steps = [TokenStep()] * len(self.tokens.blocks) if weights is None else weighing(self._checked(weights))
        return self._mapping(self.embed(images), *steps)

    def check_kept(self, kept: Tensor) -> None:
        """Check that every attention has something to read.

        Raises:
            DataError: an image has no patch left where something reads patches alone.
        """
        if not bool(kept.cumprod(1)[:, : self.tokens.least].any(-1).all()):
            blocks = f"the first {self.tokens.least} blocks" if self.tokens.least < kept.shape[1] else "every block"
            raise DataError(
                f"Each image must keep at least one patch in {blocks}: something reads patches alone there."
            )

    def _checked(self, values: Tensor) -> Tensor:
        wanted = (len(self.tokens.blocks), self.tokens.patches)
        if values.ndim != 3 or tuple(values.shape[1:]) != wanted:
            raise DataError(f"Wanted (B, {wanted[0]} blocks, {wanted[1]} patches); got {tuple(values.shape)}.")
        return values.to(self._network.device)
