"""What the path of an image costs: multiply-accumulates of the filters and input channels that are on, image by image.

A convolution that computes the share ``a_out`` of its filters on the share ``a_in`` of its input channels costs
``a_in a_out`` of its full cost. The mean over images is that of the products. Controlling modules are counted.

Shapes: N images, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from neurochains.decoupling.zeros import follow_zeros
from neurochains.network.nodes import argument, node_shape
from neurochains.network.operations import CONVOLUTIONS

if TYPE_CHECKING:
    from neurochains.decoupling.controller import Controller
    from neurochains.decoupling.decoupled import Decoupled

aten = torch.ops.aten

__all__ = ["PathCosts", "path_costs"]


@dataclass(frozen=True, slots=True, eq=False)
class PathCosts:
    """What images cost in multiply-accumulates.

    Attributes:
        macs: ``(N,)``, of each image on its path, with the controllers.
        controllers: of all controlling modules on one image.
        original: of one image in the network without controllers.
    """

    macs: Tensor
    controllers: int
    original: int

    @property
    def mean(self) -> float:
        """The mean over images."""
        return float(self.macs.double().mean())

    @property
    def saved(self) -> float:
        """The mean share of the original's multiply-accumulates that is not spent; negative where more is."""
        return 1 - self.mean / self.original

    def to_json(self) -> dict[str, Any]:
        """Return the mean, the share that is saved, the controllers' part and the original's cost."""
        return {"macs": self.mean, "saved": self.saved, "controllers": self.controllers, "original": self.original}


def path_costs(decoupled: Decoupled, codes: Mapping[str, Tensor]) -> PathCosts:
    """Return what images with the given codes ``(N, C)`` cost; see `Decoupled.codes`."""
    graph = decoupled.body.graph
    images = len(next(iter(codes.values())))
    alive = follow_zeros(graph, codes)
    computed = {producer_of(node): codes[node.meta["layer"]] for node in graph.nodes if "layer" in node.meta}
    original = decoupled.network.costs().macs
    total = torch.full((images,), float(original), dtype=torch.float64)
    for node in graph.nodes:
        if _has_weights(node):
            total -= _full_cost(node) * (1 - _share(node, alive[node.args[0]], computed.get(node)))
    controllers = sum(map(_controller_cost, decoupled.controllers.values()))
    return PathCosts(total.round().long() + controllers, controllers, original)


def producer_of(gated: fx.Node) -> fx.Node:
    """Return the convolution whose maps are multiplied by a code at a node."""
    node = gated.args[0]
    while isinstance(node, fx.Node) and node.target not in CONVOLUTIONS:
        node = node.args[0]
    assert isinstance(node, fx.Node)
    return node


def _has_weights(node: fx.Node) -> bool:
    """Return whether a node is a layer with weights of its own; what else multiplies costs the same for every image."""
    layer = node.target in CONVOLUTIONS or node.target is aten.linear.default
    return layer and isinstance(node.args[1], fx.Node) and node.args[1].op == "get_attr"


def _full_cost(node: fx.Node) -> int:
    """Return weights times positions: those of the output for a convolution, the rows for a linear layer."""
    shape = node_shape(node)
    positions = math.prod(shape[2:]) if node.target in CONVOLUTIONS else math.prod(shape[1:-1])
    return math.prod(node_shape(node.args[1])) * positions  # type: ignore[arg-type]


def _share(node: fx.Node, inputs: Tensor | None, outputs: Tensor | None) -> Tensor | float:
    """Return ``a_in a_out`` for each image; of a grouped layer that is not depthwise, all is computed."""
    groups = argument(node, 6, 1) if node.target in CONVOLUTIONS else 1
    kept = 1.0 if outputs is None else outputs.double().mean(1)
    if groups > 1:
        return kept if outputs is not None and groups == node_shape(node.args[0])[1] else 1.0  # type: ignore[arg-type]
    return kept if inputs is None else kept * inputs.double().mean(1)


def _controller_cost(controller: Controller) -> int:
    """Return what deciding on the filters that are not settled costs."""
    free = int((controller.settled == 0).sum())
    return controller.squeeze.weight.numel() + free * controller.expand.in_features if free else 0
