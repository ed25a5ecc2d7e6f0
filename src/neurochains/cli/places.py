"""Where results go: checked before the work starts, so that an hour of it is not lost to a typing error."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from neurochains.errors import ArtifactError

__all__ = ["check_file", "check_folder"]


def check_folder(folder: Path, *, force: bool, kind: str = "chain") -> None:
    """Check that a result of some kind, such as a chain, can be saved in a folder; nothing is written.

    Raises:
        ArtifactError: it exists and ``force`` is False, holds something else, or cannot be written.
    """
    if os.path.lexists(folder):
        if not force:
            raise ArtifactError(f"{folder} exists already. Choose another --out, or replace it with --force.")
        if not folder.is_dir() or folder.is_symlink():
            raise ArtifactError(f"{folder} is no folder, so even --force does not replace it. Choose another --out.")
        if any(folder.iterdir()) and not (folder / f"{kind}.json").is_file():
            raise ArtifactError(f"{folder} holds something else than a {kind} and is left alone. Choose another --out.")
    _check_parents(folder)


def check_file(path: Path, *, force: bool) -> None:
    """Check that a file can be written; nothing is.

    Raises:
        ArtifactError: it exists and ``force`` is False, is a folder, or cannot be written.
    """
    if path.is_dir():
        raise ArtifactError(
            f"{path} is a folder; the name of a file is wanted, such as {path / 'result'}{path.suffix}."
        )
    if os.path.lexists(path) and not force:
        raise ArtifactError(f"{path} exists already. Choose another name, or replace it with --force.")
    _check_parents(path)


def _check_parents(place: Path) -> None:
    """Check that the nearest folder above that exists can be written to, by doing so."""
    parent = next(parent for parent in place.absolute().parents if os.path.lexists(parent))
    if not parent.is_dir():
        raise ArtifactError(f"{place} cannot be made: {parent} is no folder. Choose another place.")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".neurochains-", dir=parent))
    except OSError as error:
        raise ArtifactError(f"{place} cannot be written: {parent}: {error.strerror}. Choose another place.") from error
