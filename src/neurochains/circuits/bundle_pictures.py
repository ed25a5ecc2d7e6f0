"""Pictures as a bundle keeps them: PNG, to the pixel, or JPEG where there are many large ones.

Shapes: N pictures, C channels, H x W pixels. Pictures of other than one or three channels are kept one channel below
the other.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["LARGEST_LOSSLESS", "decode", "encode"]

LARGEST_LOSSLESS = 2**28
"""Bytes of all pictures as they are; where they are more, they are kept as JPEG."""

_OPTIONS = {"png": {"format": "PNG"}, "jpeg": {"format": "JPEG", "quality": 92, "subsampling": 0}}
Array = NDArray[Any]


def encode(pixels_NCHW: Array, kind: str) -> dict[str, Array]:
    """Return ``pictures``, the bytes of all files one behind the other, and ``picture_ends`` ``(N,)``."""
    files = []
    for pixels in pixels_NCHW:
        stream = io.BytesIO()
        Image.fromarray(_flat(pixels)).save(stream, **_OPTIONS[kind])
        files.append(stream.getvalue())
    ends = np.cumsum([len(file) for file in files], dtype=np.int64)
    return {"pictures": np.frombuffer(b"".join(files), np.uint8), "picture_ends": ends}


def decode(data: bytes, shape: Sequence[int]) -> Array:
    """Return the pixels ``(C, H, W)`` of a file.

    Raises:
        ValueError: it is a picture of another size, found before it is decoded.
        OSError: it is no picture.
    """
    channels, height, width = shape
    with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as opened:
        wanted = (width, height if channels == 3 else channels * height)
        if opened.size != wanted:
            raise ValueError(f"it has {opened.size} pixels where {wanted} were wanted")
        pixels = np.asarray(opened.convert("RGB" if channels == 3 else "L"))
    return pixels.transpose(2, 0, 1) if channels == 3 else pixels.reshape(channels, height, width)


def _flat(pixels: Array) -> Array:
    if len(pixels) == 3:
        return np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return pixels.reshape(-1, pixels.shape[-1])
