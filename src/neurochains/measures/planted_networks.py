"""The modules of planted networks: three convolutions (four with a block), global pooling, one linear layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurochains.measures.planted_units import stack
from neurochains.measures.planted_wiring import Wiring

__all__ = ["SIDE", "Concatenated", "Residual", "Sequential", "add_noise", "build"]

SIDE = 20  # pixels of an image

KERNELS = {"edges": 3, "corners": 5, "shapes": 9}


def _conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)


class Sequential(nn.Module):
    """Edges, corners, shapes, one after the other. ``(B, 1, 20, 20) -> (B, outputs)``."""

    def __init__(self, edges: int, corners: int, shapes: int, outputs: int) -> None:
        super().__init__()
        self.edges = _conv(1, edges, KERNELS["edges"])
        self.corners = _conv(edges, corners, KERNELS["corners"])
        self.shapes = _conv(corners, shapes, KERNELS["shapes"])
        self.head = nn.Linear(shapes, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        return self.answer(F.relu(self.corners(F.relu(self.edges(images)))))

    def answer(self, maps: Tensor) -> Tensor:
        """Return the logits, from what the layer of shapes reads."""
        return self.head(F.relu(self.shapes(maps)).mean((2, 3)))


class Residual(Sequential):
    """A block computes corners and adds them to the stream that the edges are on."""

    def __init__(self, edges: int, corners: int, shapes: int, outputs: int) -> None:
        super().__init__(edges, corners, shapes, outputs)
        self.relays = _conv(corners, edges, 1)
        self.shapes = _conv(edges, shapes, KERNELS["shapes"])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        stream = F.relu(self.edges(images))
        return self.answer(F.relu(stream + self.relays(F.relu(self.corners(stream)))))


class Concatenated(Sequential):
    """The layer of shapes reads edges and corners side by side."""

    def __init__(self, edges: int, corners: int, shapes: int, outputs: int) -> None:
        super().__init__(edges, corners, shapes, outputs)
        self.shapes = _conv(edges + corners, shapes, KERNELS["shapes"])

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(B, outputs)``."""
        edges = F.relu(self.edges(images))
        return self.answer(torch.cat([edges, F.relu(self.corners(edges))], 1))


_MODULES: dict[str, Callable[[int, int, int, int], nn.Module]] = {"residual": Residual, "concatenated": Concatenated}


def build(variant: str, wiring: Wiring) -> nn.Module:
    """Return the module of a wiring, in eval mode, without gradients."""
    sizes = {layer: len(units) for layer, units in wiring.layers.items()}
    make = _MODULES.get(variant, Sequential)
    module = make(sizes["edges"], sizes["corners"], sizes["shapes"], len(wiring.logits))
    for layer, units in wiring.layers.items():
        conv = module.get_submodule(layer)
        weight, bias = stack(units, _inputs(variant, wiring, layer), KERNELS.get(layer, 1))
        conv.load_state_dict({"weight": weight, "bias": bias})
    weight, bias = stack(wiring.logits, wiring.channels("shapes"), 1)
    module.get_submodule("head").load_state_dict({"weight": weight[:, :, 0, 0] * SIDE**2, "bias": bias})
    return module.eval().requires_grad_(False)


def _inputs(variant: str, wiring: Wiring, layer: str) -> dict[str, int]:
    """Return the channel on which a layer reads each of its sources."""
    if layer == "edges":
        return {"input": 0}
    if layer == "corners":
        return wiring.channels("edges")
    if layer == "relays":
        return wiring.channels("corners")
    if variant == "residual":
        return wiring.channels("edges", "relays")
    if variant == "concatenated":
        first = len(wiring.layers["edges"])
        behind = {name: first + place for name, place in wiring.channels("corners").items()}
        return {**wiring.channels("edges"), **behind}
    return wiring.channels("corners")


def add_noise(module: nn.Module, noise: float, generator: torch.Generator) -> nn.Module:
    """Add normal noise to the weights of the convolutions, in place; returns the module.

    Its deviation is `noise` times the root mean square of a layer's weights that are not 0.
    """
    for conv in module.modules():
        if isinstance(conv, nn.Conv2d):
            weight = conv.weight.data
            scale = noise * weight[weight != 0].square().mean().sqrt()
            conv.weight.data = weight + scale * torch.randn(weight.shape, generator=generator)
    return module
