"""Image folders: which of their files belong to which class.

Two layouts are read:

- *class folders*, ``folder/<class>/<file>``, where at least one sub-folder holds images;
- *flat*, ``folder/<file>``, with the class in the file name (``0251_n02110341_dalmatian.jpg``,
  ``n02110341_17.JPEG``, ``dalmatian_3.png``) or with no class at all.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurochains.data.classes import ClassTable, as_index, bare_name, fold, synset_in
from neurochains.errors import ClassNameError, DataError, did_you_mean

__all__ = ["MOST_SHOWN", "SUFFIXES", "Group", "Layout", "no_images", "scan"]

SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .j2k .avif".split()
)
"""Endings of the files that count as images; other files are left alone."""

_log = logging.getLogger(__name__)
MOST_SHOWN = 8
"""How many names a message lists before it breaks off."""


@dataclass(frozen=True, slots=True)
class Group:
    """The files of one class, sorted by name; ``label`` is None where no output is known for it."""

    name: str
    label: int | None
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What an image folder holds: its groups sorted by name, and the table of classes that their labels count."""

    folder: Path
    groups: tuple[Group, ...]
    table: ClassTable
    flat: bool

    def asked(self, classes: Sequence[str | int]) -> tuple[Group, ...]:
        """Return the groups of the classes asked for, in that order, each once.

        Raises:
            ClassNameError: a class is not in the folder; lists the nearest that are.
        """
        groups = [self._named(wanted) or self._meant(wanted) for wanted in classes]
        return tuple({(group.name, group.label): group for group in groups}.values())

    def every(self) -> tuple[Group, ...]:
        """Return all groups; the images of a flat folder that carry no known class are one, the last."""
        if not self.flat:
            return tuple(group for group in self.groups if group.files or group.label is not None)
        known = tuple(group for group in self.groups if group.label is not None)
        rest = sorted(file for group in self.groups if group.label is None for file in group.files)
        return (*known, Group("", None, tuple(rest))) if rest else known

    def _named(self, wanted: str | int) -> Group | None:
        """Return the group whose folder, or file names, spell the class so; an index is no name."""
        if not isinstance(wanted, str) or (self.flat and self.table.known):
            return None
        exact = [group for group in self.groups if group.name == wanted]
        alike = exact or [group for group in self.groups if fold(group.name) == fold(wanted)]
        if len(alike) > 1:
            names = ", ".join(group.name for group in alike)
            raise ClassNameError(f"{wanted!r} means {len(alike)} classes of {self.folder}: {names}. Spell one exactly.")
        return alike[0] if alike else None

    def _meant(self, wanted: str | int) -> Group:
        """Return the group whose output the class is."""
        try:
            index = self.table.find(wanted)
        except ClassNameError as error:
            raise ClassNameError(f"{error} {self._shown(str(wanted))}") from error
        for group in self.groups:
            if group.label == index:
                return group
        raise ClassNameError(
            f"{wanted!r} is output {index} of the network ({self.table.described(index)}), but no "
            f"{'file name' if self.flat else 'sub-folder'} of {self.folder} means it. {self._shown(str(wanted))}"
        )

    def _shown(self, wanted: str) -> str:
        """Return a sentence on the classes that the folder does hold, the nearest if any is near."""
        names = sorted({group.name for group in self.groups if group.name})
        listed = ", ".join(names[:MOST_SHOWN]) + (", ..." if len(names) > MOST_SHOWN else "")
        near = did_you_mean(wanted.replace("_", " "), names)
        return f"{self.folder} holds {len(names)} classes: {listed}. {near}".strip()


def scan(folder: str | os.PathLike[str], table: ClassTable) -> Layout:
    """Return what an image folder holds, reading names only.

    Raises:
        DataError: the folder is missing, is none, cannot be listed, or holds no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(_no_folder(root))
    inside = [path for path in _listing(root) if path.is_dir()]
    flat = _images(root)
    groups = [Group(path.name, None, _images(path)) for path in inside]
    if any(group.files for group in groups):
        if flat:
            _log.warning("%d images beside the class folders of %s are left out", len(flat), root)
        return _by_folder(root, groups, table)
    if not flat:
        raise DataError(no_images(root))
    return _by_file_name(root, flat, table)


def _by_folder(root: Path, groups: list[Group], table: ClassTable) -> Layout:
    """Return class folders with the outputs that they mean: by name, synset or index, or else by position."""
    if table.known:
        labelled = [replace(group, label=_folder_label(group.name, table)) for group in groups]
        return Layout(root, tuple(labelled), table, flat=False)
    labelled = [replace(group, label=position) for position, group in enumerate(groups)]
    return Layout(root, tuple(labelled), ClassTable(tuple(group.name for group in groups)), flat=False)


def _folder_label(name: str, table: ClassTable) -> int | None:
    label = table.read(name)
    if label is None and not table.candidates(name):
        label = as_index(name)
    return label if label is not None and label < table.count else None


def _by_file_name(root: Path, files: Sequence[Path], table: ClassTable) -> Layout:
    """Return the files of a flat folder, grouped by the class in their names."""
    found: dict[tuple[str, int | None], list[Path]] = {}
    for file in files:
        label = table.read(file.stem) if table.known else None
        name = table.name(label) if label is not None else bare_name(file.stem) or synset_in(file.stem)
        found.setdefault((name, label), []).append(file)
    groups = [Group(name, label, tuple(found[name, label])) for name, label in sorted(found, key=lambda key: key[0])]
    unknown = sum(len(group.files) for group in groups if group.label is None)
    _log.info("%d of %d images of %s carry no class of the network in their names", unknown, len(files), root)
    return Layout(root, tuple(groups), table, flat=True)


def _listing(folder: Path) -> list[Path]:
    """Return what lies visibly in a folder, sorted by name."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))
    except OSError as error:
        raise DataError(f"{folder} cannot be listed ({error.strerror}). Check its permissions.") from error


def _images(folder: Path) -> tuple[Path, ...]:
    """Return the image files directly in a folder, sorted by name, and log how many others are ignored."""
    files = [path for path in _listing(folder) if path.is_file()]
    images = tuple(path for path in files if path.suffix.lower() in SUFFIXES)
    if len(images) < len(files):
        _log.warning("%d files of %s are no images and are ignored", len(files) - len(images), folder)
    return images


def _no_folder(root: Path) -> str:
    if root.exists():
        return f"Wanted a folder of images, but {root} is a file. Unpack an archive first; use from_files for images."
    near = did_you_mean(root.name, (path.name for path in root.parent.glob("*") if path.is_dir()))
    return f"Wanted a folder of images, but there is no folder {root}. {near or 'Check the path.'}"


def no_images(folder: Path) -> str:
    """Return the message for a folder without images, saying what it holds instead."""
    inside = _listing(folder)
    if not inside:
        return f"Wanted images in {folder}, but it is empty. Put images, or one sub-folder for each class, into it."
    folders = [path.name for path in inside if path.is_dir()]
    kinds = Counter(path.suffix.lower() or "no ending" for path in inside if path.is_file())
    held = [f"{count} files with {suffix}" for suffix, count in kinds.most_common(MOST_SHOWN)]
    held += [f"the folders {', '.join(folders[:MOST_SHOWN])}"] if folders else []
    remedy = "Name the folder that holds the class folders" if folders else "Convert them to JPEG or PNG"
    return f"Wanted images in {folder}, but it holds only {', '.join(held)}. {remedy}."
