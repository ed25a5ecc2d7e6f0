"""The slow, literal versions of what circuits compute: one map for each kernel."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.nodes import argument


def names_to(network: Network, end=None) -> list[str]:
    """The layers that a node of the graph is computed from; all of them by default."""
    if end is None:
        return [layer.name for layer in network.layers]
    found, queue = {end}, [end]
    while queue:
        fresh = [node for node in queue.pop().all_input_nodes if node not in found]
        found.update(fresh)
        queue.extend(fresh)
    return [layer.name for layer in network.layers if layer.producer in found]


def kernel_maps(layer: Layer, weight: Tensor, inputs: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """(o, i, the map of the kernel from channel i of its group to filter o): a convolution of one channel."""
    node, ones = layer.producer, [1] * (weight.ndim - 2)
    for o in range(layer.units):
        for i in range(weight.shape[1]):
            if layer.kind == "linear":
                yield o, i, inputs[..., i] * weight[o, i]
                continue
            channel = o // (layer.units // layer.groups) * weight.shape[1] + i
            settings = (argument(node, 3, ones), argument(node, 4, [0] * len(ones)), argument(node, 5, ones))
            one = node.target(inputs[:, channel : channel + 1], weight[o : o + 1, i : i + 1], None, *settings)
            yield o, i, one[:, 0]


def kernel_means(layer: Layer, weight: Tensor, inputs: Tensor, slope: Tensor, *, signed: bool = False) -> Tensor:
    """Mean over images and positions of ``|a_oi g_o|``, or without the absolute value, ``(O, I)``."""
    means = torch.zeros(weight.shape[:2], dtype=weight.dtype)
    for o, i, values in kernel_maps(layer, weight, inputs):
        products = values * slope.select(layer.axis, o)
        means[o, i] = (products if signed else products.abs()).mean()
    return means
