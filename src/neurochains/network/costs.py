"""What a network costs: multiply-accumulates, parameters and seconds.

MACs are counted by running the module once under torch's counter of floating-point operations (two to a MAC), which
sees matrix products, convolutions and attention. Additions, activations, pooling and normalisations count as nothing.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from neurochains.errors import DataError, SettingsError
from neurochains.network.nodes import argument
from neurochains.network.operations import CONVOLUTIONS

aten = torch.ops.aten

__all__ = ["Costs", "measure_costs", "measure_seconds"]


@dataclass(frozen=True, slots=True)
class Costs:
    """`macs`: multiply-accumulates for one image; `parameters`: the numbers that the module has learnt."""

    macs: int
    parameters: int


_LEARNT = {
    **dict.fromkeys((*CONVOLUTIONS, aten.linear.default, aten.batch_norm.default), (1, 2)),
    aten.prelu.default: (1,),
    aten.layer_norm.default: (2, 3),
    aten.group_norm.default: (2, 3),
}
"""Where an operation's learnt arguments are: weight and bias."""


def measure_costs(module: nn.Module, images: Tensor) -> Costs:
    """Return what one image costs in a module, measured on a batch of them.

    Of a traced or compact network, the parameters are the weights and biases that its convolutions, linear layers and
    normalisations read; of another module, all of `module.parameters()`. A tensor used twice counts once.

    Args:
        module: maps ``(B, C, H, W)`` to anything; its mode is left as it is.
        images: ``(B, C, H, W)``, B at least 1.

    Raises:
        DataError: there is no image.
    """
    if not len(images):
        raise DataError(f"Costs are measured on at least one image (B, C, H, W); got {tuple(images.shape)}.")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(images)
    return Costs(counter.get_total_flops() // 2 // len(images), _count_parameters(module))


def measure_seconds(module: nn.Module, images: Tensor, *, repeats: int = 5) -> float:
    """Return the median time of a forward pass in seconds, without gradients, after one pass that does not count.

    Raises:
        SettingsError: `repeats` is less than 1.
    """
    if repeats < 1:
        raise SettingsError(f"repeats must be at least 1; got {repeats}.")
    with torch.no_grad():
        _timed(module, images)
        return statistics.median(_timed(module, images) for _ in range(repeats))


def _timed(module: nn.Module, images: Tensor) -> float:
    start = time.perf_counter()
    module(images)
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - start


def _count_parameters(module: nn.Module) -> int:
    graphs = [part for part in module.modules() if isinstance(part, fx.GraphModule)]
    if not graphs:
        return sum(parameter.numel() for parameter in module.parameters())
    return sum(_learnt_in(part) for part in graphs)


def _learnt_in(module: fx.GraphModule) -> int:
    """Return how many numbers the layers and normalisations of a graph read."""
    read = {
        str(value.target)
        for node in module.graph.nodes
        for position in _LEARNT.get(node.target, ())
        if isinstance(value := argument(node, position), fx.Node) and value.op == "get_attr"
    }
    return sum(getattr(module, name).numel() for name in read)
