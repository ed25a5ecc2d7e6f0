"""The kernels of one layer as edges: which channels a source feeds, and what each kernel contributes.

Shapes: B images, O out- and I in-channels (I per group), C chosen input channels, T targets, S sources: kept units.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.nodes import argument

__all__ = ["channel_owners", "kernel_products"]


def channel_owners(network: Network, source: str, units: Tensor | None, layer: Layer) -> tuple[Tensor, Tensor]:
    """Return the input channels of a layer that kept units of a source reach, and which units: ``(C,)``, ``(C, S)``.

    Channels that layers without scores have mixed count as reached by all of them.

    Args:
        network: the traced network.
        source: dotted name of a layer, or ``"input"``.
        units: the kept units of the source; None for all input channels.
        layer: the layer that reads them.
    """
    chosen = list(range(network.input_shape[0])) if units is None else units.tolist()
    columns = {unit: column for column, unit in enumerate(chosen)}
    sources = network.sources(layer.name)
    found = [[columns[f.index] for f in filters if f.layer == source and f.index in columns] for filters in sources]
    if not any(f.layer == source for filters in sources for f in filters):
        found = [list(range(len(chosen)))] * len(sources)
    channels = [channel for channel, owners in enumerate(found) if owners]
    owners_CS = torch.zeros(len(channels), len(chosen))
    for row, channel in enumerate(channels):
        owners_CS[row, found[channel]] = 1.0
    return torch.tensor(channels, dtype=torch.int64, device=network.device), owners_CS.to(network.device)


def kernel_products(
    layer: Layer, weight: Tensor, part: Tensor, gradient: Tensor, rows: Tensor, channels: Tensor
) -> Tensor:
    """Return ``<w, dt/dw>`` of the kernels from some input channels to some units, ``(T, C)``, summed over the images.

    Args:
        layer: the layer.
        weight: its weight ``(O, I, ...)``.
        part: its input, or the part of it that comes from one source.
        gradient: of the target ``t`` at its output.
        rows: ``(T,)``, the units.
        channels: ``(C,)``, the input channels, over all groups.
    """
    if layer.kind == "linear":
        products_TC = gradient[..., rows].flatten(0, -2).T @ part[..., channels].flatten(0, -2)
        return products_TC * weight[rows][:, channels]
    if layer.kind == "depthwise":
        return _depthwise(layer, weight, part, gradient, rows, channels)
    block_TC = weight.new_zeros(len(rows), len(channels))
    wide, deep = layer.units // layer.groups, weight.shape[1]
    for group in torch.unique(rows // wide).tolist():
        own = (rows // wide == group).nonzero().flatten()
        read = (channels // deep == group).nonzero().flatten()
        if len(read):
            chosen = weight[rows[own]][:, channels[read] - group * deep]
            block_TC[own[:, None], read] = _products(layer, chosen, part[:, channels[read]], gradient[:, rows[own]])
    return block_TC


def _depthwise(layer: Layer, weight: Tensor, part: Tensor, gradient: Tensor, rows: Tensor, channels: Tensor) -> Tensor:
    block_TC = weight.new_zeros(len(rows), len(channels))
    own, read = (rows[:, None] == channels).nonzero(as_tuple=True)
    if len(own):
        both = rows[own]
        products = _products(layer, weight[both], part[:, both], gradient[:, both], groups=len(both))
        block_TC[own, read] = products.flatten()
    return block_TC


def _products(layer: Layer, weight: Tensor, part: Tensor, gradient: Tensor, *, groups: int = 1) -> Tensor:
    """Return the product of each kernel with its gradient, ``(O, I)``: by a convolution of the same kind."""
    node, ones = layer.producer, [1] * (weight.ndim - 2)
    padding = argument(node, 4, [0] * len(ones))
    settings = (argument(node, 3, ones), padding, argument(node, 5, ones), groups)
    with torch.enable_grad():
        weight = weight.detach().requires_grad_()
        output = node.target(part, weight, None, *settings)  # type: ignore[operator]
        (slope,) = torch.autograd.grad(output, weight, gradient)
    return (weight.detach() * slope).flatten(2).sum(2)
