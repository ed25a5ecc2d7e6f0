"""Batch norms in eval mode, folded into the convolutions before them: the same function, up to rounding, in less time.

For networks that are run many times, as in a search; what is saved keeps its parts as they are in the original.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

aten = torch.ops.aten

__all__ = ["fold_norms"]

CONVOLUTIONS = (aten.conv1d.default, aten.conv2d.default, aten.conv3d.default)
PARTS = ("weight", "bias")


def fold_norms(module: fx.GraphModule) -> None:
    """Fold each batch norm that is all that reads a convolution into it, in place."""
    for node in list(module.graph.nodes):
        if _can_be_folded(node):
            _fold(module, node)
    module.graph.eliminate_dead_code()
    read = {str(node.target) for node in module.graph.find_nodes(op="get_attr")}
    for name in [name for name, _ in module.named_buffers() if name not in read]:
        delattr(module, name)
    module.recompile()


def _can_be_folded(norm: fx.Node) -> bool:
    if norm.target is not aten.batch_norm.default or norm.args[5]:  # the latter is whether it is in training mode
        return False
    convolution = norm.args[0]
    return (
        isinstance(convolution, fx.Node)
        and convolution.target in CONVOLUTIONS
        and len(convolution.users) == 1
        and all(_is_held(argument) for argument in (convolution.args[1], *norm.args[3:5]))
        and all(argument is None or _is_held(argument) for argument in (*convolution.args[2:3], *norm.args[1:3]))
    )


def _is_held(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _fold(module: fx.GraphModule, norm: fx.Node) -> None:
    convolution, weight, bias, mean, variance, _, _, eps, *_ = norm.args
    source, kernels, *rest = convolution.args  # type: ignore[union-attr]
    parts = [_held(module, one) for one in (kernels, rest[0] if rest else None, mean, variance, weight, bias)]
    folded = fuse_conv_bn_weights(*parts[:4], eps, *parts[4:])  # type: ignore[arg-type]
    with module.graph.inserting_before(norm):
        held = [_hold(module, f"{norm.name}_{name}", part) for name, part in zip(PARTS, folded, strict=True)]
        new = module.graph.call_function(convolution.target, (source, *held, *rest[1:]))  # type: ignore[union-attr]
    norm.replace_all_uses_with(new)
    module.graph.erase_node(norm)
    module.graph.erase_node(convolution)  # type: ignore[arg-type]


def _held(module: fx.GraphModule, node: Any) -> Tensor | None:
    return None if node is None else getattr(module, str(node.target)).detach()


def _hold(module: fx.GraphModule, name: str, tensor: Tensor) -> fx.Node:
    module.register_buffer(name, tensor.detach())
    return module.graph.get_attr(name)
