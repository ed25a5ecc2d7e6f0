"""Parity: whether a rewritten sub-network computes what its scores say, on the images of its task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

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
    """Compute without the shortened float32 (TF32) of CUDA devices; what was set before is set again.

    The switches are the process's own: of several threads inside, the first sets them and the last one sets them back.
    """
    _SHARED.enter()
    try:
        yield
    finally:
        _SHARED.leave()


class _Shared:
    """The switches of the process, and how many are inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[tuple[Any, str, Any]] = []

    def enter(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                switches = _switches()
                self._before = [(owner, name, getattr(owner, name)) for owner, name, _ in switches]
                _set(switches)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                _set(self._before)


def _switches() -> list[tuple[Any, str, Any]]:
    """Return what is to be changed, as owner, name and value.

    The older names, since torch.export reads these, perhaps in another thread, and fails where newer are set; where
    the user has set the newer, the older cannot be read.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    try:
        return [(owner, "allow_tf32", False) for owner in (cudnn, matmul) if owner.allow_tf32]
    except RuntimeError:
        return [(owner, "fp32_precision", "ieee") for owner in (cudnn.conv, cudnn.rnn, matmul)]


def _set(switches: list[tuple[Any, str, Any]]) -> None:
    for owner, name, value in switches:
        setattr(owner, name, value)


_SHARED = _Shared()
