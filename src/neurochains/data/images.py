"""Image files read safely: one file in, one RGB picture and the digest of its bytes out.

1. Read the bytes once, so that the digest is that of what was decoded.
2. Open the header only, with a fixed list of formats: none that runs another program.
3. Refuse on the header alone: too many pixels, more than one frame.
4. Decode, turn upright as EXIF says, and bring every pixel format to 8-bit RGB.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from neurochains.errors import ImageError

__all__ = ["FORMATS", "PIXEL_LIMIT", "SIDE_RATIO", "Picture", "digest", "read_image", "to_rgb"]

PIXEL_LIMIT = 64_000_000
"""Largest width times height that is decoded unless the caller says otherwise."""

SIDE_RATIO = 200
"""Longest side in units of the shortest: a ribbon of few pixels would become huge when its short side is resized."""

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats that are read; EPS, PDF and other formats of programs are not."""

_BYTES_PER_PIXEL = 8  # 16-bit RGBA: no file within the pixel limit need be longer
_SMALLEST_BYTE_LIMIT = 1 << 20  # head-room for metadata, whatever the pixel limit
_WHITE = (255, 255, 255, 255)
_TURNS = {  # EXIF 2.3, tag 0x0112: what undoes the orientation that the camera wrote down
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WITH_ALPHA = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


@dataclass(frozen=True, slots=True)
class Picture:
    """One image file, read: ``image`` is RGB and upright, ``digest`` the sha256 of the file's bytes, in hex."""

    image: Image.Image
    digest: str


def digest(data: bytes) -> str:
    """Return the sha256 of ``data`` in hex: what identifies an image in saved results."""
    return hashlib.sha256(data).hexdigest()


def read_image(path: str | os.PathLike[str], *, pixel_limit: int = PIXEL_LIMIT) -> Picture:
    """Return the picture in a file as upright 8-bit RGB, and the digest of the file.

    Grey, palette, CMYK and 16-bit files are converted (16 bits are scaled, not clipped); transparent ones are laid
    on white. The side-pictures that phones append to a JPEG (MPO) are left out. A JPEG damaged in the middle of its
    data decodes to a damaged picture: its format cannot tell.

    Args:
        path: the file.
        pixel_limit: most pixels (width times height) to decode; checked on the header, before any decoding.

    Raises:
        ImageError: there is no such file, or it is empty, no image, corrupt, truncated, too large, too long,
            animated, or of a pixel format without a known range.
    """
    file = Path(path)
    data = _read_bytes(file, pixel_limit)
    with _decoding(file), Image.open(io.BytesIO(data), formats=_formats()) as opened:
        _check_size(opened, file, pixel_limit)
        _check_frames(opened, file)
        opened.load()
        image = _upright(to_rgb(opened), opened)
    return Picture(image, digest(data))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return ``image`` as 8-bit RGB: 16 bits scaled down, transparency laid on white, other modes converted.

    Raises:
        ImageError: the pixels are floating-point or 32-bit numbers, whose range nothing states.
    """
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        return _from_wide(image).convert("RGB")
    if image.mode in _WITH_ALPHA or "transparency" in image.info:
        return _on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _read_bytes(file: Path, pixel_limit: int) -> bytes:
    """Return the bytes of a regular file that has some, and not more than an image within the limit can have."""
    if file.is_dir():
        raise ImageError(f"Wanted an image file, but {file} is a folder. Use Task.from_folder to read a folder.")
    if not file.is_file():
        raise ImageError(f"Wanted an image file, but there is no file {file}. Check the path.")
    try:
        size = file.stat().st_size
        most = max(_BYTES_PER_PIXEL * pixel_limit, _SMALLEST_BYTE_LIMIT)
        if size > most:
            raise ImageError(f"{file} has {size:,} bytes; at most {most:,} are read. Save it smaller.")
        data = file.read_bytes()
    except OSError as error:
        raise ImageError(f"{file} cannot be read ({error.strerror}). Check its permissions.") from error
    if not data:
        raise ImageError(f"{file} is empty (0 bytes). Fetch or export it again, or remove it.")
    return data


def _formats() -> list[str]:
    """Return the formats of `FORMATS` that this build of Pillow can open."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


@contextmanager
def _decoding(file: Path) -> Iterator[None]:
    """Turn whatever Pillow raises or warns about while it reads ``file`` into an `ImageError` that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata is no reason to refuse a picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except ImageError as error:
        raise error if str(file) in str(error) else ImageError(f"{file}: {error}") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(f"{file} is too large to decode safely ({error}). Save it smaller.") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{file} is no image of a known format ({', '.join(FORMATS)}), or its beginning is damaged. "
            "Convert it to PNG, or remove it."
        ) from error
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = str(error) or type(error).__name__
        raise ImageError(
            f"{file} is a corrupt or truncated image ({reason}). Fetch or export it again, or remove it."
        ) from error


def _check_size(image: Image.Image, file: Path, pixel_limit: int) -> None:
    width, height = image.size
    if width * height > pixel_limit:
        raise ImageError(
            f"{file} declares {width} x {height} = {width * height:,} pixels; at most {pixel_limit:,} are decoded, "
            "against decompression bombs. Save it smaller."
        )
    if max(width, height) > SIDE_RATIO * min(width, height):
        raise ImageError(
            f"{file} has {width} x {height} pixels; no side may be more than {SIDE_RATIO} times as long as the other, "
            "since the shorter one is made to fit the network. Crop it."
        )


def _check_frames(image: Image.Image, file: Path) -> None:
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise ImageError(f"{file} holds {frames} frames; a still image is wanted. Export the one frame you mean.")


def _upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """Return ``image`` turned as the EXIF orientation of ``source`` says; unreadable EXIF counts as none."""
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # noqa: BLE001 - hostile metadata raises nearly anything, and the pixels are fine
        return image
    turn = _TURNS.get(orientation or 1)
    return image if turn is None else image.transpose(turn)


def _from_wide(image: Image.Image) -> Image.Image:
    """Return a 16-bit grey image scaled to 8 bits, 65535 becoming 255."""
    values = np.asarray(image).astype(np.int64) if image.mode != "F" else np.empty(0)
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format in {"PNG", "PPM"})
    if not sixteen or values.min() < 0 or values.max() > 65535:
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise ImageError(f"The pixels are {kind} numbers without a stated range. Save it with 8 or 16 bits a channel.")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    """Return the image laid on white, as pages and viewers show it."""
    opaque = image.convert("LA") if image.mode == "La" else image
    layer = opaque.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
