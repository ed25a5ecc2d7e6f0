"""`neurochains onnx`: a saved sub-network as an ONNX file, checked against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurochains.cli.console import working, write_json
from neurochains.cli.models import load_run
from neurochains.cli.options import AsJson, Force, Run, RunModel, TrustPickle, Weights
from neurochains.cli.places import check_file

__all__ = ["onnx"]


def onnx(
    run: Run,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, such as small.onnx.")],
    model: RunModel = None,
    weights: Weights = None,
    trust_pickle: TrustPickle = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the compact sub-network of a run as an ONNX file."""
    check_file(file, force=force)
    with working(f"nothing was written to {file}."):
        chain = load_run(run, model=model, weights=weights, trust_pickle=trust_pickle)
        parity = chain.to_onnx(file)
    if as_json:
        write_json({"file": str(file), "bytes": file.stat().st_size, "parity": parity})
    else:
        size = file.stat().st_size / 1e6
        typer.echo(f"{file}: {size:.1f} MB; under onnxruntime its outputs differ by {parity:.1e} of the logit range.")
