"""From an image to what a network expects: resize, crop, scale to [0, 1], normalise.

The geometry follows torchvision's classification transforms to the pixel: the shorter side is resized to `resize`
(the longer one rounded down), then the centre is cropped (the offset rounded to even), a too small image being
padded with black.

Shapes: C channels (3 for RGB, 1 for grey), H x W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from neurochains.errors import ImageError, SettingsError, did_you_mean

__all__ = ["IMAGENET", "Preprocess"]

_RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}
_MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How images become the input of one network.

    Attributes:
        size: ``(H, W)`` of the network's input.
        mean: one a channel, subtracted from pixels in [0, 1].
        std: one a channel, positive, divided by.
        resize: an int is the length the shorter side is resized to; a pair ``(H, W)`` squashes the image to it; None
            resizes the shorter side to the longer of `size`. The centre of `size` is cropped afterwards.
        interpolation: ``"bilinear"``, ``"bicubic"``, ``"lanczos"`` (all antialiased) or ``"nearest"``.

    Raises:
        SettingsError: a field has a value it cannot have.
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int | tuple[int, int] | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        _check_pair("size", self.size)
        if isinstance(self.resize, tuple):
            _check_pair("resize", self.resize)
        elif self.resize is not None:
            _check_pair("resize", (self.resize, self.resize))
        self._check_channels()
        if self.interpolation not in _RESAMPLING:
            raise SettingsError(
                f"interpolation must be one of {', '.join(_RESAMPLING)}; got {self.interpolation!r}. "
                f"{did_you_mean(self.interpolation, _RESAMPLING)}".rstrip()
            )

    @property
    def channels(self) -> int:
        """Return the number of channels the network sees: 3 (RGB) or 1 (grey)."""
        return len(self.mean)

    def pixels(self, image: Image.Image) -> Tensor:
        """Return the resized, cropped image as the network sees it, uint8 ``(C, H, W)``, for display.

        RGB and grey images are converted to the number of channels that `mean` has.

        Raises:
            ImageError: the image is neither RGB nor 8-bit grey (mode L).
        """
        if image.mode not in _MODES.values():
            raise ImageError(f"An image must be RGB or 8-bit grey (L); got mode {image.mode}. Convert it first.")
        fitted = self._crop(self._resize(image.convert(_MODES[self.channels])))
        array = np.array(fitted, dtype=np.uint8).reshape(*self.size, self.channels)
        return torch.from_numpy(array).permute(2, 0, 1).contiguous()

    def normalise(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels ``(..., C, H, W)`` as float32, scaled to [0, 1] and normalised."""
        self._check_pixels(pixels)
        mean, std = self._statistics(pixels.device)
        return (pixels.to(torch.float32) / 255 - mean) / std

    def denormalise(self, images: Tensor) -> Tensor:
        """Return normalised images ``(..., C, H, W)`` as uint8 pixels, rounded and clipped to [0, 255]."""
        mean, std = self._statistics(images.device)
        scaled = (images.detach().to(torch.float32) * std + mean) * 255
        return scaled.round().clamp(0, 255).to(torch.uint8)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a dict of JSON values; `from_json` reads it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preprocess:
        """Return what `to_json` wrote, also after it was a JSON file (lists become tuples).

        Raises:
            SettingsError: a field is missing, unknown or has a value it cannot have.
        """
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        try:
            return cls(**fields)
        except TypeError as error:
            raise SettingsError(
                f"Pre-processing needs size, mean, std and optionally resize and interpolation; got {sorted(fields)}."
            ) from error

    def _resize(self, image: Image.Image) -> Image.Image:
        height, width = self._resized(image.height, image.width)
        if (height, width) == (image.height, image.width):
            return image
        return image.resize((width, height), _RESAMPLING[self.interpolation])

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if isinstance(self.resize, tuple):
            return self.resize
        short = max(self.size) if self.resize is None else self.resize
        if height <= width:
            return short, int(short * width / height)
        return int(short * height / width), short

    def _crop(self, image: Image.Image) -> Image.Image:
        height, width = self.size
        top, left = _offset(image.height, height), _offset(image.width, width)
        return image.crop((left, top, left + width, top + height))  # outside the image PIL fills with black

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean = torch.tensor(self.mean, dtype=torch.float32, device=device)
        std = torch.tensor(self.std, dtype=torch.float32, device=device)
        return mean[:, None, None], std[:, None, None]

    def _check_pixels(self, pixels: Tensor) -> None:
        if pixels.dtype != torch.uint8 or pixels.ndim < 3 or pixels.shape[-3] != self.channels:
            raise SettingsError(
                f"Pixels must be uint8 of shape (..., {self.channels}, H, W); got {pixels.dtype} "
                f"of shape {tuple(pixels.shape)}."
            )

    def _check_channels(self) -> None:
        if len(self.mean) not in _MODES or len(self.mean) != len(self.std):
            raise SettingsError(
                f"mean and std need one value a channel, for 1 or 3 channels; got {len(self.mean)} and {len(self.std)}."
            )
        if min(self.std) <= 0:
            raise SettingsError(f"std must be positive; got {self.std}.")


def _check_pair(name: str, pair: tuple[int, int]) -> None:
    if len(pair) != 2 or not all(isinstance(length, int) and length > 0 for length in pair):
        raise SettingsError(f"{name} must be positive whole numbers of pixels (height, width); got {pair}.")


def _offset(have: int, want: int) -> int:
    """Return where a centred window of ``want`` pixels starts; negative where the image must be padded."""
    if have < want:
        return -((want - have) // 2)
    return round((have - want) / 2)


IMAGENET = Preprocess(
    size=(224, 224),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    resize=256,
)
