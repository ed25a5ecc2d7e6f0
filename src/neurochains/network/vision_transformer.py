"""A small vision transformer: a convolutional stem, a class token, pre-norm blocks, fused attention, one linear head.

The stem halves the image until one position is one patch; small transformers learn far faster from it than from flat
pixels. A patch so knows the pixels around it a little: with three convolutions, those up to 7 to the left and above.

The module names are those of timm's vision transformers. With its default sizes it is the bundled
``shapes:vit``; `training/train_vit.py` also trains one on CIFAR-10.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from neurochains.shapes_spec import CLASSES, SIDE

__all__ = ["Attention", "EncoderBlock", "VisionTransformer"]

_SPREAD = 0.02


class Attention(nn.Module):
    """Self-attention of several heads, computed by `scaled_dot_product_attention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what each token (N, T, width) reads from all tokens, in the same shape."""
        images, length, width = tokens.shape
        split = self.qkv(tokens).reshape(images, length, 3, self.heads, width // self.heads)
        query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
        read = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.proj(read.transpose(1, 2).reshape(images, length, width))


class EncoderBlock(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and added to the stream."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width, hidden))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(hidden, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the stream (N, T, width) after the block."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


def _stem(width: int, patch: int) -> nn.Sequential:
    """Return 3x3 convolutions of stride 2 with ReLU, as many as it takes, and a 1x1 convolution."""
    stem, channels = nn.Sequential(), 3
    steps = patch.bit_length() - 1
    for step in range(steps):
        wider = width >> (steps - 1 - step)
        stem.add_module(f"conv{step + 1}", nn.Conv2d(channels, wider, 3, stride=2, padding=1))
        stem.add_module(f"relu{step + 1}", nn.ReLU(inplace=True))
        channels = wider
    stem.add_module("proj", nn.Conv2d(channels, width, 1))
    return stem


class VisionTransformer(nn.Module):
    """A class token and square patches through pre-norm blocks; the class token's stream gives the logits.

    Input (N, 3, side, side), output (N, classes) logits.

    Args:
        side: of the images, in pixels.
        patch: side of a patch, a power of 2; divides `side`.
        width: of the stream; `heads` divides it.
        hidden: units between the two layers of a block's perceptron.
    """

    def __init__(
        self,
        *,
        side: int = SIDE,
        patch: int = 8,
        width: int = 96,
        heads: int = 6,
        hidden: int = 288,
        depth: int = 4,
        classes: int = len(CLASSES),
    ) -> None:
        super().__init__()
        self.patch_embed = _stem(width, patch)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + (side // patch) ** 2, width))
        self.blocks = nn.Sequential(*(EncoderBlock(width, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        matrices = [parameter for parameter in self.blocks.parameters() if parameter.ndim == 2]
        for parameter in (self.cls_token, self.pos_embed, *matrices):
            nn.init.trunc_normal_(parameter, std=_SPREAD)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, classes)."""
        return self.read(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        """Return the tokens (N, T, width) with their positions, the class token first, then the patches row by row."""
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], 1) + self.pos_embed

    def read(self, tokens: Tensor) -> Tensor:
        """Return the logits (N, classes) of the class token and any patches (N, T, width)."""
        return self.head(self.norm(self.blocks(tokens))[:, 0])
