"""What compaction knows of one tensor: which channels are there, and the constant value of those that are not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx

from neurochains.network.nodes import shape_at

__all__ = ["Flow", "Held"]

_DENSE = -1


def _nothing() -> Tensor:
    return torch.zeros(0, dtype=torch.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Flow:
    """A tensor of the compact graph; dense where every channel is there, in order.

    Attributes:
        node: holds the channels `alive` along `axis`; None when no channel is alive.
        value: the original graph's record of the tensor, whose sizes may depend on the batch.
        axis: where the channels are; -1 when the tensor is dense.
        alive: ``(kept,)``, indices into the full width.
        constant: ``(width,)``, on the CPU: the value that a channel which is not alive has at every position.
    """

    node: fx.Node | None
    value: Tensor
    axis: int = _DENSE
    alive: Tensor = field(default_factory=_nothing)
    constant: Tensor = field(default_factory=_nothing)

    @property
    def shape(self) -> tuple[int, ...]:
        """The full shape with batch 1."""
        return shape_at(self.value)

    @property
    def dense(self) -> bool:
        """Whether every channel is there, in order."""
        return self.axis == _DENSE

    @property
    def width(self) -> int:
        """The full number of channels."""
        return len(self.constant)

    def runs_along(self, axis: int) -> bool:
        """Return whether the channels are on an axis, or can be read off there because all are present."""
        return self.axis in (_DENSE, axis)

    def with_channels(self, axis: int) -> Flow:
        """Return a dense tensor with its channels spelt out: all alive along `axis`."""
        if not self.dense:
            return self
        width = self.shape[axis]
        return replace(self, axis=axis, alive=torch.arange(width), constant=torch.zeros(width, dtype=self.value.dtype))

    def simplified(self) -> Flow:
        """Return the flow as dense when all its channels are alive and in order."""
        if self.dense or len(self.alive) != self.width or not torch.equal(self.alive, torch.arange(self.width)):
            return self
        return Flow(self.node, self.value)

    @property
    def dead(self) -> Tensor:
        """A mask ``(width,)`` of the absent channels."""
        mask = torch.ones(self.width, dtype=torch.bool)
        mask[self.alive] = False
        return mask

    @property
    def live_constants(self) -> Tensor:
        """The absent channels whose value is not zero."""
        return (self.dead & (self.constant != 0)).nonzero().flatten()


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A tensor whose channel axis is split for now, and that is not written yet.

    Attributes:
        anchor: the flow it comes from.
        places: for a batch of 2, which element of the anchor each element is.
        nodes: the operations held back, in order.
    """

    anchor: Flow
    places: Tensor
    nodes: tuple[fx.Node, ...]
