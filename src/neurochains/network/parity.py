"""Parity: how far what a rewritten network computes is from what it was rewritten from."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from neurochains.errors import DataError, ParityError

__all__ = ["Parity", "measure_parity"]


@dataclass(frozen=True, slots=True)
class Parity:
    """The largest difference of two sets of logits, and the range of the original ones (their largest minus smallest).

    Where all logits are one number, the range is its size.
    """

    difference: float
    range: float

    @property
    def relative(self) -> float:
        """The difference as a share of the range; 0 when there is none, infinite when only the range is 0."""
        if self.difference == 0:
            return 0.0
        return self.difference / self.range if self.range else math.inf

    def check(self, limit: float = 1e-4) -> Parity:
        """Return this parity.

        Raises:
            ParityError: the relative difference is above the limit, or not a number.
        """
        if not self.relative <= limit:
            raise ParityError(
                f"The rewritten network differs from the original by {self.difference:.3g}, {self.relative:.2g} of the "
                f"logit range {self.range:.3g}; at most {limit:g} was allowed. Please report the model: this is a bug."
            )
        return self


def measure_parity(original: Tensor, rewritten: Tensor) -> Parity:
    """Return how far two sets of logits ``(B, outputs)`` are apart.

    Raises:
        DataError: they have different shapes.
    """
    if original.shape != rewritten.shape:
        raise DataError(f"Logits {tuple(original.shape)} cannot be compared with {tuple(rewritten.shape)}.")
    original, rewritten = original.detach().double(), rewritten.detach().double()
    spread = float(original.max() - original.min()) or float(original.abs().max())
    return Parity(float((original - rewritten).abs().max()), spread)
