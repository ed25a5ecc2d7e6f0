"""Layers that compute only what is on: convolutions and linear layers on some filters and some input channels.

The weights of a convolution lie as rows of one kernel each, ``(O I, K K)``, so that those of the active filters on the
active channels are gathered in contiguous pieces: a tenth of what the convolution itself takes, where an index for each
axis takes as long as the convolution. A linear layer on one image reads the rows ``(I, O)`` of its inputs in
place, without a copy.

Shapes: B images, I input channels, O filters, K kernel side, H x W positions.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurochains.decoupling.controller import Controller

__all__ = ["ActiveConv", "ActiveLinear", "Maps", "Switch", "whole"]


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """A tensor of which only some channels are there; the others are zero.

    Attributes:
        value: ``(B, k, ...)``.
        on: ``(k,)`` ascending indices of the channels that are there; None if all are.
        width: how many there would be.
    """

    value: Tensor
    on: Tensor | None
    width: int

    @property
    def dense(self) -> Tensor:
        """All channels, zeros in the place of those that are not there."""
        if self.on is None:
            return self.value
        whole = self.value.new_zeros(len(self.value), self.width, *self.value.shape[2:])
        return whole.index_copy_(1, self.on, self.value)


def whole(value: Tensor) -> Maps:
    """Return a tensor all of whose channels are there."""
    return Maps(value, None, value.shape[1] if value.ndim > 1 else 0)


class Switch(nn.Module):
    """Decides which filters of a layer are on for each image; it knows only those that are not off for good.

    Attributes:
        live: ``(L,)`` indices of the filters that are not off for good; the answers are about these.
        always: ``(L,)`` bool: which of them are on for good.
        free: indices, among the live ones, of those that are decided on.
    """

    live: Tensor
    always: Tensor
    free: Tensor

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        live = (controller.settled >= 0).nonzero().flatten()
        self.register_buffer("live", live)
        self.register_buffer("always", controller.settled[live] > 0)
        self.register_buffer("free", (~self.always).nonzero().flatten())
        self.keep_one = controller.keep_one
        asked = torch.arange(len(controller.settled), device=live.device) if self.keep_one else live[self.free]
        self.controller = _narrowed(controller, asked)

    @property
    def is_constant(self) -> bool:
        """Whether no image has a say."""
        return not len(self.free)

    def forward(self, maps: Maps) -> Tensor:
        """Return ``(B, L)`` bool, or ``(1, L)`` where no image has a say."""
        if self.is_constant:
            return self.always[None]
        pooled = Maps(maps.value.mean((2, 3)), maps.on, maps.width).dense
        decided = self.controller.binary(self.controller.votes(pooled))
        if self.keep_one:
            decided = decided[:, self.live[self.free]]
        if len(self.free) == len(self.live):
            return decided
        on = self.always.expand(len(decided), -1).clone()
        on[:, self.free] = decided
        return on


def _narrowed(controller: Controller, filters: Tensor) -> Controller:
    """Return a copy of a controller that decides on some filters."""
    twin = copy.deepcopy(controller).eval().requires_grad_(False)
    twin.expand.weight.data, twin.expand.bias.data = twin.expand.weight[filters], twin.expand.bias[filters]
    twin.settled = twin.settled[filters]
    return twin


class ActiveConv(nn.Module):
    """A convolution, with what scales and shifts its channels folded in, on some filters and input channels."""

    rows: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, options: dict[str, Any], *, groups: int) -> None:
        super().__init__()
        self.filters, self.per_group, *kernel = weight.shape
        self.kernel = tuple(kernel)
        self.groups = groups
        self.options = options
        self.register_buffer("rows", weight.flatten(2).contiguous())
        self.register_buffer("bias", bias)

    def narrowed(self, filters: Tensor) -> ActiveConv:
        """Return the convolution with some of its filters only; a grouped one that is not depthwise keeps them all.

        Its filters are then counted anew.
        """
        if self.groups == 1 and len(filters) < self.filters:
            self.rows, self.bias, self.filters = self.rows[filters].clone(), self.bias[filters].clone(), len(filters)
        return self

    def forward(self, maps: Maps, on: Tensor | None) -> Tensor:
        """Return the maps of the filters `on` (ascending indices; None: all), ``(B, k, H, W)``."""
        if on is not None and not len(on):
            return self._nothing(maps)
        if self.groups > 1:
            return self._grouped(maps, on)
        weight = self._gathered(maps.on, on)
        bias = self.bias if on is None else self.bias.index_select(0, on)
        if maps.on is not None and not len(maps.on):  # every input channel is off: the bias is all there is
            return self._on_nothing(maps, bias)
        return F.conv2d(maps.value, weight, bias, **self.options)

    def _gathered(self, inputs: Tensor | None, on: Tensor | None) -> Tensor:
        if inputs is None:
            chosen = self.rows if on is None else self.rows.index_select(0, on)
        elif on is None:
            chosen = self.rows.index_select(1, inputs)
        else:
            pairs = on[:, None] * self.per_group + inputs
            chosen = F.embedding(pairs, self.rows.flatten(0, 1))
        return chosen.unflatten(2, self.kernel)

    def _grouped(self, maps: Maps, on: Tensor | None) -> Tensor:
        """Run a depthwise convolution on the channels of its active filters; another grouped one at full width."""
        weight, whole = self.rows.unflatten(2, self.kernel), maps.dense
        if self.groups != maps.width or on is None:
            full = F.conv2d(whole, weight, self.bias, groups=self.groups, **self.options)
            return full if on is None else full.index_select(1, on)
        sources = whole.index_select(1, on // (self.filters // self.groups))
        chosen = weight.index_select(0, on), self.bias.index_select(0, on)
        return F.conv2d(sources, *chosen, groups=len(on), **self.options)

    def _nothing(self, maps: Maps) -> Tensor:
        return self._on_nothing(maps, self.bias[:0])

    def _on_nothing(self, maps: Maps, bias: Tensor) -> Tensor:
        """Return the maps of filters that see only zeros."""
        probe = maps.value.new_zeros(len(maps.value), 1, *maps.value.shape[2:])
        sizes = F.conv2d(probe, probe.new_zeros(1, 1, *self.kernel), **self.options).shape[2:]
        return bias[:, None, None].repeat(len(probe), 1, *sizes)


class ActiveLinear(nn.Module):
    """A linear layer on some of its inputs."""

    columns: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("columns", weight.t().contiguous())
        self.register_buffer("bias", bias)

    def forward(self, maps: Maps) -> Tensor:
        """Return ``(B, O)``."""
        if maps.on is None:
            return F.linear(maps.value, self.columns.t(), self.bias)
        if len(maps.value) == 1 and maps.value.device.type == "cpu":
            return self._of_one(maps.value[0], maps.on)
        return F.linear(maps.value, self.columns.index_select(0, maps.on).t(), self.bias)

    def _of_one(self, values: Tensor, on: Tensor) -> Tensor:
        """Return ``(1, O)`` for the inputs of one image: a sum of rows that are read in place, none for zeros."""
        there = values.nonzero().flatten()
        if not len(there):
            return F.linear(values.new_zeros(1, len(self.columns)), self.columns.t(), self.bias)
        places, scales = on.index_select(0, there)[None], values.index_select(0, there)[None]
        total = F.embedding_bag(places, self.columns, per_sample_weights=scales, mode="sum")
        return total if self.bias is None else total + self.bias
