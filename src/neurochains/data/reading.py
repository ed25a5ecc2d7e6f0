"""Reading: how images become what a network takes, and what its outputs are called.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from neurochains.data.classes import ClassTable
from neurochains.data.images import digest, read_image, to_rgb
from neurochains.errors import DataError, SettingsError
from neurochains.preprocess import Preprocess

__all__ = ["Loaded", "known_classes", "model_info", "names_of", "pictures_of", "preprocess_for", "read_files"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Images read: ``pixels`` uint8 (N, C, H, W) for display, ``images`` float32 for the network, a digest each."""

    pixels: Tensor
    images: Tensor
    digests: tuple[str, ...]


def model_info(model: Any) -> Any:
    """Return what a model says of itself in ``neurochains_info``, wrapped in DataParallel or not, or None.

    Raises:
        SettingsError: ``model`` is the name of a model instead of a model.
    """
    if isinstance(model, str):
        raise SettingsError(f"Wanted a model as model=, but got the name {model!r}. Pass nc.load_model({model!r}).")
    inner = getattr(model, "module", None)
    return getattr(model, "neurochains_info", None) or getattr(inner, "neurochains_info", None)


def preprocess_for(model: Any, preprocess: Preprocess | None) -> Preprocess:
    """Return ``preprocess``, or the model's own if None.

    Raises:
        SettingsError: neither is known.
    """
    found = preprocess or getattr(model_info(model), "preprocess", None)
    if found is None:
        said = "no model was given" if model is None else "the model does not say"
        raise SettingsError(
            f"How images must be prepared is not known: {said}. Pass preprocess=nc.Preprocess(size=..., mean=..., "
            "std=...) as in the model's training, or model= with a model from nc.load_model."
        )
    return found


def known_classes(model: Any, class_names: Sequence[str] | None, synsets: Sequence[str] | None) -> ClassTable:
    """Return the classes of the network: those given, else those that the model knows of itself.

    Raises:
        DataError: the numbers of names and synsets differ.
    """
    info = model_info(model)
    names = getattr(info, "class_names", None) if class_names is None else class_names
    if class_names is None or synsets is not None:
        identifiers = getattr(info, "synsets", None) if synsets is None else synsets
    else:  # the model's synsets belong to the model's names
        identifiers = None
    return ClassTable(None if names is None else tuple(names), None if identifiers is None else tuple(identifiers))


def read_files(paths: Iterable[Path], preprocess: Preprocess) -> Loaded:
    """Return image files as the network takes them.

    Raises:
        ImageError: a file cannot be read, or not safely.
    """
    pixels, digests = [], []
    for path in paths:
        picture = read_image(path)
        pixels.append(preprocess.pixels(picture.image))
        digests.append(picture.digest)
    return _loaded(pixels, digests, preprocess)


def pictures_of(arrays: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], preprocess: Preprocess) -> Loaded:
    """Return arrays of pixels as the network takes them; the digests are of their pixels and shape.

    Raises:
        DataError: there are none, or they are not uint8 (H, W, C) or (H, W) with 1, 3 or 4 channels.
    """
    pixels, digests = [], []
    for index, array in enumerate(map(np.asarray, arrays)):
        _check_array(array, index)
        flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        pixels.append(preprocess.pixels(to_rgb(Image.fromarray(flat))))
        digests.append(digest(repr(array.shape).encode() + array.tobytes()))
    if not pixels:
        raise DataError("Wanted at least one image, but got no array. Pass uint8 arrays (N, H, W, C).")
    return _loaded(pixels, digests, preprocess)


def names_of(paths: Sequence[Path]) -> tuple[str, ...]:
    """Return short names of files: their paths below the folder that all of them share.

    >>> names_of([Path("photos/cat/1.jpg"), Path("photos/dog/1.jpg")])
    ('cat/1.jpg', 'dog/1.jpg')
    """
    whole = [path.absolute() for path in paths]
    try:
        shared = os.path.commonpath([path.parent for path in whole])
    except ValueError:  # on several drives
        return tuple(path.as_posix() for path in paths)
    return tuple(path.relative_to(shared).as_posix() for path in whole)


def _loaded(pixels: list[Tensor], digests: list[str], preprocess: Preprocess) -> Loaded:
    stacked = torch.stack(pixels)
    return Loaded(stacked, preprocess.normalise(stacked), tuple(digests))


def _check_array(array: NDArray[Any], index: int) -> None:
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if shaped and array.dtype == np.uint8 and array.size:
        return
    remedy = "Scale them to 0 ... 255 and convert with .astype('uint8')" if shaped else "Put the channels last"
    raise DataError(
        f"Wanted uint8 arrays (H, W, C) of 1, 3 or 4 channels, but array {index} is {array.dtype} {array.shape}. "
        f"{remedy}; images that are prepared already go to nc.Task(images) as floats (N, C, H, W)."
    )
