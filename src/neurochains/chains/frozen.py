"""The operations between two scored layers, frozen at each image, so that they are linear in what the filters give.

Then a channel is exactly the sum of the parts that its filters give it (and of constants), also behind a ReLU that
follows a residual add:

1. An activation with ``f(0) = 0`` multiplies by ``f(u) / u``, held constant: for a ReLU, by whether it is open.
2. Where one value a channel rescales a map (squeeze-and-excitation), that value is held constant. Two maps that are
   multiplied carry one half of the product each.
3. A normalisation by the statistics of its input holds the deviation constant, attention its weights.
4. All other operations follow their derivative: linear ones are themselves, max pooling follows the largest value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, fx
from torch.nn.attention import SDPBackend, sdpa_kernel

aten = torch.ops.aten

__all__ = ["frozen", "pass_part"]

Part = Any  # a tensor, or for an operation with several outputs a list of tensors and None

_NAMES = "relu relu6 hardtanh gelu silu hardswish elu leaky_relu mish prelu celu selu tanh".split()
_ACTIVATIONS = frozenset(getattr(aten, name).default for name in _NAMES)
_PRODUCTS = frozenset({aten.mul.Tensor, aten.matmul.default, aten.bmm.default})


def frozen(node: fx.Node, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Return what the operation of a node gives, computed so that its derivative is the frozen, linear one."""
    target = node.target
    assert callable(target)
    if target in _ACTIVATIONS:
        return _activation(target, *args, **kwargs)
    if target in _PRODUCTS and all(isinstance(arg, Tensor) for arg in args):
        return _product(target, *args)
    if target is aten.div.Tensor and isinstance(args[1], Tensor):
        return args[0] / args[1].detach()
    return _RULES.get(target, target)(*args, **kwargs)


def pass_part(node: fx.Node, values: dict[fx.Node, Any], parts: dict[fx.Node, Part]) -> Part:
    """Return the part of a node's value that comes with the `parts` of its inputs; None where nothing does.

    Args:
        node: any operation that is no scored layer.
        values: of its inputs.
        parts: of its inputs, those that have one.
    """
    if node.target is operator.getitem:
        return parts[node.all_input_nodes[0]][node.args[1]]
    with torch.no_grad(), forward_ad.dual_level():
        duals = {arg: _dual(values[arg], parts.get(arg)) for arg in node.all_input_nodes}
        args, kwargs = (fx.map_arg(given, lambda arg: duals[arg]) for given in (node.args, node.kwargs))
        return _tangent(frozen(node, args, kwargs))  # type: ignore[arg-type]


def _dual(value: Any, part: Part) -> Any:
    if part is None:
        return value.detach() if isinstance(value, Tensor) else value
    if isinstance(value, (list, tuple)):
        return [_dual(one, other) for one, other in zip(value, part, strict=True)]
    return forward_ad.make_dual(value.detach(), part)


def _tangent(value: Any) -> Part:
    if isinstance(value, (list, tuple)):
        return [_tangent(one) for one in value]
    return forward_ad.unpack_dual(value).tangent if isinstance(value, Tensor) else None


def _activation(target: Callable[..., Tensor], images: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    still = images.detach()
    ratio = target(still, *rest, **kwargs) / torch.where(still == 0, 1.0, still)
    return images * ratio


def _product(target: Callable[..., Tensor], left: Tensor, right: Tensor) -> Tensor:
    if target is aten.mul.Tensor and left.numel() != right.numel():
        large, small = (left, right) if left.numel() > right.numel() else (right, left)
        return large * small.detach()
    return (target(left, right.detach()) + target(left.detach(), right)) / 2


def _layer_norm(
    maps: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    epsilon: float = 1e-5,
    *_: Any,
) -> Tensor:
    axes = tuple(range(-len(shape), 0))
    values = _standardised(maps, axes, epsilon)
    values = values if weight is None else values * weight
    return values if bias is None else values + bias


def _group_norm(
    maps: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, epsilon: float = 1e-5, *_: Any
) -> Tensor:
    values = _standardised(maps.reshape(len(maps), groups, -1), (-1,), epsilon).view(maps.shape)
    shape = (-1, *(1,) * (maps.ndim - 2))
    values = values if weight is None else values * weight.view(shape)
    return values if bias is None else values + bias.view(shape)


def _standardised(maps: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
    deviation = (maps.detach().var(axes, unbiased=False, keepdim=True) + epsilon).sqrt()
    return (maps - maps.mean(axes, keepdim=True)) / deviation


def _attention(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return aten.scaled_dot_product_attention.default(query.detach(), key.detach(), value, *rest, **kwargs)


_RULES: dict[Any, Callable[..., Tensor]] = {
    aten.group_norm.default: _group_norm,
    aten.layer_norm.default: _layer_norm,
    aten.scaled_dot_product_attention.default: _attention,
}
