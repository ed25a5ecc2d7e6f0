"""Parity: whether a rewritten sub-network computes what its scores say, on the images of its task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from neurochains.errors import ParityError
from neurochains.network.parity import measure_parity

__all__ = ["PARITY", "compare_outputs", "full_precision", "in_batches"]

PARITY = 1e-4  # of the range of the logits
_BATCH = 32


def in_batches(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the outputs for all images, on the CPU, computed some at a time without gradients."""
    with torch.no_grad(), full_precision():
        return torch.cat([run(batch).float().cpu() for batch in images.split(_BATCH)])


def compare_outputs(outputs: Tensor, wanted: Tensor, *, what: str, tolerance: float = PARITY) -> float:
    """Return the largest difference of two sets of logits, relative to the range of the wanted ones.

    Raises:
        ParityError: it is above the tolerance, or not a number.
    """
    parity = measure_parity(wanted, outputs).relative
    if not parity <= tolerance:
        raise ParityError(
            f"{what} differs from the scored network by {parity:.1e} of the range of the logits; at most "
            f"{tolerance:.0e} was wanted. Please report the model: one of its operations is rewritten wrongly."
        )
    return parity


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute without the shortened float32 (TF32) of CUDA devices; what was set before is set again."""
    matmul, convolutions = torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv", None)
    if convolutions is not None:  # torch >= 2.9; the older names clash with these
        switches = [(convolutions, "fp32_precision", "ieee"), (matmul, "fp32_precision", "ieee")]
    else:
        switches = [(torch.backends.cudnn, "allow_tf32", False), (matmul, "allow_tf32", False)]
    before = [getattr(owner, name) for owner, name, _ in switches]
    try:
        for owner, name, value in switches:
            setattr(owner, name, value)
        yield
    finally:
        for (owner, name, _), value in zip(switches, before, strict=True):
            setattr(owner, name, value)
