"""Small pictures in a grid: the common part of the figures that show images and maps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from neurochains.pictures.figures import FAINT, LANE, display

__all__ = ["Picture", "empty_tile", "fitted", "tile"]

Picture = Tensor | np.ndarray
"""uint8 (C, H, W) or (H, W, C), one or three channels."""

SHARPNESS = 2.0  # pixels stored for each point of the page


def fitted(picture: Picture, width: float, height: float) -> np.ndarray:
    """Return a picture as uint8 ``(h, w, 3)`` at the resolution that ``width`` x ``height`` points can show.

    Larger pictures are reduced; smaller ones are enlarged without smoothing, so that their pixels stay visible.
    """
    array = display(picture.detach().cpu().numpy() if isinstance(picture, Tensor) else picture)
    scale = min(width / array.shape[1], height / array.shape[0]) * SHARPNESS
    size = (max(1, round(array.shape[1] * scale)), max(1, round(array.shape[0] * scale)))
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(np.ascontiguousarray(array)).resize(size, method))


def tile(axes: Axes, picture: Picture, x: float, y: float, width: float, height: float) -> AxesImage:
    """Draw a picture centred in the box at (x, y), its proportions kept, on axes in points with y downwards."""
    array = fitted(picture, width, height)
    across = min(width, height * array.shape[1] / array.shape[0])
    down = across * array.shape[0] / array.shape[1]
    left, top = x + (width - across) / 2, y + (height - down) / 2
    limits = axes.get_xlim(), axes.get_ylim()
    drawn = axes.imshow(array, extent=(left, left + across, top + down, top), interpolation="none", aspect="auto")
    axes.set(xlim=limits[0], ylim=limits[1])
    return drawn


def empty_tile(axes: Axes, text: str, x: float, y: float, width: float, height: float) -> None:
    """Draw a pale box that says why there is no picture."""
    axes.add_patch(Rectangle((x, y), width, height, facecolor=LANE, edgecolor="none"))
    axes.text(x + width / 2, y + height / 2, text, size=6.5, color=FAINT, ha="center", va="center")
