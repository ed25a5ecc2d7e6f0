"""The vocabulary: which operations of an exported graph mix, keep, move, pool or pad channels.

What stands in no list has no rule: provenance unites all its inputs, compaction runs it at full width.
"""

from __future__ import annotations

import operator
from typing import Any

import torch

aten = torch.ops.aten

__all__ = ["AFFINE", "BINARY", "CONVOLUTIONS", "KEEPING", "MOVING", "NORMALISING", "PADDING", "POOLING", "REDUCING"]


def _operations(names: str) -> frozenset[Any]:
    """Return the operations called ``name.overload``, those that this version of torch has."""
    found = set()
    for name in names.split():
        base, _, overload = name.partition(".")
        packet = getattr(aten, base, None)
        operation = getattr(packet, overload or "default", None)
        if operation is not None:
            found.add(operation)
    return frozenset(found)


CONVOLUTIONS = _operations("conv1d conv2d conv2d.padding conv3d")
"""Layers, if their weight is a constant; so is ``linear``."""

AFFINE = _operations("add.Tensor sub.Tensor mul.Tensor div.Tensor")
"""What scales or shifts when its second argument is a parameter."""

BINARY = AFFINE | _operations("maximum minimum")
"""What combines two tensors value by value."""

NORMALISING = _operations("layer_norm group_norm instance_norm native_layer_norm native_group_norm rms_norm") | (
    _operations("softmax.int _softmax log_softmax.int")
)
"""What rescales each value by statistics over several."""

KEEPING = (
    _operations(
        "relu relu6 hardtanh gelu silu hardswish hardsigmoid sigmoid tanh elu selu celu leaky_relu mish softplus "
        "log_sigmoid exp sqrt rsqrt abs neg log reciprocal square sin cos floor round erf "
        "clamp clamp_min clamp_max pow.Tensor_Scalar "
        "mul.Scalar add.Scalar sub.Scalar div.Scalar rsub.Scalar dropout feature_dropout alias detach "
        "_to_copy to.dtype zeros_like ones_like"
    )
    | _operations("prelu batch_norm")
    | NORMALISING
)
"""What leaves every value in its place."""

REDUCING = _operations("mean.dim sum.dim_IntList amax amin")
"""What unites the values along some axes."""

POOLING = _operations(
    "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d max_pool2d_with_indices "
    "upsample_nearest2d upsample_nearest2d.vec upsample_bilinear2d upsample_bilinear2d.vec upsample_bicubic2d.vec"
)
"""What works on each channel of a map ``(N, C, H, W)`` by itself."""

PADDING = _operations("pad constant_pad_nd")

MOVING = _operations(
    "reshape flatten.using_ints unflatten.int permute transpose.int t movedim.int movedim.intlist "
    "squeeze squeeze.dim squeeze.dims unsqueeze expand expand_as repeat cat stack split.Tensor split_with_sizes chunk "
    "unbind.int slice.Tensor select.int narrow index_select roll flip clone contiguous pixel_shuffle pixel_unshuffle "
    "channel_shuffle slice_scatter select_scatter"
) | {operator.getitem}
"""What moves values, or copies them, without changing any."""
