"""Image sets: the images of a bundle or a query, one set for each class or folder, read when they are wanted.

A thousand classes do not fit into memory at once. So a set is first only described, by name, label and files, and
becomes a `Task` when it is loaded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from neurochains.data import Task
from neurochains.data.classes import ClassTable
from neurochains.data.draws import Entry, draw
from neurochains.data.folders import MOST_SHOWN, scan
from neurochains.data.images import digest
from neurochains.data.reading import known_classes, preprocess_for, read_files
from neurochains.preprocess import Preprocess

__all__ = ["ImageSet", "image_sets"]

_log = logging.getLogger(__name__)
_UNLABELLED = "images"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that belong together, not read yet.

    Attributes:
        name: of the class, with its synonyms, or of the folder.
        label: the output of the network that they show; -1 where it is none, or not known.
        synset: of the class, or None.
        images: the names of the images.
        load: reads them, as a task.
        digests: gives the sha256 of each image, without decoding it.
    """

    name: str
    label: int
    synset: str | None
    images: tuple[str, ...]
    load: Callable[[], Task]
    digests: Callable[[], tuple[str, ...]]


def image_sets(
    images: Task | str | os.PathLike[str],
    *,
    model: Any = None,
    preprocess: Preprocess | None = None,
    classes: Sequence[str | int] | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> tuple[ImageSet, ...]:
    """Return the sets of a task, one for each label, or of a folder, one for each class or sub-folder.

    Sub-folders that are no class of the network are sets without a label.

    Args:
        images: a task, or a folder as `Task.from_folder` reads it.
        model: a model from ``nc.load_model``; says how images are prepared and what its outputs are called.
        preprocess: how to prepare images; the model's way if None.
        classes: which, as in `Task.from_folder`; all if None.
        per_class: how many images of each; all if None.
        seed: which images are drawn.

    Raises:
        DataError: the folder is missing or has too few images.
        ClassNameError: a class that was asked for is not there.
        SettingsError: it is not known how to prepare images, or a number is out of range.
    """
    if isinstance(images, Task):
        return _of_task(images)
    how, table = preprocess_for(model, preprocess), known_classes(model, None, None)
    drawn = draw(images, table=_table_of(images, table, classes), classes=classes, per_class=per_class, seed=seed)
    outputs = table if table.known else drawn.table
    groups: dict[int, list[Entry]] = {}
    for entry in drawn.given:
        groups.setdefault(entry.label, []).append(entry)
    found = []
    for label, entries in groups.items():
        folder = drawn.table.name(label) if label >= 0 else _UNLABELLED
        found.append(_of_files(folder, _label(folder, label, drawn.table, outputs), entries, how, outputs))
    return tuple(found)


def _label(folder: str, label: int, read_by: ClassTable, outputs: ClassTable) -> int:
    """Return the output that a group of images shows: where names of folders were counted, it is looked up."""
    if label < 0 or read_by == outputs:
        return label
    known = outputs.read(folder)
    return -1 if known is None else known


def _table_of(folder: str | os.PathLike[str], table: ClassTable, classes: Sequence[str | int] | None) -> ClassTable:
    """Return the table that the folder's names are read by: none where some of them are no classes."""
    if classes is not None or not table.known:
        return table
    layout = scan(folder, table)
    strangers = [] if layout.flat else [group.name for group in layout.every() if group.label is None]
    if not strangers:
        return table
    more = ", ..." if len(strangers) > MOST_SHOWN else ""
    listed = ", ".join(strangers[:MOST_SHOWN]) + more
    _log.warning("%s: no classes of the network, so these are sets of images without a label", listed)
    return ClassTable()


def _of_files(folder: str, label: int, entries: Sequence[Entry], how: Preprocess, outputs: ClassTable) -> ImageSet:
    name = outputs.name(label) if label >= 0 else folder
    names, files = tuple(entry.name for entry in entries), tuple(entry.path for entry in entries)
    load = partial(_read, files, names, label, how, outputs if label >= 0 else ClassTable())
    return ImageSet(name, label, _synset(outputs, label), names, load, partial(_digests, files))


def _read(files: Sequence[Path], names: Sequence[str], label: int, how: Preprocess, outputs: ClassTable) -> Task:
    read = read_files(files, how)
    labels = None if label < 0 else [label] * len(files)
    return Task(
        read.images,
        labels,
        outputs.names,
        names=names,
        pixels=read.pixels,
        synsets=outputs.synsets,
        digests=read.digests,
    )


def _digests(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(digest(file.read_bytes()) for file in files)


def _of_task(task: Task) -> tuple[ImageSet, ...]:
    table = ClassTable(task.class_names, task.synsets)
    labels = torch.full((len(task),), -1) if task.labels is None else task.labels.cpu()
    found = []
    for label in dict.fromkeys(labels.tolist()):
        rows = (labels == label).nonzero().flatten().tolist()
        known = label >= 0 and table.known
        name = table.name(label) if known else (_UNLABELLED if label < 0 else f"class {label}")
        names, digests = (tuple(values[row] for row in rows) for values in (task.names, task.digests))
        load = partial(task.subset, rows)
        found.append(ImageSet(name, label, _synset(table, label), names, load, partial(tuple, digests)))
    return tuple(found)


def _synset(table: ClassTable, label: int) -> str | None:
    return table.synsets[label] if table.synsets is not None and 0 <= label < len(table.synsets) else None
