"""What compaction knows of one tensor: which channels are there, and the constant value of those that are not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx

__all__ = ["Flow"]


@dataclass(frozen=True, slots=True)
class Flow:
    """A tensor of the compact graph.

    `node` holds the channels `alive` (indices into the full width, ascending or not) along `axis`; None when no
    channel is alive. `constant` is ``(width,)``: the value that an absent channel has at every position. `shape` is
    the full shape with batch 1. A tensor without a channel axis, or of full width, has `axis` None.
    """

    node: fx.Node | None
    shape: tuple[int, ...]
    axis: int | None = None
    alive: Tensor | None = None
    constant: Tensor | None = None

    @property
    def dense(self) -> bool:
        """Whether every channel is there, in order."""
        return self.axis is None

    @property
    def width(self) -> int:
        """The full number of channels."""
        assert self.axis is not None
        return self.shape[self.axis]

    def with_channels(self, axis: int) -> Flow:
        """Return a dense tensor with its channels spelt out: all alive along `axis`."""
        if not self.dense:
            return self
        width = self.shape[axis]
        return replace(self, axis=axis, alive=torch.arange(width), constant=torch.zeros(width))

    def simplified(self) -> Flow:
        """Return the flow as dense when all its channels are alive and in order."""
        if self.dense or self.alive is None or len(self.alive) != self.width:
            return self
        if not torch.equal(self.alive, torch.arange(self.width)):
            return self
        return Flow(self.node, self.shape)

    @property
    def dead(self) -> Tensor:
        """A mask ``(width,)`` of the absent channels."""
        mask = torch.ones(self.width, dtype=torch.bool)
        assert self.alive is not None
        mask[self.alive] = False
        return mask

    @property
    def live_constants(self) -> Tensor:
        """The absent channels whose value is not zero."""
        assert self.constant is not None
        return (self.dead & (self.constant != 0)).nonzero().flatten()
