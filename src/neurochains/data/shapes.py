"""The shapes data set: 64 px pictures of one object, shape x texture x colour, on a cluttered background.

Nothing is stored: an image is a function of (seed, split, index), the same on every machine. The key of
a counter-based random generator is (seed, split) and its counter starts at the index, so no two images
share random numbers, whatever the split. Labels cycle: image ``i`` has class ``classes[i % len(classes)]``.

Which part of a picture is what is known. A mask of `PARTS` says where each part is *seen*:

- ``body``: the whole object; it is the union of the next three, which do not overlap,
- ``outline``: the dark band inside the object's edge,
- ``texture``: the stripes, dots, checks or rings,
- ``fill``: the object's colour between the marks,
- ``corners``: the parts of the body around its outward corners, across the other parts; none on a disc,
- ``clutter``: blobs, lines and fragments of the background, where the object does not hide them, and the
  few lines in front of the object, which hide its parts.

The rest of the picture is backdrop. See `neurochains.shapes_spec` for the classes and what they share.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurochains.data.shape_scene import picture
from neurochains.errors import ClassNameError, SettingsError, did_you_mean
from neurochains.shapes_spec import ATTRIBUTES, CLASSES, COLOURS, PARTS, PREPROCESS, SHAPES, SIDE, TEXTURES

__all__ = [
    "CLASSES",
    "COLOURS",
    "PARTS",
    "PREPROCESS",
    "SHAPES",
    "SIDE",
    "SPLITS",
    "TEXTURES",
    "Sample",
    "ShapesBatch",
    "attributes",
    "batch",
    "draw",
]

SPLITS = ("train", "val", "test")
_LARGEST = 2**63


@dataclass(frozen=True, slots=True)
class Sample:
    """One image. `pixels` (3, 64, 64) uint8, `parts` (len(PARTS), 64, 64) bool."""

    pixels: NDArray[np.uint8]
    label: int
    parts: NDArray[np.bool_]

    @property
    def attributes(self) -> tuple[str, str, str]:
        """(shape, texture, colour)."""
        return ATTRIBUTES[self.label]


@dataclass(frozen=True, slots=True)
class ShapesBatch:
    """N images. `pixels` (N, 3, 64, 64) uint8, `labels` (N,) int64, `parts` (N, len(PARTS), 64, 64) bool."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    parts: NDArray[np.bool_]

    @property
    def attributes(self) -> tuple[tuple[str, str, str], ...]:
        """(shape, texture, colour) of each image."""
        return tuple(ATTRIBUTES[label] for label in self.labels.tolist())

    def part(self, name: str) -> NDArray[np.bool_]:
        """Return the masks (N, 64, 64) of one part.

        Raises:
            ClassNameError: no part has this name; lists the nearest.
        """
        if name not in PARTS:
            raise ClassNameError(f"No part is called {name!r}. Parts: {', '.join(PARTS)}. {did_you_mean(name, PARTS)}")
        return self.parts[:, PARTS.index(name)]

    def __len__(self) -> int:
        return len(self.labels)


def attributes(label: int) -> tuple[str, str, str]:
    """Return the (shape, texture, colour) of a class.

    >>> attributes(0)
    ('disc', 'striped', 'red')
    """
    return ATTRIBUTES[_label(label)]


def draw(index: int, *, seed: int = 0, split: str = "train", label: int | str | None = None) -> Sample:
    """Return image ``index`` of a split.

    The same index with another label is the same scene with another object: position, size, angles,
    background, light and noise stay.

    Args:
        index: 0 or above.
        seed: 0 or above; another seed is another data set.
        split: ``"train"``, ``"val"`` or ``"test"``; they share no random numbers.
        label: class index or name; ``index % len(CLASSES)`` if None.

    Raises:
        SettingsError: a negative or too large number, or an unknown split.
        ClassNameError: no such class; lists the nearest.
    """
    index, seed = _whole("index", index), _whole("seed", seed)
    chosen = index % len(CLASSES) if label is None else _label(label)
    stream = np.random.Philox(counter=[0, 0, index, 0], key=[seed, _split_number(split)])
    pixels, parts = picture(np.random.Generator(stream), ATTRIBUTES[chosen])
    return Sample(pixels=pixels, label=chosen, parts=parts)


def batch(
    indices: int | Iterable[int],
    *,
    seed: int = 0,
    split: str = "train",
    classes: Sequence[int | str] | None = None,
) -> ShapesBatch:
    """Return many images of a split, stacked.

    Args:
        indices: which images, or how many: ``n`` means ``range(n)``.
        seed: as for `draw`.
        split: as for `draw`.
        classes: class indices or names to cycle through; all if None. Labels stay indices into `CLASSES`.

    Raises:
        SettingsError: no images, no classes, a negative number, or an unknown split.
        ClassNameError: no such class; lists the nearest.
    """
    wanted = range(_whole("n", indices)) if isinstance(indices, (int, np.integer)) else list(indices)
    cycle = range(len(CLASSES)) if classes is None else [_label(label) for label in classes]
    if not len(wanted) or not len(cycle):
        raise SettingsError(f"Wanted at least one image and one class, got {len(wanted)} and {len(cycle)}.")
    samples = [draw(i, seed=seed, split=split, label=cycle[i % len(cycle)]) for i in wanted]
    return ShapesBatch(
        pixels=np.stack([sample.pixels for sample in samples]),
        labels=np.array([sample.label for sample in samples], dtype=np.int64),
        parts=np.stack([sample.parts for sample in samples]),
    )


def _whole(name: str, number: int) -> int:
    try:
        value = operator.index(number)
    except TypeError:
        raise SettingsError(f"{name} must be a whole number, got {type(number).__name__}.") from None
    if not 0 <= value < _LARGEST:
        raise SettingsError(f"{name} must be 0 or above and below 2**63, got {value}.")
    return value


def _split_number(split: str) -> int:
    if split not in SPLITS:
        raise SettingsError(f"Wanted one of the splits {', '.join(SPLITS)}, got {split!r}.")
    return SPLITS.index(split)


def _label(label: int | str) -> int:
    """Return a class index; names in any case, spaces, dashes and underscores alike."""
    if isinstance(label, str):
        return _label_of_name(label)
    value = operator.index(label)
    if not 0 <= value < len(CLASSES):
        raise ClassNameError(f"Wanted a class index from 0 to {len(CLASSES) - 1} or a class name, got {value}.")
    return value


def _label_of_name(name: str) -> int:
    folded = " ".join(name.casefold().replace("_", " ").replace("-", " ").split())
    if folded not in CLASSES:
        raise ClassNameError(f"No shapes class is called {name!r}. {did_you_mean(folded, CLASSES)}".rstrip())
    return CLASSES.index(folded)
