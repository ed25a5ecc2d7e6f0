"""A controlled convolution with the batch norm behind it folded in, and the activation apart.

Shapes: I input channels per group, O filters, K kernel side.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from neurochains.decoupling.active import ActiveConv
from neurochains.network.nodes import argument
from neurochains.network.operations import AFFINE

aten = torch.ops.aten

__all__ = ["Activation", "folded_convolution"]

Activation = Callable[[Tensor], Tensor]
_IN_PLACE: dict[Any, Activation] = {aten.relu.default: torch.relu_}


def folded_convolution(body: fx.GraphModule, chain: Sequence[fx.Node]) -> tuple[ActiveConv, Activation | None]:
    """Return a convolution with the per-channel scales and shifts behind it folded in, and the activation that follows.

    Args:
        body: the controlled network that the nodes are of.
        chain: the convolution, what scales and shifts its channels, and an activation if there is one.
    """
    conv, *rest = chain
    affine = [node for node in rest if node.op == "call_module" or node.target in AFFINE]
    activations = [node for node in rest if node not in affine]
    weight_OIKK = _constant(body, conv.args[1])
    bias = _constant(body, argument(conv, 2))
    scale, shift = _scale_and_shift(body, affine, len(weight_OIKK))
    start = torch.zeros_like(shift) if bias is None else bias.double()
    options = {"stride": argument(conv, 3, 1), "padding": argument(conv, 4, 0), "dilation": argument(conv, 5, 1)}
    folded = ActiveConv(
        (weight_OIKK.double() * scale[:, None, None, None]).to(weight_OIKK.dtype),
        (start * scale + shift).to(weight_OIKK.dtype),
        options,
        groups=argument(conv, 6, 1),
    )
    return folded, _activation(activations[0]) if activations else None


def _constant(body: fx.GraphModule, value: Any) -> Any:
    return getattr(body, str(value.target)).detach() if isinstance(value, fx.Node) else None


def _scale_and_shift(body: fx.GraphModule, affine: Sequence[fx.Node], width: int) -> tuple[Tensor, Tensor]:
    """Return what the nodes make of a channel: ``scale x + shift``, each ``(O,)``, in double precision."""
    device = next(body.parameters()).device
    shift = _run(body, affine, torch.zeros(1, width, 1, 1, dtype=torch.float64, device=device))
    return _run(body, affine, torch.ones_like(shift)).flatten() - shift.flatten(), shift.flatten()


def _run(body: fx.GraphModule, affine: Sequence[fx.Node], value: Tensor) -> Tensor:
    with torch.no_grad():
        for node in affine:
            if node.op == "call_module":
                value = copy.deepcopy(body.get_submodule(str(node.target))).double().eval()(value)
            else:
                others = [_constant(body, other) if isinstance(other, fx.Node) else other for other in node.args[1:]]
                rest = [other.double() if isinstance(other, Tensor) else other for other in others]
                value = node.target(value, *rest)  # type: ignore[operator]
    return value


def _activation(node: fx.Node) -> Activation:
    """Return an activation as a function of one tensor that may be overwritten."""
    call: Any = _IN_PLACE.get(node.target, node.target)
    return lambda maps: call(maps, *node.args[1:], **node.kwargs)
