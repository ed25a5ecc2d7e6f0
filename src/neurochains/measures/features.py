"""What images look like to a network: in front of its last layer, and by which units of its first layer fire.

Shapes: N images, F features.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from neurochains.chains.parity import full_precision
from neurochains.edit import tap
from neurochains.errors import LayerError
from neurochains.network import Layer, Network

__all__ = ["nearest", "penultimate", "relu_pattern"]

_BATCH = 32


class _Reader(fx.Interpreter):
    """Runs a graph as far as one node and keeps its value."""

    def __init__(self, module: fx.GraphModule, wanted: fx.Node) -> None:
        super().__init__(module)
        self.wanted = wanted
        self.value: Tensor | None = None

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        result = super().run_node(n)
        if n is self.wanted:
            self.value = result
        return result


def penultimate(network: Network, images: Tensor) -> Tensor:
    """Return what the last layer reads, ``(N, F)`` on the CPU: averaged over positions where it has any.

    Raises:
        LayerError: the network has no layer that makes its outputs.
    """
    heads = [layer for layer in network.layers if layer.role == "head"]
    if not heads:
        raise LayerError("The network has no last layer that makes its outputs, so no space in front of it.")
    source = heads[-1].producer.all_input_nodes[0]
    found = []
    with torch.no_grad(), full_precision():
        for batch in network.check(images).split(_BATCH):
            reader = _Reader(network.module, source)
            reader.run(batch)
            assert reader.value is not None
            value = reader.value if reader.value.ndim < 3 else reader.value.flatten(2).mean(2)
            found.append(value.flatten(1).float().cpu())
    return torch.cat(found)


def relu_pattern(network: Network, images: Tensor, *, layer: str | None = None) -> Tensor:
    """Return which units of a layer fire at which positions: booleans ``(N, F)``; of the first layer by default."""
    chosen: Layer = network.scored()[0] if layer is None else network.layer(layer)
    tapped = tap(network, [chosen.name])
    with torch.no_grad():
        parts = [tapped(batch)[1][chosen.name].flatten(1) > 0 for batch in network.check(images).split(_BATCH)]
    return torch.cat(parts).cpu()


def nearest(queries: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances and indices ``(Q, M)`` of all of `among` for each query, nearest first.

    Queries are ``(Q, F)``, `among` is ``(M, F)``. Booleans are compared by Hamming's distance, the number of differing
    bits, others by the Euclidean one.
    """
    if queries.dtype == torch.bool:
        distances = (queries[:, None] != among[None]).sum(2).double()
    else:
        distances = torch.cdist(queries.double(), among.double())
    values, order = distances.sort(dim=1, stable=True)
    return values, order
