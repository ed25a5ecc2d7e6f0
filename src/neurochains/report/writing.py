"""One call from a chain to its report."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from neurochains.chains import Chain
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.report.collect import collect
from neurochains.report.files import place_of, save_figures, save_page
from neurochains.report.render import render

__all__ = ["write_report"]


def write_report(
    chain: Chain,
    out: str | os.PathLike[str],
    *,
    also: Sequence[str | os.PathLike[str]] | Task = (),
    figures: bool = True,
    visual_steps: int = 96,
    paths_per_class: int = 3,
    max_samples: int = 60,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Write a chain's report, one HTML file that opens anywhere without a network, and return its path.

    A page that is there already is replaced, at once and only when the new one is complete. The same chain gives the
    same page.

    Args:
        chain: what `extract` or `load_chain` gave.
        out: a ``.html`` file, or a folder that gets ``report.html``.
        also: further images, as files or as a task, that the chain was not extracted on: a misclassified one, for
            instance. The report shows where their maps part from those of their class.
        figures: write each figure as SVG and PNG too, into ``<report>_figures`` beside the page.
        visual_steps: of gradient ascent for the picture of a filter; large networks get fewer, and 0 leaves them out.
        paths_per_class: most chains to show of each class.
        max_samples: most images to show and to search for the places that a filter answers to.
        progress: called with the stage that the report is at, in words.

    Raises:
        SettingsError: an option has a value it cannot have; or it is not known how to prepare `also`.
        ImageError: a file of `also` cannot be read.
        ArtifactError: the report cannot be written.
    """
    if visual_steps < 0 or paths_per_class < 1 or max_samples < 1:
        raise SettingsError(
            "Wanted visual_steps of 0 or more, paths_per_class and max_samples of 1 or more, "
            f"but got {visual_steps}, {paths_per_class} and {max_samples}."
        )
    told = progress or (lambda _: None)
    file = place_of(out)
    report = collect(
        chain,
        also=also,
        visual_steps=visual_steps,
        paths_per_class=paths_per_class,
        max_samples=max_samples,
        progress=told,
    )
    told("report: writing the page")
    page = render(report)
    if figures:
        told("report: writing the figures")
        save_figures(report, file)
    return save_page(page, file)
