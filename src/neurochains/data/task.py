"""The task: the images that a question is about, as the network takes them and as people see them.

Shapes: N images, C channels, H x W pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.data.checks import as_images, as_indices, as_labels, as_pixels, check_held_out, check_length
from neurochains.data.classes import ClassTable
from neurochains.data.draws import Entry, draw
from neurochains.data.images import digest
from neurochains.data.reading import (
    Loaded,
    known_classes,
    model_info,
    names_of,
    pictures_of,
    preprocess_for,
    read_files,
)
from neurochains.errors import DataError
from neurochains.preprocess import Preprocess

__all__ = ["Task"]


@dataclass(frozen=True, slots=True, eq=False, init=False, repr=False)
class Task:
    """Images for one question, with everything that is known about them; never changed once made.

    Args:
        images: ``(N, C, H, W)`` floating-point, prepared as the network takes them. Kept as float32, without
            gradient; not copied where it is that already.
        labels: one output index of the network for each image, -1 where unknown; or class names. None: unknown.
        class_names: the names of *all* outputs of the network, in order.
        names: one for each image, such as ``"dalmatian/003.jpg"``; numbers if None.
        pixels: uint8 ``(N, C, H, W)`` for display. If None they are derived from ``images``: the smallest value of
            the task becomes 0 and the largest 255, so colours are *not* true; ``Preprocess.denormalise`` gives true
            ones.
        synsets: the WordNet synset of each output, such as ``"n02110341"``.
        digests: sha256 in hex that identifies each image; of its float32 values if None.
        held_out: further images of the same question, on which results are only measured.

    Raises:
        DataError: a shape, a type or a length does not fit, a value is not finite, or a label is out of range.
        ClassNameError: a label is a name that no class has.
    """

    images: Tensor
    labels: Tensor | None
    class_names: tuple[str, ...] | None
    names: tuple[str, ...]
    pixels: Tensor
    synsets: tuple[str, ...] | None
    digests: tuple[str, ...]
    held_out: Task | None

    def __init__(
        self,
        images: Tensor | NDArray[np.floating],
        labels: Tensor | NDArray[np.integer] | Sequence[int | str] | None = None,
        class_names: Sequence[str] | None = None,
        *,
        names: Sequence[str] | None = None,
        pixels: Tensor | None = None,
        synsets: Sequence[str] | None = None,
        digests: Sequence[str] | None = None,
        held_out: Task | None = None,
    ) -> None:
        table = ClassTable(_tuple(class_names), _tuple(synsets))
        values = as_images(images, names or ())
        called = tuple(f"{index:04d}" for index in range(len(values))) if names is None else tuple(names)
        fields = {
            "images": values,
            "labels": as_labels(labels, table, values),
            "class_names": table.names,
            "names": called,
            "pixels": as_pixels(pixels, values),
            "synsets": table.synsets,
            "digests": _digests(values) if digests is None else tuple(digests),
            "held_out": check_held_out(held_out, values),
        }
        for name in ("names", "digests"):
            check_length(name, fields[name], len(values))
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_folder(
        cls,
        folder: str | os.PathLike[str],
        *,
        classes: Sequence[str | int] | str | int | None = None,
        per_class: int | None = None,
        held_out: int = 0,
        seed: int = 0,
        model: Any = None,
        preprocess: Preprocess | None = None,
        class_names: Sequence[str] | None = None,
        synsets: Sequence[str] | None = None,
    ) -> Task:
        """Return a task of images from ``folder/<class>/<file>`` or ``folder/<file>``.

        Class folders are matched to the outputs of the network by name, synset or index. Where the names of the
        outputs are not known, the class folders (all, sorted) count as outputs 0, 1, ..., which `check_outputs`
        refuses for a network with another number of outputs. The files of a flat folder are labelled where their
        names carry a known class (``0251_n02110341_dalmatian.jpg``, ``dalmatian_3.png``).

        Args:
            folder: the folder; files that are no images are ignored and counted in the log.
            classes: which, in this order: names, synonyms, synsets or indices, or just one. All, sorted, if None.
            per_class: how many images of each class; all but those held out if None.
            held_out: how many more images of each class to hold out, none of them among the others.
            seed: which images are drawn: the same for the same file names, whatever the other classes.
            model: a model from ``nc.load_model``; says how to prepare images and what its outputs are called.
            preprocess: how to prepare images; the model's way if None.
            class_names: the names of all outputs, in order; as the model says if None.
            synsets: the synset of each output; as the model says if both this and ``class_names`` are None.

        Raises:
            DataError: the folder is missing or has too few images, or an image cannot be read (`ImageError`).
            ClassNameError: a class is not in the folder, or a class folder means no output of the network.
            SettingsError: it is not known how to prepare images, or a number is out of range.
        """
        how = preprocess_for(model, preprocess)
        table = known_classes(model, class_names, synsets)
        drawn = draw(folder, table=table, classes=classes, per_class=per_class, held_out=held_out, seed=seed)
        held = cls._drawn(drawn.held_out, how, drawn.table) if drawn.held_out else None
        return cls._drawn(drawn.given, how, drawn.table, held)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[str | os.PathLike[str]],
        *,
        labels: Sequence[int | str] | None = None,
        model: Any = None,
        preprocess: Preprocess | None = None,
        class_names: Sequence[str] | None = None,
        synsets: Sequence[str] | None = None,
        held_out: Task | None = None,
    ) -> Task:
        """Return a task of image files, in the order given; nothing is read from their names.

        Args:
            paths: the files.
            labels: the class of each, by index or name; unknown if None.
            model: as in `from_folder`, and so are ``preprocess``, ``class_names`` and ``synsets``.
            preprocess: see there.
            class_names: see there.
            synsets: see there.
            held_out: further images, on which results are only measured.

        Raises:
            DataError: there is no file, a file cannot be read (`ImageError`), or the labels do not fit.
            SettingsError: it is not known how to prepare images.
        """
        files = [Path(path) for path in ([paths] if isinstance(paths, (str, os.PathLike)) else paths)]
        if not files:
            raise DataError("Wanted at least one image file, but got none. Pass their paths.")
        table = known_classes(model, class_names, synsets)
        read = read_files(files, preprocess_for(model, preprocess))
        return cls._made(read, labels, table, names_of(files), held_out)

    @classmethod
    def from_arrays(
        cls,
        arrays: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        *,
        labels: Tensor | NDArray[np.integer] | Sequence[int | str] | None = None,
        names: Sequence[str] | None = None,
        model: Any = None,
        preprocess: Preprocess | None = None,
        class_names: Sequence[str] | None = None,
        synsets: Sequence[str] | None = None,
        held_out: Task | None = None,
    ) -> Task:
        """Return a task of uint8 pixels ``(N, H, W, C)`` or ``(N, H, W)``, or a list of arrays of several sizes.

        Args:
            arrays: grey, RGB or RGBA; prepared like image files.
            labels: the class of each, by index or name; unknown if None.
            names: one for each; numbers if None.
            model: as in `from_folder`, and so are ``preprocess``, ``class_names`` and ``synsets``.
            preprocess: see there.
            class_names: see there.
            synsets: see there.
            held_out: further images, on which results are only measured.

        Raises:
            DataError: there are none, they are not uint8 with channels last, or the labels do not fit.
            SettingsError: it is not known how to prepare images.
        """
        table = known_classes(model, class_names, synsets)
        read = pictures_of(arrays, preprocess_for(model, preprocess))
        return cls._made(read, labels, table, names, held_out)

    @classmethod
    def shapes(cls, n: int, seed: int = 0, split: str = "test", *, classes: Sequence[int | str] | None = None) -> Task:
        """Return ``n`` images of the built-in shapes data, whose classes cycle through ``classes`` (all if None).

        Raises:
            SettingsError: a number is out of range, or there is no such split.
            ClassNameError: there is no such class; lists the nearest.
        """
        from neurochains.data import shapes  # drawing needs more than most tasks do

        drawn = shapes.batch(n, seed=seed, split=split, classes=classes)
        pixels = torch.from_numpy(drawn.pixels)
        return cls(
            shapes.PREPROCESS.normalise(pixels),
            torch.from_numpy(drawn.labels),
            shapes.CLASSES,
            names=[f"{split}/{seed}/{index:04d}" for index in range(len(drawn))],
            pixels=pixels,
        )

    @classmethod
    def of(cls, value: Task | Tensor | NDArray[Any], *, model: Any = None) -> Task:
        """Return a task of ``value``: itself, prepared float images ``(N, C, H, W)``, or pixels as in `from_arrays`.

        With a model that says how its images are prepared, float images get true display pixels. A task is returned
        as it is.

        Raises:
            DataError: ``value`` is none of these, or does not fit.
        """
        if isinstance(value, Task):
            return value
        if isinstance(value, np.ndarray) and value.dtype == np.uint8:
            return cls.from_arrays(value, model=model)
        if not isinstance(value, (Tensor, np.ndarray)):
            raise DataError(
                f"Wanted a Task, a tensor or an array of images, but got {type(value).__name__}. "
                "Make a task with nc.Task.from_folder or nc.Task.from_files."
            )
        table = known_classes(model, None, None)
        plain = cls(value, None, table.names, synsets=table.synsets)
        how: Preprocess | None = getattr(model_info(model), "preprocess", None)
        if how is None or how.channels != plain.images.shape[1]:
            return plain
        return plain._replaced(pixels=how.denormalise(plain.images))

    @classmethod
    def _drawn(cls, entries: Sequence[Entry], how: Preprocess, table: ClassTable, held_out: Task | None = None) -> Task:
        """Return a task of the images drawn from a folder."""
        read = read_files((entry.path for entry in entries), how)
        return cls._made(read, [entry.label for entry in entries], table, [entry.name for entry in entries], held_out)

    @classmethod
    def _made(cls, read: Loaded, labels: Any, table: ClassTable, names: Any, held_out: Task | None) -> Task:
        """Return a task of images that were read."""
        return cls(
            read.images,
            labels,
            table.names,
            names=names,
            pixels=read.pixels,
            synsets=table.synsets,
            digests=read.digests,
            held_out=held_out,
        )

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        channels, height, width = self.images.shape[1:]
        known = ", ".join(f"{len(rows)} {self.label_name(label)}" for label, rows in self.by_class().items())
        held = f", {len(self.held_out)} held out" if self.held_out else ""
        return f"Task({len(self)} images of {channels} x {height} x {width}{': ' if known else ''}{known}{held})"

    @property
    def classes(self) -> tuple[int, ...]:
        """The labels present, in order of first appearance; none for images without labels."""
        return tuple(self.by_class())

    def by_class(self) -> dict[int, tuple[int, ...]]:
        """Return the indices of the images of each label, in order of first appearance; unknown labels are left out."""
        rows: dict[int, list[int]] = {}
        for index, label in enumerate([] if self.labels is None else self.labels.tolist()):
            rows.setdefault(label, []).append(index)
        return {label: tuple(indices) for label, indices in rows.items() if label >= 0}

    def label_name(self, index: int) -> str:
        """Return what an output is called for short (the first of its synonyms), or ``"class 3"``, or ``"unknown"``.

        Raises:
            DataError: the network has no such output.
        """
        if index < 0:
            return "unknown"
        if self.class_names is None:
            return self.synsets[index] if self.synsets and index < len(self.synsets) else f"class {index}"
        if index >= len(self.class_names):
            raise DataError(f"Wanted an output below {len(self.class_names)}, the number of class names, not {index}.")
        return self.class_names[index].split(",")[0].strip()

    def subset(self, indices: Sequence[int] | Tensor) -> Task:
        """Return a task of some of the images, in the order of ``indices``; what is held out stays the same.

        Raises:
            DataError: there are no indices, or one is out of range.
        """
        rows = as_indices(indices, len(self))
        where = torch.tensor(rows)
        return self._replaced(
            images=self.images[where.to(self.images.device)],
            labels=None if self.labels is None else self.labels[where.to(self.labels.device)],
            names=[self.names[row] for row in rows],
            pixels=self.pixels[where],
            digests=[self.digests[row] for row in rows],
        )

    def to(self, device: torch.device | str) -> Task:
        """Return the task with images and labels on a device, held-out ones too; display pixels stay on the CPU."""
        return self._replaced(
            images=self.images.to(device),
            labels=None if self.labels is None else self.labels.to(device),
            held_out=None if self.held_out is None else self.held_out.to(device),
        )

    def unlabelled(self) -> Task:
        """Return the task without labels and names of classes: for a network whose outputs are no classes."""
        held = None if self.held_out is None else self.held_out.unlabelled()
        return self._replaced(labels=None, class_names=None, synsets=None, held_out=held)

    def check_outputs(self, outputs: int) -> None:
        """Check that the labels can be outputs of a network that has ``outputs`` of them.

        Raises:
            DataError: a label is no output, or there is not one class name for each output.
        """
        if self.labels is not None and int(self.labels.max()) >= outputs:
            raise DataError(
                f"Wanted labels below {outputs}, the number of outputs of the network, but {int(self.labels.max())} "
                "is among them. Pass the labels as output indices, or a model with an output for each class."
            )
        described = ClassTable(self.class_names, self.synsets).count
        if described and described != outputs:
            raise DataError(
                f"Wanted a class name for each of the {outputs} outputs of the network, but the task has {described}. "
                "Pass class_names= with all of them, in order (for a model from your own file, class_names = [...] "
                "in that file), or use task.unlabelled()."
            )
        if self.held_out is not None:
            self.held_out.check_outputs(outputs)

    def to_json(self) -> dict[str, Any]:
        """Return where the images come from, without their values: shape, names, digests, labels and class names."""
        labels = None if self.labels is None else self.labels.tolist()
        return {
            "shape": list(self.images.shape),
            "names": list(self.names),
            "digests": list(self.digests),
            "labels": labels,
            "class_names": {str(label): self.class_names[label] for label in self.classes} if self.class_names else {},
            "synsets": {str(label): self.synsets[label] for label in self.classes} if self.synsets else {},
            "held_out": None if self.held_out is None else self.held_out.to_json(),
        }

    def _replaced(self, **changes: Any) -> Task:
        """Return the task with some fields changed."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Task(**{**fields, **changes})


def _tuple(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


def _digests(images: Tensor) -> tuple[str, ...]:
    """Return the sha256 of the float32 values of each image."""
    return tuple(digest(image.cpu().contiguous().numpy().tobytes()) for image in images)
