"""`neurochains report`: a saved chain as one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurochains.cli.console import tell, working
from neurochains.cli.models import load_run
from neurochains.cli.options import Also, Force, Quiet, Run, RunModel, TrustPickle, Weights
from neurochains.cli.places import check_file

__all__ = ["report"]


def report(
    run: Run,
    also: Also = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="The HTML file, or a folder for it.", show_default="RUN/report.html"
        ),
    ] = None,
    paths: Annotated[int, typer.Option(metavar="K", min=1, help="Chains shown of each class.")] = 3,
    figures: Annotated[
        bool, typer.Option("--figures/--no-figures", help="Write each figure as a file of its own too.")
    ] = True,
    model: RunModel = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write the report of a run: one HTML file that opens anywhere."""
    from neurochains.report import write_report
    from neurochains.report.files import place_of

    file = place_of(run / "report.html" if out is None else out)
    check_file(file, force=force or out is None)
    with working(f"{file} is as it was." if file.exists() else f"nothing was written to {file}."):
        chain = load_run(run, model=model, weights=weights, trust_pickle=trust_pickle)
        progress = None if quiet else tell
        write_report(chain, file, also=also or (), figures=figures, paths_per_class=paths, progress=progress)
    if not quiet:
        typer.echo(f"The report is in {file} ({file.stat().st_size / 1e6:.1f} MB)")
