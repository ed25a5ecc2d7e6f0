"""Dynamic inference: a run that computes only the filters that are on for each image.

1. Each controlled convolution is joined with the batch norm behind it. Filters settled off are cut out; those settled
   on have no gate; a layer that is wholly settled has no controller.
2. The graph is run node by node on tensors that hold only the channels which are on.
3. Maps lie channels last, in which convolutions on few channels are fastest.
4. Where the codes of a layer differ among the images of a batch, the batch is parted, and images with equal codes go on
   together.

What comes out is what the controlled network computes in eval mode, but for rounding; an image whose vote on a filter
is 0 to within rounding may get another code. Shapes: B images, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from neurochains.decoupling.active import whole
from neurochains.decoupling.program import Step, ends, rows_of, write_program
from neurochains.errors import DataError

if TYPE_CHECKING:
    from neurochains.decoupling.decoupled import Decoupled

__all__ = ["DynamicNetwork"]


@dataclass(slots=True, eq=False)
class _Group:
    """Images that have had the same codes so far: their rows, their values, and the next step."""

    images: Tensor
    values: dict[fx.Node, Any]
    step: int


class DynamicNetwork(nn.Module):
    """A decoupled network for inference: ``(B, 3, H, W) -> (B, outputs)``; it holds copies of the weights.

    It runs where the decoupled network is when it is made.
    """

    def __init__(self, decoupled: Decoupled) -> None:
        super().__init__()
        self._shape = decoupled.network.input_shape
        self._device = decoupled.device
        self._parts = nn.ModuleList()
        self._input, self._output = ends(decoupled.body.graph)
        self._steps: tuple[Step, ...] = write_program(decoupled, self._parts)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``, without gradients.

        Raises:
            DataError: the images have not the shape that the network was traced with.
        """
        if tuple(images.shape[1:]) != self._shape or not len(images):
            wanted = ", ".join(map(str, self._shape))
            raise DataError(
                f"The network was traced for inputs (B, {wanted}), B at least 1; got {tuple(images.shape)}."
            )
        with torch.inference_mode():
            layout = torch.channels_last if images.ndim == 4 else torch.preserve_format
            given = images.to(self._device, memory_format=layout)
            return self._answers(given).clone()

    def _answers(self, images: Tensor) -> Tensor:
        start = _Group(torch.arange(len(images), device=images.device), {self._input: whole(images)}, 0)
        waiting, found = [start], []
        while waiting:
            group = waiting.pop()
            parted = self._advance(group)
            waiting.extend(parted)
            if not parted:
                found.append((group.images, group.values[self._output].dense))
        if len(found) == 1:
            return found[0][1]
        order = torch.cat([rows for rows, _ in found]).argsort()
        return torch.cat([values for _, values in found]).index_select(0, order)

    def _advance(self, group: _Group) -> list[_Group]:
        """Run a group to the end, or to where its images part; return the groups that they part into."""
        for place in range(group.step, len(self._steps)):
            step = self._steps[place]
            if step.switch is None:
                group.values[step.result] = step.run(group.values)
            else:
                codes = step.switch(group.values[step.reads[0]])
                if len(codes) > 1:
                    parted = _parted(group, codes, place)
                    if len(parted) > 1:
                        return parted
                group.values[step.result] = step.run(group.values, codes[0].nonzero().flatten())
            for node in step.done:
                del group.values[node]
        return []


def _parted(group: _Group, codes: Tensor, step: int) -> list[_Group]:
    """Return the images of a group with equal codes together; one group if all are equal."""
    kinds, member = codes.unique(dim=0, return_inverse=True)
    if len(kinds) == 1:
        return [group]
    parts = []
    for kind in range(len(kinds)):
        rows = (member == kind).nonzero().flatten()
        values = {node: rows_of(node, value, rows) for node, value in group.values.items()}
        parts.append(_Group(group.images[rows], values, step))
    return parts
