"""Pictures as bytes and as data URIs, so that a report is one file."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from torch import Tensor

from neurochains.errors import SettingsError
from neurochains.pictures.figures import display

__all__ = ["data_uri", "jpeg", "png"]


def png(pixels: Tensor | np.ndarray) -> bytes:
    """Return a picture as PNG, lossless: for maps, crops and drawings.

    Args:
        pixels: uint8 ``(C, H, W)`` or ``(H, W, C)``, one or three channels.

    Raises:
        DataError: ``pixels`` is no such picture.
    """
    return _encode(pixels, format="PNG", optimize=True)


def jpeg(pixels: Tensor | np.ndarray, *, quality: int = 85) -> bytes:
    """Return a picture as JPEG: about a tenth of the PNG for a photograph.

    Raises:
        DataError: ``pixels`` is no picture.
        SettingsError: ``quality`` is not within 1 to 95.
    """
    if not 1 <= quality <= 95:
        raise SettingsError(f"a JPEG quality lies within 1 and 95, got {quality}")
    return _encode(pixels, format="JPEG", quality=quality, optimize=True)


def data_uri(pixels: Tensor | np.ndarray, *, photo: bool = False, quality: int = 85) -> str:
    """Return a picture as ``data:image/...;base64,...``, a JPEG when it is a ``photo``, else a PNG."""
    kind, data = ("jpeg", jpeg(pixels, quality=quality)) if photo else ("png", png(pixels))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _encode(pixels: Tensor | np.ndarray, **options: object) -> bytes:
    """Return the picture as Pillow writes it with ``options``."""
    array = pixels.detach().cpu().numpy() if isinstance(pixels, Tensor) else pixels
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(display(array))).save(stream, **options)  # pyright: ignore[reportArgumentType]
    return stream.getvalue()
