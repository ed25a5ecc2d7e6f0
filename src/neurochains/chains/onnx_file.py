"""Sub-networks as ONNX files, checked with onnxruntime."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from neurochains.chains.parity import compare_outputs
from neurochains.errors import ArtifactError, ModelError

__all__ = ["check_onnx_extra", "write_onnx"]

_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_NOISY = ("onnxscript", "onnx_ir", "torch.onnx")


def check_onnx_extra() -> None:
    """Check that what exports and runs ONNX files is installed.

    Raises:
        ModelError: a package is missing; names it and how to install it.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        wanted = ", ".join(missing)
        raise ModelError(f"To write ONNX files, {wanted} must be installed: pip install 'neurochains[onnx]'.")


def write_onnx(module: nn.Module, images: Tensor, wanted: Tensor, path: str | os.PathLike[str]) -> float:
    """Write a module as an ONNX file of any batch size; return its parity under onnxruntime.

    The file has one input ``images`` and one output ``logits``. It appears once it is whole and has passed the check.

    Args:
        module: on any device; it is exported on the CPU.
        images: ``(N, C, H, W)``, on which it is checked.
        wanted: ``(N, outputs)``, what it should give.
        path: the file; one that exists is replaced.

    Raises:
        ModelError: a package is missing, or an operation cannot be written as ONNX.
        ParityError: onnxruntime computes something else.
        ArtifactError: the file cannot be written.
    """
    check_onnx_extra()
    place = Path(path).absolute()
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _export(module, images, temporary)
        parity = compare_outputs(_run(temporary, images.cpu()), wanted.cpu(), what=f"{place.name} under onnxruntime")
        os.replace(temporary, place)
    except OSError as error:
        raise ArtifactError(f"{place} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return parity


class _Body(nn.Module):
    """A module one level down: what torch.export makes has a ``graph`` of its own at the top."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


def _export(module: nn.Module, images: Tensor, path: Path) -> None:
    example = torch.cat([images, images])[:2].cpu()  # a batch of one would fix the batch
    device = next((tensor.device for tensor in module.buffers()), torch.device("cpu"))
    try:
        with _silence():
            torch.onnx.export(
                _Body(module.cpu()),
                (example,),
                path,
                dynamo=True,
                external_data=False,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"The sub-network cannot be written as ONNX: {reason[0]}") from error
    finally:
        module.to(device)


def _run(path: Path, images: Tensor) -> Tensor:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [session.run(["logits"], {"images": batch.numpy()})[0] for batch in images.split(16)]
    return torch.from_numpy(np.concatenate([np.asarray(output) for output in outputs]))


@contextmanager
def _silence() -> Iterator[None]:
    """Keep the exporter's progress, hints and warnings from the console."""
    loggers = [logging.getLogger(name) for name in _NOISY]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.CRITICAL)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
