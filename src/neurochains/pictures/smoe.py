"""SMOE saliency: where many filters of a layer disagree, from one forward pass and for no class in particular.

1. `smoe`: at each position of a layer's map, ``S = mu * (log2 mu - mean_c log2 x)`` with ``x = relu(a) + 1e-7``
   over the C channels and ``mu = mean_c x``. It is the mean activation times the divergence, in bits, of the
   uniform distribution from the channels' shares: 0 where all channels are equal, large where few are strong.
2. `gamma_norm`, `gauss_norm`, `range_norm`: each map on its own brought to [0, 1].
3. `combine`: maps of several layers resized to the image and averaged.
4. `lovi`, `lovi_heat`: the stack of layers as one colour picture, hue telling which layers are active.

Source: Mundhenk, Chen and Friedland, "Efficient saliency maps for explainable AI", 2019.

Shapes: B images, C channels, L layers, H x W positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from neurochains.errors import DataError, SettingsError

__all__ = ["combine", "gamma_norm", "gauss_norm", "lovi", "lovi_heat", "range_norm", "smoe"]

EPSILON = 1e-7  # part of the definition of SMOE: another value gives other maps
SHAPE_LIMIT = 18.0  # gamma shapes above this are indistinguishable from a normal distribution
NEWTON_STEPS = 10


def smoe(maps: Tensor, *, least_channels: int = 4) -> Tensor:
    """Return the SMOE map of a layer, ``(B, H, W)``, non-negative, in the units of ``maps``.

    With equal channels it is 0; ``smoe(k * maps)`` is ``k * smoe(maps)`` up to the constant 1e-7. Maps narrower than
    float32 are computed in float32, since 1e-7 is lost in float16. Removed filters stay in as channels of zeros.

    Args:
        maps: ``(B, C, H, W)``, before or after the activation; negative values count as 0.
        least_channels: with fewer channels the statistic means little (with one it is 0 everywhere), and the mean of
            the rectified maps comes back in its place. 1 asks for the formula whatever the number.

    Raises:
        DataError: ``maps`` is no ``(B, C, H, W)`` or has no channel.
    """
    if maps.ndim != 4 or maps.shape[1] == 0:
        raise DataError(f"SMOE needs maps of shape (B, C, H, W) with C > 0, got {tuple(maps.shape)}")
    x_BCHW = torch.relu(_wide(maps))
    if maps.shape[1] < least_channels:
        return x_BCHW.mean(1)
    x_BCHW = x_BCHW + EPSILON
    mean = x_BCHW.mean(1)
    return (mean * (mean.log2() - x_BCHW.log2().mean(1))).clamp(min=0)


def range_norm(maps: Tensor) -> Tensor:
    """Return each map ``(B, H, W)`` stretched to [0, 1] by its least and largest value; zeros for a constant map."""
    flat = _flat(maps)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return _unless_constant((flat - low) / (high - low), flat).view_as(maps)


def gauss_norm(maps: Tensor) -> Tensor:
    """Return the normal distribution function of each map's standardised values, ``(B, H, W)``.

    The standard deviation is the unbiased one. A constant map gives zeros.
    """
    flat = _flat(maps)
    gap = flat - flat.mean(1, keepdim=True)
    score = gap * math.sqrt(max(flat.shape[1] - 1, 1)) / gap.norm(dim=1, keepdim=True)
    return _unless_constant(torch.special.ndtr(score), flat).view_as(maps)


def gamma_norm(maps: Tensor) -> Tensor:
    """Return the gamma distribution function of each map's values, ``(B, H, W)``; monotone in the values.

    Shape and scale are the maximum-likelihood ones of the map less its least value (plus 1e-7): the closed-form
    start, ten Newton steps, the shape kept in [1e-7, 18]. Fitted in float64 on the CPU. A constant map gives zeros.
    """
    flat = _flat(maps)
    x = flat.detach().to("cpu", torch.float64)
    x = x - x.amin(1, keepdim=True) + EPSILON
    shape = _gamma_shape(x)
    share = torch.special.gammainc(shape, x * shape / x.mean(1, keepdim=True))
    return _unless_constant(share.to(flat), flat).view_as(maps)


def _gamma_shape(x: Tensor) -> Tensor:
    """Return the maximum-likelihood shape ``(B, 1)`` of a gamma distribution for each row of ``x > 0``."""
    gap = (x.mean(1, keepdim=True).log() - x.log().mean(1, keepdim=True)).clamp(min=1e-12)
    shape = (3 - gap + ((gap - 3) ** 2 + 24 * gap).sqrt()) / (12 * gap)
    for _ in range(NEWTON_STEPS):
        shape = shape.clamp(EPSILON, SHAPE_LIMIT)
        slope = 1 / shape - torch.special.polygamma(1, shape)
        shape = shape - (shape.log() - torch.special.digamma(shape) - gap) / slope
    return shape.clamp(EPSILON, SHAPE_LIMIT)


def combine(maps: Sequence[Tensor], size: tuple[int, int], weights: Sequence[float] | None = None) -> Tensor:
    """Return the weighted mean of several layers' maps at image size, ``(B, *size)``.

    Each map is resized bilinearly first. With one map this is that map resized; equal weights are the default.

    Args:
        maps: one ``(B, h, w)`` for each layer, best brought to [0, 1] by one of the normalisations.
        size: height and width of the result.
        weights: one for each map, non-negative, not all 0; only their ratios matter.

    Raises:
        DataError: ``maps`` is empty, or holds something that is no ``(B, h, w)`` of the same B.
        SettingsError: the weights do not fit the maps.
    """
    if not maps or any(one.ndim != 3 or len(one) != len(maps[0]) for one in maps):
        raise DataError(f"expected maps (B, h, w) of one B, one a layer, got {[tuple(one.shape) for one in maps]}")
    shares = _shares(len(maps), weights)
    resized = [F.interpolate(_wide(one)[:, None], size, mode="bilinear", align_corners=False)[:, 0] for one in maps]
    return sum((share * one for share, one in zip(shares, resized)), torch.zeros_like(resized[0]))


def lovi(maps: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Return the stack of layers as a colour picture, ``(B, H, W, 3)`` in [0, 1].

    Hue tells which layers are active at a position (violet the first, red the last), saturation how few of them
    (white: all alike), brightness how strongly the strongest one is. The maps of one image are stretched together.

    Args:
        maps: ``(B, L, H, W)``, layers in order of execution, already of one size.
        weights: one for each layer, as in `combine`; the strongest counts 1.

    Raises:
        DataError: ``maps`` is no ``(B, L, H, W)`` or has no layer.
        SettingsError: the weights do not fit the maps.
    """
    p_BLHW = _stack(maps, weights)
    layers = p_BLHW.shape[1]
    total, largest = p_BLHW.sum(1), p_BLHW.amax(1)
    places = torch.linspace(1, 0, layers).to(p_BLHW)
    hue = 300 * torch.einsum("blhw,l->bhw", p_BLHW, places) / total.clamp(min=EPSILON)
    return _rgb(hue, _saturation(total, largest, layers), largest)


def lovi_heat(maps: Tensor, weights: Sequence[float] | None = None) -> Tensor:
    """Return a heat map of the stack, ``(B, H, W, 3)`` in [0, 1]: blue to red by the mean over the layers.

    Pale where all layers are active alike, dark where none is. Arguments and errors are those of `lovi`.
    """
    p_BLHW = _stack(maps, weights)
    mean = p_BLHW.mean(1)
    value = mean / mean.flatten(1).amax(1).clamp(min=EPSILON)[:, None, None]
    saturation = _saturation(p_BLHW.sum(1), p_BLHW.amax(1), p_BLHW.shape[1])
    return _rgb(240 * (1 - value), saturation ** (1 / math.e), value)


def _stack(maps: Tensor, weights: Sequence[float] | None) -> Tensor:
    """Return the layers of each image stretched to [0, 1] together, times their weights."""
    if maps.ndim != 4 or maps.shape[1] == 0:
        raise DataError(f"expected a stack of maps (B, L, H, W) with L > 0, got {tuple(maps.shape)}")
    shares = maps.new_tensor(_shares(maps.shape[1], weights), dtype=torch.float32)
    flat = _wide(maps).flatten(1)
    return range_norm(flat[:, None])[:, 0].view(maps.shape) * (shares / shares.amax())[:, None, None]


def _saturation(total: Tensor, largest: Tensor, layers: int) -> Tensor:
    """Return 1 where one layer alone is active, 0 where all are alike; 1 throughout when there is one layer."""
    if layers == 1:
        return torch.ones_like(total)
    evenness = total / (layers * largest.clamp(min=EPSILON))
    return (1 - (evenness - 1 / layers) / (1 - 1 / layers)).clamp(0, 1)


def _rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """Return the colours ``(..., 3)`` of hue in degrees, saturation and value in [0, 1]."""
    turn = torch.tensor([5.0, 3.0, 1.0], device=hue.device)
    sector = (turn + hue[..., None] / 60) % 6
    dip = torch.minimum(sector, 4 - sector).clamp(0, 1)
    return value[..., None] * (1 - saturation[..., None] * dip)


def _shares(count: int, weights: Sequence[float] | None) -> list[float]:
    """Return ``count`` weights that sum to 1."""
    if weights is None:
        return [1 / count] * count
    if len(weights) != count or any(not (math.isfinite(w) and w >= 0) for w in weights) or sum(weights) == 0:
        raise SettingsError(
            f"expected {count} weights, one for each layer, non-negative and not all 0; got {list(weights)}"
        )
    return [float(weight) / sum(weights) for weight in weights]


def _flat(maps: Tensor) -> Tensor:
    """Return maps ``(B, H, W)`` as rows ``(B, H * W)``."""
    if maps.ndim != 3 or maps[0:1].numel() == 0:
        raise DataError(f"expected maps of shape (B, H, W) with at least one position, got {tuple(maps.shape)}")
    return _wide(maps).flatten(1)


def _unless_constant(values: Tensor, flat: Tensor) -> Tensor:
    """Return ``values``, but 0 in the rows of ``flat`` that do not vary: there is nothing to normalise."""
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return torch.where(high - low > EPSILON * high.abs().clamp(min=EPSILON), values, torch.zeros_like(values))


def _wide(maps: Tensor) -> Tensor:
    """Return ``maps`` in float32, or float64 where they are."""
    return maps if maps.dtype == torch.float64 else maps.float()
