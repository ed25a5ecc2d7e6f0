"""Where empty channels stay empty: what each operation makes of channels that are zero because their filter is off.

What has no rule here is taken to make something of them, and then runs at full width: always right, merely not faster.

Shapes: N images, C channels, H x W positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx

from neurochains.network.nodes import argument, as_list, node_shape
from neurochains.network.operations import POOLING

aten = torch.ops.aten

__all__ = ["Rule", "follow_zeros", "rule_of"]

Rule = Literal["keep", "flatten", "either", "both", "concatenate"]
"""What an operation makes of empty channels: keeps them; lays out their positions as features; empty where both sides
are (sums); empty where one side is (products); puts channels side by side."""

_KEEPING = frozenset(
    getattr(aten, name).default
    for name in "relu relu6 gelu silu hardswish tanh elu selu celu leaky_relu mish dropout alias clone contiguous "
    "abs neg detach".split()
)
_FLATTENING = frozenset({aten.flatten.using_ints, aten.reshape.default, aten.view.default})


def rule_of(node: fx.Node) -> Rule | None:
    """Return the rule of an operation; None where channels that were empty need not be so any more."""
    target = node.target
    if target in _KEEPING or (target in POOLING and len(node_shape(node)) == 4) or _is_spatial_mean(node):
        return "keep"
    if target is aten.hardtanh.default:
        return "keep" if argument(node, 1, -1) <= 0 <= argument(node, 2, 1) else None
    if target in (aten.mul.Tensor, aten.div.Tensor) and isinstance(node.args[1], (int, float)):
        return "keep"
    if target in _FLATTENING and _flattens(node):
        return "flatten"
    if target is aten.add.Tensor and _alike(node, broadcast=False):
        return "either"
    if target is aten.mul.Tensor and _alike(node, broadcast=True):
        return "both"
    return "concatenate" if target is aten.cat.default and argument(node, 1, 0) == 1 else None


def follow_zeros(graph: fx.Graph, codes: Mapping[str, Tensor]) -> dict[fx.Node, Tensor | None]:
    """Return by node which channels may be other than zero, ``(N, C)`` bool; None where all may.

    Args:
        graph: of a controlled network.
        codes: by layer, ``(N, C)`` bool.
    """
    alive: dict[fx.Node, Tensor | None] = {}
    for node in graph.nodes:
        if "layer" in node.meta:
            alive[node] = codes[node.meta["layer"]]
        elif node.op == "call_function" and "controls" not in node.meta:
            alive[node] = _followed(node, alive)
        else:
            alive[node] = None
    return alive


def _followed(node: fx.Node, alive: Mapping[fx.Node, Tensor | None]) -> Tensor | None:
    rule = rule_of(node)
    if rule is None:
        return None
    if rule in ("keep", "flatten"):
        mask = alive[node.args[0]]  # type: ignore[index]
        width = node_shape(node)[1]
        return mask if mask is None or rule == "keep" else mask.repeat_interleave(width // mask.shape[1], 1)
    sides: Any = node.args[0] if rule == "concatenate" else node.args[:2]
    masks = [alive.get(side) for side in sides]
    if all(mask is None for mask in masks) or (rule == "either" and any(mask is None for mask in masks)):
        return None
    images = next(len(mask) for mask in masks if mask is not None)
    whole = [torch.ones(images, node_shape(side)[1], dtype=torch.bool) for side in sides]
    known = [full if mask is None else mask for mask, full in zip(masks, whole, strict=True)]
    if rule == "concatenate":
        return torch.cat(known, 1)
    return known[0] | known[1] if rule == "either" else known[0] & known[1]


def _is_spatial_mean(node: fx.Node) -> bool:
    if node.target is not aten.mean.dim or len(node_shape(node.args[0])) != 4:  # type: ignore[arg-type]
        return False
    return {axis % 4 for axis in as_list(node.args[1])} == {2, 3}


def _flattens(node: fx.Node) -> bool:
    before, after = node_shape(node.args[0]), node_shape(node)  # type: ignore[arg-type]
    return len(before) == 4 and len(after) == 2 and after[1] == before[1] * before[2] * before[3]


def _alike(node: fx.Node, *, broadcast: bool) -> bool:
    """Return whether two computed maps meet channel by channel; where allowed, one of them with one position each."""
    left, right = node.args[:2]
    if not isinstance(left, fx.Node) or not isinstance(right, fx.Node) or node.kwargs:
        return False
    shapes = [node_shape(side) for side in (left, right)]
    if any(side.op == "get_attr" for side in (left, right)) or len(shapes[0]) != 4 or len(shapes[1]) != 4:
        return False
    return shapes[0] == shapes[1] or (
        broadcast and shapes[0][:2] == shapes[1][:2] and (1, 1) in [s[2:] for s in shapes]
    )
