"""Attacks: the smallest changes of pixels that a network answers most wrongly to; FGSM, BIM and PGD.

All work on pixels in [0, 1]: what a network expects beyond that (mean, standard deviation) is done inside, by
`on_pixels`. With the cross entropy l of the labels and the ball of radius eps around each image,

1. FGSM (Goodfellow et al. 2015): one step of length eps along the gradient of l, then [0, 1].
2. BIM (Kurakin et al. 2017): several steps of a fixed length, each followed by the way back into [0, 1] and the ball.
3. PGD (Madry et al. 2018): BIM from a random place in the ball.

A step of length e is ``e * sign(g)`` for the norm ``"linf"`` and ``e * g / |g|`` for ``"l2"``.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from neurochains.errors import DataError, SettingsError, did_you_mean
from neurochains.preprocess import Preprocess

__all__ = ["ATTACKS", "NORMS", "Attack", "Model", "attack", "bim", "fgsm", "on_pixels", "pgd"]

Model = Callable[[Tensor], Tensor]
Attack = Callable[..., Tensor]
NORMS = ("linf", "l2")
_BATCH = 64
_TINY = 1e-12


def on_pixels(model: Model, preprocess: Preprocess) -> Model:
    """Return a model that takes pixels in [0, 1] ``(B, C, H, W)`` and normalises them itself."""
    channels = (len(preprocess.mean), 1, 1)

    def run(pixels: Tensor) -> Tensor:
        mean, std = (torch.tensor(values).to(pixels).view(channels) for values in (preprocess.mean, preprocess.std))
        return model((pixels - mean) / std)

    return run


def fgsm(model: Model, pixels: Tensor, labels: Tensor, *, eps: float, norm: str = "linf") -> Tensor:
    """Return attacked pixels ``(N, C, H, W)``: one step of length `eps`.

    Args:
        model: from pixels in [0, 1] to logits ``(B, K)``; only the gradient of its input is taken.
        pixels: ``(N, C, H, W)`` in [0, 1].
        labels: ``(N,)``, the classes to lead away from.
        eps: the radius of the ball, such as 8 / 255.
        norm: ``"linf"`` or ``"l2"``.

    Raises:
        SettingsError: a number is out of range, or there is no such norm.
        DataError: the pixels are no images in [0, 1], or there is not one label for each.
    """
    return bim(model, pixels, labels, eps=eps, step=eps, steps=1, norm=norm)


def bim(
    model: Model,
    pixels: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float | None = None,
    steps: int = 10,
    norm: str = "linf",
) -> Tensor:
    """Return attacked pixels: `steps` steps of length `step` (by default a quarter of `eps`) that stay in the ball.

    The other arguments and the errors are those of `fgsm`. One step of length `eps` is FGSM.
    """
    step = _check(pixels, labels, eps, step, steps, norm)
    return _descend(model, pixels, pixels, labels, (eps, step, steps, norm))


def pgd(
    model: Model,
    pixels: Tensor,
    labels: Tensor,
    *,
    eps: float,
    step: float | None = None,
    steps: int = 10,
    norm: str = "linf",
    seed: int = 0,
) -> Tensor:
    """Return attacked pixels: BIM from a random place in the ball, drawn by `seed`; see `bim`."""
    step = _check(pixels, labels, eps, step, steps, norm)
    start = (pixels + _draw(pixels, eps, norm, seed)).clamp(0, 1)
    return _descend(model, pixels, start, labels, (eps, step, steps, norm))


ATTACKS: dict[str, Attack] = {"fgsm": fgsm, "bim": bim, "pgd": pgd}


def attack(name: str, model: Model, pixels: Tensor, labels: Tensor, *, eps: float, **options: object) -> Tensor:
    """Return the pixels that the attack of a name makes; options are its own.

    Raises:
        SettingsError: there is no such attack.
    """
    if name not in ATTACKS:
        raise SettingsError(
            f"No attack is called {name!r}; there are {', '.join(ATTACKS)}. {did_you_mean(str(name), ATTACKS)}"
        )
    return ATTACKS[name](model, pixels, labels, eps=eps, **options)


def _descend(model: Model, pixels: Tensor, start: Tensor, labels: Tensor, how: tuple[float, float, int, str]) -> Tensor:
    """Return the end of steps up the loss, batch by batch."""
    eps, step, steps, norm = how
    found = []
    for centre, moved, wrong in zip(pixels.split(_BATCH), start.split(_BATCH), labels.split(_BATCH), strict=True):
        place = moved
        for _ in range(steps):
            place = (place + step * _direction(_gradient(model, place, wrong), norm)).clamp(0, 1)
            place = (centre + _inside(place - centre, eps, norm)).clamp(0, 1)  # the clamp only undoes rounding
        found.append(place)
    return torch.cat(found)


def _gradient(model: Model, pixels: Tensor, labels: Tensor) -> Tensor:
    """Return the gradient of each image's own loss by its pixels; 0 where the model does not depend on them."""
    with torch.enable_grad():
        leaf = pixels.detach().requires_grad_(True)
        logits = model(leaf)
        loss = F.cross_entropy(logits, labels.to(logits.device), reduction="sum")
    if not loss.requires_grad:
        return torch.zeros_like(pixels)
    return torch.autograd.grad(loss, leaf)[0]


def _direction(gradient: Tensor, norm: str) -> Tensor:
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.flatten(1).norm(dim=1).clamp_min(_TINY).view(-1, 1, 1, 1)


def _inside(change: Tensor, eps: float, norm: str) -> Tensor:
    """Return the change of each image, brought back into the ball."""
    if norm == "linf":
        return change.clamp(-eps, eps)
    length = change.flatten(1).norm(dim=1).clamp_min(_TINY).view(-1, 1, 1, 1)
    return change * (eps / length).clamp_max(1)


def _draw(pixels: Tensor, eps: float, norm: str, seed: int) -> Tensor:
    """Return a random change of each image, uniform in the ball."""
    generator = torch.Generator().manual_seed(seed)
    if norm == "linf":
        return ((2 * torch.rand(pixels.shape, generator=generator) - 1) * eps).to(pixels)
    ray = _direction(torch.randn(pixels.shape, generator=generator), norm)
    radius = eps * torch.rand(len(pixels), 1, 1, 1, generator=generator) ** (1 / math.prod(pixels.shape[1:]))
    return (radius * ray).to(pixels)


def _check(pixels: Tensor, labels: Tensor, eps: float, step: float | None, steps: int, norm: str) -> float:
    """Return the length of a step."""
    if pixels.ndim != 4 or not pixels.is_floating_point() or not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise DataError(
            f"Wanted pixels (N, C, H, W) in [0, 1] as floats, but got {pixels.dtype} {tuple(pixels.shape)} or others. "
            "Undo the normalisation first, and let on_pixels do it inside."
        )
    if labels.shape != pixels.shape[:1]:
        raise DataError(f"Wanted one label for each of {len(pixels)} images, but got {tuple(labels.shape)}.")
    if norm not in NORMS:
        raise SettingsError(f"norm is one of {', '.join(NORMS)}; got {norm!r}. {did_you_mean(str(norm), NORMS)}")
    length = eps / 4 if step is None else step
    if not (0 <= eps < math.inf and 0 <= length < math.inf) or steps < 0:
        raise SettingsError(f"eps, step and steps are 0 or more; got {eps}, {step} and {steps}.")
    return length
