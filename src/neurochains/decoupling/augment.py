"""Changes of training images that leave their class as it is, on whole batches.

Shapes: B images, C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from neurochains.errors import SettingsError

__all__ = ["CropFlip"]


@dataclass(frozen=True, slots=True)
class CropFlip:
    """Moves each image by up to `padding` pixels, into zeros, and mirrors each second one: the recipe for CIFAR-10.

    Zeros are the mean colour of normalised images.

    Raises:
        SettingsError: the padding is negative.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise SettingsError(f"padding must be 0 pixels or more; got {self.padding}.")

    def __call__(self, images: Tensor) -> Tensor:
        """Return changed images ``(B, C, H, W)``."""
        moved = self._moved(images) if self.padding else images
        if not self.flip:
            return moved
        mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
        return torch.where(mirrored, moved.flip(-1), moved)

    def _moved(self, images: Tensor) -> Tensor:
        count, _, height, width = images.shape
        padded = F.pad(images, (self.padding,) * 4)
        tops, lefts = torch.randint(0, 2 * self.padding + 1, (2, count), device=images.device)
        rows = tops[:, None] + torch.arange(height, device=images.device)
        columns = lefts[:, None] + torch.arange(width, device=images.device)
        each = torch.arange(count, device=images.device)[:, None, None]
        return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
