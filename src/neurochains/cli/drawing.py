"""The figures that a command writes beside what it prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from neurochains.cli.console import results_console
from neurochains.errors import ArtifactError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["save_figures", "tell_figures"]


def save_figures(figures: Mapping[str, Figure], out: Path) -> list[str]:
    """Return the files that figures were written to, each as .svg and .png, by its name.

    Raises:
        ArtifactError: the folder cannot be made or written.
    """
    from neurochains.pictures import save_figure

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArtifactError(f"{out} cannot be made: {error.strerror or error}. Choose another --out.") from error
    return [
        str(save_figure(made, out / f"{name}.{suffix}")) for name, made in figures.items() for suffix in ("svg", "png")
    ]


def tell_figures(files: Iterable[str]) -> None:
    """Print which figures were written."""
    for file in files:
        results_console().print(f"drew {file}", soft_wrap=True)
