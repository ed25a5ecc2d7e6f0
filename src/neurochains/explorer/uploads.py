"""Pictures that a user drops on the page: checked, limited, decoded safely, and kept in the browser only.

What comes is a file of anybody's. Its bytes are counted before they are decoded, its pixels before it is, and what goes
back to the page is a PNG of the network's input size. That comes with each question of this user, and is checked again.
"""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from neurochains.circuits.bundle_pictures import decode
from neurochains.data.images import read_image
from neurochains.errors import ImageError
from neurochains.network import Network
from neurochains.pictures import data_uri
from neurochains.preprocess import Preprocess

__all__ = ["BYTE_LIMIT", "PIXEL_LIMIT", "accept", "read_kept"]

BYTE_LIMIT = 12_000_000
PIXEL_LIMIT = 40_000_000
_START = "data:image/png;base64,"


def accept(contents: str, how: Preprocess) -> str:
    """Return a dropped file as a PNG of the network's input size, as a data address.

    Args:
        contents: ``data:...;base64,...`` as the browser sends it.
        how: how images become the network's input.

    Raises:
        ImageError: the file is too large, or no picture that can be read safely.
    """
    _, _, data = contents.partition(",")
    if len(data) * 3 / 4 > BYTE_LIMIT:
        raise ImageError(
            f"The file has {len(data) * 3 // 4:,} bytes; at most {BYTE_LIMIT:,} are taken. Save it smaller."
        )
    with tempfile.TemporaryDirectory(prefix="neurochains-") as folder:
        file = Path(folder) / "the picture"
        file.write_bytes(_bytes(data))
        try:
            picture = read_image(file, pixel_limit=PIXEL_LIMIT)
        except ImageError as error:
            raise ImageError(str(error).replace(str(file), "The file")) from error
    return data_uri(how.pixels(picture.image))


def read_kept(kept: str | None, shape: Sequence[int]) -> Tensor:
    """Return the pixels, uint8 ``(C, H, W)``, of what `accept` made.

    Raises:
        ImageError: it is not that, or there is none.
    """
    if not kept:
        raise ImageError("No picture was dropped in this window. Drop one in the Image panel, or choose another.")
    if not kept.startswith(_START) or len(kept) > 2 * BYTE_LIMIT:
        raise ImageError("The dropped picture cannot be read. Drop it again.")
    try:
        return torch.from_numpy(decode(_bytes(kept.removeprefix(_START)), shape).copy())
    except (OSError, ValueError, SyntaxError) as error:
        raise ImageError("The dropped picture cannot be read. Drop it again.") from error


def preprocess_of(network: Network, shape: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> Preprocess:
    """Return how pictures become inputs: as the zoo knows it of the model, or squashed to the input's size."""
    if network.info is not None and network.info.preprocess is not None:
        return network.info.preprocess
    return Preprocess((shape[1], shape[2]), tuple(mean), tuple(std), resize=(shape[1], shape[2]))


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("The file did not arrive whole. Drop it again.") from error
