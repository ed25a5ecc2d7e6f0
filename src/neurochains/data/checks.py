"""Checks of what a task is made of: each returns the value in its one form, or says what is wrong with it.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.data.classes import ClassTable
from neurochains.errors import DataError

if TYPE_CHECKING:
    from neurochains.data.task import Task

__all__ = ["as_images", "as_indices", "as_labels", "as_pixels", "check_held_out", "check_length"]

_MOST_SHOWN = 5


def as_images(images: Tensor | NDArray[np.floating], names: Sequence[str]) -> Tensor:
    """Return images as a float32 tensor without gradient.

    Raises:
        DataError: they are not floating-point ``(N, C, H, W)`` with at least one image, or not all finite.
    """
    values = _tensor(images) if isinstance(images, np.ndarray) else images
    if not isinstance(values, Tensor) or values.ndim != 4 or not values.is_floating_point():
        raise DataError(_not_images(values))
    if values.numel() == 0:
        raise DataError(f"Wanted at least one image with pixels, but got {tuple(values.shape)}. Pass some images.")
    values = values.detach().to(torch.float32)
    _check_finite(values, names)
    return values


def as_labels(labels: Any, table: ClassTable, images: Tensor) -> Tensor | None:
    """Return labels as a LongTensor on the device of the images; None if all are unknown.

    Raises:
        DataError: they are not one integer for each image, or one is no output of the network.
        ClassNameError: one is a name that no class has.
    """
    if labels is None:
        return None
    values = labels if isinstance(labels, Tensor) else _tensor(_found(labels, table))
    if values.ndim != 1 or values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise DataError(
            f"Wanted one whole number for each image as labels, but got {values.dtype} {tuple(values.shape)}. "
            "Pass indices of the network's outputs, -1 where unknown."
        )
    check_length("labels", values, len(images))
    _check_range(values, table.count)
    return values.to(images.device, torch.int64) if bool((values >= 0).any()) else None


def as_pixels(pixels: Tensor | None, images: Tensor) -> Tensor:
    """Return pixels for display on the CPU; from the smallest to the largest value of the images if None.

    Raises:
        DataError: they are not uint8, or not of the number and size of the images.
    """
    if pixels is None:
        low, high = images.amin(), images.amax()
        return ((images - low) / (high - low).clamp_min(1e-12) * 255).round().to(torch.uint8).cpu()
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels[:, 0].shape != images[:, 0].shape:
        raise DataError(
            f"Wanted uint8 pixels of the number and size of the images {tuple(images.shape)}, but got {pixels.dtype} "
            f"{tuple(pixels.shape)}. Leave pixels= out, or make them with Preprocess.denormalise(images)."
        )
    return pixels.cpu()


def as_indices(indices: Sequence[int] | Tensor, count: int) -> list[int]:
    """Return indices of images as a list.

    Raises:
        DataError: there are none, or one is not in ``0 ... count - 1``.
    """
    rows = [operator.index(row) for row in (indices.tolist() if isinstance(indices, Tensor) else indices)]
    wrong = [row for row in rows if not 0 <= row < count]
    if wrong or not rows:
        came = f"{wrong[0]} is among them" if wrong else "there are none"
        raise DataError(f"Wanted indices of images from 0 to {count - 1}, but {came}.")
    return rows


def check_length(what: str, values: Sequence[Any] | Tensor, count: int) -> None:
    """Check that there is one value for each image.

    Raises:
        DataError: there are more or fewer.
    """
    if len(values) != count:
        raise DataError(f"Wanted one of {what} for each of the {count} images, but got {len(values)}.")


def check_held_out(held_out: Task | None, images: Tensor) -> Task | None:
    """Return the held-out task, whose images must be of the same shape.

    Raises:
        DataError: they are not.
    """
    if held_out is not None and held_out.images.shape[1:] != images.shape[1:]:
        raise DataError(
            f"Wanted held-out images of {tuple(images.shape[1:])}, like the others, but got "
            f"{tuple(held_out.images.shape[1:])}. Prepare both in the same way."
        )
    return held_out


def _check_finite(images: Tensor, names: Sequence[str]) -> None:
    finite = torch.isfinite(images).flatten(1).all(1)
    if bool(finite.all()):
        return
    wrong = (~finite).nonzero().flatten().tolist()
    shown = ", ".join(f"{row} ({names[row]})" if row < len(names) else str(row) for row in wrong[:_MOST_SHOWN])
    raise DataError(
        f"Wanted finite pixels, but {len(wrong)} of {len(images)} images hold NaN or infinity: {shown}"
        f"{', ...' if len(wrong) > _MOST_SHOWN else ''}. Remove them, or prepare them again."
    )


def _check_range(labels: Tensor, count: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < -1:
        raise DataError(f"Wanted labels from 0, or -1 for unknown, but {low} is among them.")
    if count and high >= count:
        raise DataError(
            f"Wanted labels below {count}, the number of class names, but {high} is among them. "
            "class_names= must name all outputs of the network, not only the classes of the task."
        )


def _tensor(array: NDArray[Any]) -> Tensor:
    """Return a copy of an array, which may be read-only or reversed.

    Raises:
        DataError: torch has no such type of number.
    """
    try:
        return torch.from_numpy(np.array(array, order="C"))
    except TypeError as error:
        raise DataError(f"Wanted numbers that torch knows, but got an array of {array.dtype}. Convert it.") from error


def _found(labels: NDArray[np.integer] | Sequence[int | str], table: ClassTable) -> NDArray[Any]:
    """Return labels as an array, with names turned into indices."""
    if isinstance(labels, np.ndarray):
        return labels
    try:
        found = [table.find(label) if isinstance(label, str) else operator.index(label) for label in labels]
    except TypeError as error:
        raise DataError(f"Wanted class names or whole numbers as labels: {error}. Use -1 where unknown.") from error
    return np.array(found, dtype=np.int64)


def _not_images(values: Any) -> str:
    came = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
    remedy = "Make pixels into a task with nc.Task.from_arrays, files with nc.Task.from_files."
    if isinstance(values, Tensor) and values.ndim == 3 and values.is_floating_point():
        remedy = "A single image needs images[None]."
    return f"Wanted floating-point images (N, C, H, W), prepared as the network takes them, but got {came}. {remedy}"
