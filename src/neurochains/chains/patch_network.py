"""A network that reads only the patches that each image keeps: the compact form of a patch chain."""

from __future__ import annotations

from torch import Tensor, nn

from neurochains.edit.tokens import TokenNetwork
from neurochains.errors import DataError
from neurochains.network.network import Network

__all__ = ["PatchedNetwork"]


class PatchedNetwork(nn.Module):
    """A vision transformer with patches really dropped, other ones for each of N images.

    Args:
        network: the transformer, or a compact form of it, traced.
        kept: ``(N, L, T)`` bool, for all tokens, as in ``chain.patches``.
    """

    kept: Tensor

    def __init__(self, network: Network, kept: Tensor) -> None:
        super().__init__()
        self.tokens = TokenNetwork(network)
        self.register_buffer("kept", kept.to(network.device))

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the logits ``(B, outputs)`` of images without the patches that they do not keep.

        Args:
            images: ``(B, C, H, W)``; without `kept`, the N images in their order.
            kept: ``(B, L, T)`` bool, for other images, or some of them.

        Raises:
            DataError: the number of images is not that of the patches.
        """
        return self.tokens.dropped(images, self._patches(images, kept))

    def weighed(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Return the same logits at full width: attention gives the other patches weight 0."""
        return self.tokens(images, self._patches(images, kept).to(images.dtype))

    def _patches(self, images: Tensor, kept: Tensor | None) -> Tensor:
        kept = self.kept if kept is None else kept
        if len(kept) != len(images):
            raise DataError(
                f"Patches are kept image by image: these are for {len(kept)} images, got {len(images)}. "
                "Pass the images that the chain was extracted on, or kept=... for these."
            )
        return kept[..., self.tokens.tokens.special :]
