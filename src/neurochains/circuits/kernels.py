"""Sums over the maps of single kernels, none of which is kept.

The kernel (i -> o) of a layer reads input channel i and gives the map ``a_oi``, before the maps of all i and the bias
are added. With a weighting ``g`` of the layer's positions (a gradient, or ones):

- `signed_sums`: ``sum a_oi g_o``, by linearity ``<w_oi, d/dw_oi sum_o z_o g_o>``: one weight gradient for all.
- `absolute_sums`: ``sum |a_oi g_o|``, which has no such short cut:

  1. Rows o without any gradient are left out. Positions are taken a tile at a time, such that the maps of all o from
     one channel fit into the cache; positions of a tile without any gradient are left out.
  2. What the kernels see in the tile is laid out once: patches ``(I, K, T)``.
  3. For one channel (or more, where they are small): ``a = w_i @ patches_i``, then ``|a| |g|``, summed, in place.

  Kernels of one weight need no maps: ``|w_oi| sum |x_i| |g_o|`` is one matrix product. Where each filter reads one
  channel, its kernel's map is the layer's.

Shapes: B images; G groups, each with O out- and I in-channels; K elements of a kernel, P positions, T of a tile.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn import grad

from neurochains.network import Layer
from neurochains.network.nodes import argument, as_list
from neurochains.network.operations import CONVOLUTIONS

__all__ = ["absolute_sums", "signed_sums", "weight_gradient"]

_MAPS = {"cpu": 2**18}
"""How many values of kernels' maps are computed at a time: what the cache of a core holds; elsewhere `_MANY`."""
_MANY = 2**24
_PATCHES = 2**22
"""How many values of patches are laid out at a time."""


def signed_sums(layer: Layer, weight: Tensor, inputs: Tensor, slope: Tensor) -> Tensor:
    """Return ``sum a_oi g_o`` over images and positions, ``(units, I)``; arguments as in `absolute_sums`."""
    products = weight.detach() * weight_gradient(layer, weight, inputs, slope)
    return products.reshape(*weight.shape[:2], -1).sum(-1)


def weight_gradient(layer: Layer, weight: Tensor, inputs: Tensor, slope: Tensor) -> Tensor:
    """Return the gradient ``(units, I, ...)`` at a layer's weight, given the one at its output."""
    inputs = inputs.detach()
    if not _convolves(layer):
        return slope.flatten(0, -2).T @ inputs.flatten(0, -2)
    rows = _live(slope) if layer.groups == 1 else slice(None)
    dims = len(layer.kernel)
    stride, dilation = (_each(argument(layer.producer, place, 1), dims) for place in (3, 5))
    pairs = _padding(layer, dilation)
    if pairs[::2] != pairs[1::2]:
        inputs, pairs = F.pad(inputs, pairs), [0] * len(pairs)
    size = (len(weight[rows]), *weight.shape[1:])
    slopes_of: Any = (grad.conv1d_weight, grad.conv2d_weight, grad.conv3d_weight)[dims - 1]
    gradient = torch.zeros_like(weight)
    if size[0]:
        gradient[rows] = slopes_of(inputs, size, slope[:, rows], stride, pairs[::2][::-1], dilation, layer.groups)
    return gradient


def absolute_sums(layer: Layer, weight: Tensor, inputs: Tensor, slope: Tensor) -> Tensor:
    """Return ``sum |a_oi g_o|`` over images and positions, ``(units, I)``.

    Args:
        layer: a convolution of any kind, or linear.
        weight: its weight ``(units, I, ...)``, I per group.
        inputs: what it reads, ``(B, C, ...)``, or ``(..., C)`` for a linear layer.
        slope: ``g``, of the shape of its output.
    """
    weight, inputs, slope = weight.detach(), inputs.detach(), slope.detach()
    if not _convolves(layer):
        return weight.abs() * (slope.flatten(0, -2).abs().T @ inputs.flatten(0, -2).abs())
    if weight.shape[1] == 1:
        return (_convolve(layer, inputs, weight) * slope).abs().transpose(0, 1).flatten(1).sum(1, keepdim=True)
    rows = _live(slope) if layer.groups == 1 else slice(None)
    sums = torch.zeros(weight.shape[:2], dtype=torch.float64, device=weight.device)
    weight_GIOK = weight[rows].flatten(2).unflatten(0, (layer.groups, -1)).transpose(1, 2).contiguous()
    if weight_GIOK.numel():
        sums[rows] = _tiled_sums(layer, weight_GIOK, inputs, slope[:, rows]).transpose(1, 2).flatten(0, 1)
    return sums


def _tiled_sums(layer: Layer, weight_GIOK: Tensor, inputs: Tensor, slope: Tensor) -> Tensor:
    """Return the sums ``(G, I, O)``, tile by tile."""
    sums_GIO = torch.zeros(weight_GIOK.shape[:3], dtype=torch.float64, device=weight_GIOK.device)
    windows = _windows(layer, inputs)
    for images, rows in _tiles(weight_GIOK, slope):
        slope_GOT = slope[images, :, rows].transpose(0, 1).flatten(1).abs().unflatten(0, (layer.groups, -1))
        live = (slope_GOT != 0).any(1).any(0)
        if not bool(live.any()):
            continue
        patches_GIKT = _patches(windows[images, :, rows], layer)
        if int(live.sum()) < 0.75 * len(live):
            patches_GIKT, slope_GOT = patches_GIKT[..., live], slope_GOT[..., live]
        _add_tile(sums_GIO, weight_GIOK, patches_GIKT, slope_GOT)
    return sums_GIO


def _add_tile(sums_GIO: Tensor, weight_GIOK: Tensor, patches_GIKT: Tensor, slope_GOT: Tensor) -> None:
    if weight_GIOK.shape[-1] == 1:
        products_GIO = patches_GIKT[:, :, 0].abs() @ slope_GOT.transpose(1, 2)
        sums_GIO += weight_GIOK[..., 0].abs() * products_GIO
        return
    groups, channels = weight_GIOK.shape[:2]
    most = _MAPS.get(slope_GOT.device.type, _MANY)
    at_once = max(1, most // slope_GOT[0].numel())
    for group in _slices(groups, max(1, at_once // channels)):
        slope_GO1T = slope_GOT[group, None]
        for channel in _slices(channels, at_once):
            maps_GIOT = weight_GIOK[group, channel] @ patches_GIKT[group, channel]
            sums_GIO[group, channel] += maps_GIOT.abs_().mul_(slope_GO1T).sum(-1)


def _tiles(weight_GIOK: Tensor, slope: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield tiles: some images, and for these some rows of the output, all rows where an image is small enough."""
    groups, channels, outputs, elements = weight_GIOK.shape
    images, rows, row = len(slope), slope.shape[2], math.prod(slope.shape[3:])
    most = _MAPS.get(slope.device.type, _MANY)
    positions = max(1, min(most // outputs, _PATCHES * most // _MAPS["cpu"] // (groups * channels * elements)))
    for some_images in _slices(images, max(1, positions // (rows * row))):
        for some_rows in _slices(rows, max(1, positions // row)):
            yield some_images, some_rows


def _slices(count: int, at_once: int) -> Iterator[slice]:
    return (slice(start, min(start + at_once, count)) for start in range(0, count, at_once))


def _windows(layer: Layer, inputs: Tensor) -> Tensor:
    """Return a view of what the kernels see at each position: ``(B, C, *positions, *kernel)``."""
    dims = len(layer.kernel)
    stride, dilation = (_each(argument(layer.producer, place, 1), dims) for place in (3, 5))
    windows = F.pad(inputs, _padding(layer, dilation))
    for axis, (size, step, gap) in enumerate(zip(layer.kernel, stride, dilation), 2):
        windows = windows.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
    return windows


def _patches(windows: Tensor, layer: Layer) -> Tensor:
    """Return patches ``(G, I, K, T)`` of a part of the windows."""
    dims = len(layer.kernel)
    order = [1, *range(2 + dims, 2 + 2 * dims), 0, *range(2, 2 + dims)]
    patches = windows.permute(order)
    return patches.reshape(layer.groups, -1, math.prod(layer.kernel), math.prod(patches.shape[1 + dims :]))


def _padding(layer: Layer, dilation: list[int]) -> list[int]:
    """Return the padding as `torch.nn.functional.pad` takes it: the last axis first."""
    given = argument(layer.producer, 4, 0)
    if given == "same":
        whole = [gap * (size - 1) for size, gap in zip(layer.kernel, dilation)]
        pairs = [(amount // 2, amount - amount // 2) for amount in whole]
    else:
        pairs = [(amount, amount) for amount in _each(0 if given == "valid" else given, len(dilation))]
    return [amount for pair in reversed(pairs) for amount in pair]


def _each(value: object, dims: int) -> list[int]:
    values = as_list(value)
    return values if len(values) == dims else values * dims


def _live(slope: Tensor) -> Tensor:
    """Return the indices of the units with any gradient."""
    return (slope != 0).transpose(0, 1).flatten(1).any(1).nonzero().flatten()


def _convolves(layer: Layer) -> bool:
    return layer.producer.target in CONVOLUTIONS


def _convolve(layer: Layer, inputs: Tensor, weight: Tensor) -> Tensor:
    """Return a convolution of the layer's kind without its bias."""
    node, ones = layer.producer, [1] * len(layer.kernel)
    settings = (argument(node, 3, ones), argument(node, 4, [0] * len(ones)), argument(node, 5, ones))
    return node.target(inputs, weight, None, *settings, layer.groups)  # type: ignore[operator]
