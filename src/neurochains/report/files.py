"""The files of a report: a page that appears complete or not at all, and its figures beside it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from neurochains.errors import ArtifactError
from neurochains.pictures import save_figure
from neurochains.report.content import Report
from neurochains.report.figures import figure_files

__all__ = ["place_of", "save_figures", "save_page"]

PAGE = "report.html"


def place_of(out: str | os.PathLike[str]) -> Path:
    """Return the file that a report is written to: ``out`` itself, or ``report.html`` in a folder.

    Raises:
        ArtifactError: a file is in the way of a folder.
    """
    path = Path(out)
    file = path if path.suffix.lower() in (".html", ".htm") and not path.is_dir() else path / PAGE
    blocked = next((parent for parent in file.parents if parent.exists() and not parent.is_dir()), None)
    if blocked is not None or file.is_dir():
        raise ArtifactError(
            f"A report cannot be written to {path}: {blocked or file} is a {'file' if blocked else 'folder'}. "
            "Name a .html file or a folder."
        )
    return file


def save_page(page: str, file: Path) -> Path:
    """Write a page under a temporary name beside its place, and put it there at once.

    Raises:
        ArtifactError: it cannot be written.
    """
    part: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(page)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(part, 0o644)
        os.replace(part, file)
    except OSError as error:
        if part is not None:
            Path(part).unlink(missing_ok=True)
        raise ArtifactError(
            f"The report cannot be written to {file}: {error.strerror or error}. Choose another place, or make room."
        ) from error
    return file


def save_figures(report: Report, file: Path) -> Path:
    """Write every figure as SVG and as PNG into ``<report>_figures`` beside the page; return that folder.

    Raises:
        ArtifactError: they cannot be written.
    """
    folder = file.with_name(f"{file.stem}_figures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"The figures cannot be written to {folder}: {error.strerror}.") from error
    for name, made in figure_files(report):
        save_figure(made, folder / f"{name}.svg")
        save_figure(made, folder / f"{name}.png", dpi=_dpi(made.get_size_inches()[1]))
    return folder


def _dpi(height: float) -> int:
    """Return the resolution of a PNG: fine, but of a tall figure not finer than needed."""
    return 150 if height <= 30 else 100
