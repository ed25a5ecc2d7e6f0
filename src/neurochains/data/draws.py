"""Draws: which images of a folder a task is made of, and which are held out.

The draw depends on the seed, the class and the file names only: a class's files are ranked by a digest of the three.
So the order of the file system does not matter, another class changes nothing, and a larger draw contains a smaller.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurochains.data.classes import ClassTable, bare_name
from neurochains.data.folders import MOST_SHOWN, Group, Layout, no_images, scan
from neurochains.errors import ClassNameError, DataError, SettingsError

__all__ = ["Drawn", "Entry", "draw"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One image to read: its file, its name within the task, and its class (-1: unknown)."""

    path: Path
    name: str
    label: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """The images drawn from a folder, those held out, and the table of classes that the labels count."""

    given: tuple[Entry, ...]
    held_out: tuple[Entry, ...]
    table: ClassTable


def draw(
    folder: str | os.PathLike[str],
    *,
    table: ClassTable,
    classes: Sequence[str | int] | str | int | None = None,
    per_class: int | None = None,
    held_out: int = 0,
    seed: int = 0,
) -> Drawn:
    """Return the images of a folder to work on, class by class in the order asked for, by file name within a class.

    Args:
        folder: class folders or flat, see the module.
        table: what is known about the outputs of the network. Where nothing is, the class folders themselves
            (all of them, sorted) become classes 0, 1, ...: right only if the network has one output for each.
        classes: names, synsets or indices, or one; all classes if None.
        per_class: how many images of each class; all but those held out if None. Images of no known class count
            as one class.
        held_out: how many further images of each class to hold out.
        seed: another seed draws other images.

    Raises:
        DataError: the folder is missing, holds no images, or too few of a class.
        ClassNameError: a class is not in the folder, or a class folder means no output of the network.
        SettingsError: a number is out of range.
    """
    wanted = [classes] if isinstance(classes, (str, int)) else classes
    _check_settings(wanted, per_class, held_out)
    layout = scan(folder, table)
    groups = layout.every() if wanted is None else layout.asked(wanted)
    _check_groups(groups, layout)
    splits = [_split(group, layout.folder, per_class, held_out, seed) for group in groups]
    given, held = (tuple(entry for split in splits for entry in split[part]) for part in (0, 1))
    return Drawn(given, held, layout.table)


def _split(
    group: Group, root: Path, per_class: int | None, held_out: int, seed: int
) -> tuple[list[Entry], list[Entry]]:
    """Return the images drawn from one class and those held out, each sorted by name."""
    found = len(group.files)
    wanted = 1 if per_class is None else per_class
    if found < wanted + held_out:
        raise DataError(_too_few(group, root, per_class, held_out))
    ranked = sorted(group.files, key=lambda file: _rank(seed, group.name, file.name))
    size = found - held_out if per_class is None else per_class
    parts = (ranked[:size], ranked[size : size + held_out])
    label = -1 if group.label is None else group.label
    given, held = ([Entry(file, file.relative_to(root).as_posix(), label) for file in sorted(part)] for part in parts)
    return given, held


def _rank(seed: int, group: str, file: str) -> bytes:
    """Return a digest that orders the files of a class at random, the same on every machine."""
    return hashlib.sha256("\0".join((str(seed), group, file)).encode("utf-8", "surrogateescape")).digest()


def _check_settings(classes: Sequence[str | int] | None, per_class: int | None, held_out: int) -> None:
    if classes is not None and len(classes) == 0:
        raise SettingsError("Wanted the names of some classes, but classes= is empty. Leave it out to use all.")
    if per_class is not None and per_class < 1:
        raise SettingsError(f"per_class must be at least 1, not {per_class}. Leave it out to use all images.")
    if held_out < 0:
        raise SettingsError(f"held_out must be 0 or more, not {held_out}.")


def _check_groups(groups: Sequence[Group], layout: Layout) -> None:
    """Raise unless every class has images and each class folder is one output of the network."""
    for group in groups:
        if not group.files:
            raise DataError(f"Class {group.name!r}: {no_images(layout.folder / group.name)}")
    if layout.flat:
        return
    if strangers := [group.name for group in groups if group.label is None]:
        raise ClassNameError(_strange_folders(strangers, layout))
    for label, count in Counter(group.label for group in groups).items():
        if count > 1:
            names = ", ".join(group.name for group in groups if group.label == label)
            raise DataError(f"The folders {names} of {layout.folder} all mean output {label}. Merge them into one.")


def _strange_folders(names: Sequence[str], layout: Layout) -> str:
    """Return the message for class folders that mean no output of the network, or more than one."""
    table = layout.table
    reasons = []
    for name in names[:MOST_SHOWN]:
        several = table.candidates(name) or table.candidates(bare_name(name))
        why = f"it names {len(several)} classes: {table.listed(several)}" if several else table.suggestion(name)
        reasons.append(f"{name!r} ({why or 'nothing is near'})")
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return (
        f"Wanted the sub-folders of {layout.folder} to be classes of the network, by name, synset or index among its "
        f"{table.count} outputs, but these mean none or several: {'; '.join(reasons)}{more}. Rename them, list the "
        "right ones with classes=, or put the images into one flat folder to use them without labels."
    )


def _too_few(group: Group, root: Path, per_class: int | None, held_out: int) -> str:
    wanted = f"{'at least 1' if per_class is None else per_class} images"
    held = f" and {held_out} more to hold out" if held_out else ""
    of = f"of class {group.name!r}" if group.name else "of no known class"
    return (
        f"Wanted {wanted}{held} {of} in {root}, but found {len(group.files)}. "
        "Add images, or ask for fewer with per_class= and held_out=."
    )
