"""Feature visualisation: the picture that a filter answers to most, by gradient ascent on the input.

1. The picture is a Fourier spectrum, one coefficient for each frequency, channel and unit. A coefficient counts less
   the higher its frequency, as in natural images, and the channels are mixed by the colour axes of natural images; so
   all directions of the search have about the same weight. A sigmoid brings the pixels to [0, 1].
2. Each step moves, scales and rotates the picture at random, in proportion to its size, so that no single
   arrangement of pixels can fool the filter.
3. Adam climbs the mean of the filter's map (or its centre) *before* the activation, so that a filter that is silent
   at the start still has a gradient. Negative pictures climb its negative.
4. Units that gained nothing are tried again from other seeds; the best attempt is kept.
5. What comes back with each picture is the value it reached, to be shown beside the largest one in the data.

After Erhan et al. 2009 and Olah et al. 2017.

Shapes: B units (one picture each), C channels, H x W pixels, F = W // 2 + 1 frequencies along x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from neurochains.errors import DataError, LayerError, SettingsError

__all__ = ["MapsOf", "Visualisation", "visualise"]

MapsOf = Callable[[Tensor], Tensor]
"""From normalised images (B, C, H, W) to pre-activation maps (B, units, h, w), or (B, units) of a linear layer."""

# Principal axes of the colours of natural photographs, each times its standard deviation, as rows: lightness,
# orange to blue, magenta to green. Our own measurement: the logits of 2,000 pixels of each of 700 photographs of
# ImageNet (clipped to [1/64, 63/64]); the standard deviations are 2.78, 0.76 and 0.41.
COLOR_AXES = ((1.54, 1.58, 1.68), (0.55, 0.02, -0.53), (0.17, -0.33, 0.16))
GREY_AXIS = ((2.78,),)
START = 0.05  # contrast of the picture at the start, as a share of a natural one's
GAIN = 1e-4  # a unit that moves by less, relative to where it starts, counts as dead


@dataclass(frozen=True, slots=True)
class Visualisation:
    """One picture for each unit. `reached` and `peak` are of the finished picture as stored, not transformed."""

    images: Tensor  # uint8 (B, C, H, W)
    reached: Tensor  # float32 (B,): the objective, mean or centre of the unit's map, before the activation
    peak: Tensor  # float32 (B,): the largest value on the map (the least, for negative pictures)
    gained: Tensor  # bool (B,): False where no attempt moved the unit
    steps: int


@dataclass(frozen=True, slots=True)
class _Ascent:
    """What one run needs to know, the same for all its units."""

    maps_of: MapsOf
    mean: Tensor  # (C, 1, 1)
    std: Tensor
    size: tuple[int, int]
    centre: bool
    sign: float
    steps: int
    rate: float

    def normalise(self, pixels: Tensor) -> Tensor:
        return (pixels - self.mean) / self.std

    def maps(self, pixels: Tensor, units: Tensor) -> Tensor:
        """Return the map ``(B, h, w)`` that each picture gives its own unit."""
        maps = self.maps_of(self.normalise(pixels))
        if maps.ndim == 2:
            maps = maps[:, :, None, None]
        if maps.ndim != 4 or len(maps) != len(units):
            raise DataError(f"expected maps (B, units, h, w) for {len(units)} images, got {tuple(maps.shape)}")
        if int(units.max()) >= maps.shape[1]:
            raise LayerError(f"there is no unit {int(units.max())}: the layer has {maps.shape[1]}, counted from 0")
        return maps[torch.arange(len(units), device=maps.device), units.to(maps.device)]

    def objective(self, maps: Tensor) -> Tensor:
        """Return the value to climb, ``(B,)``, with its sign as the filter gives it."""
        return maps[:, maps.shape[1] // 2, maps.shape[2] // 2] if self.centre else maps.mean((1, 2))


def visualise(
    maps_of: MapsOf,
    units: Sequence[int],
    size: tuple[int, int],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    steps: int = 512,
    rate: float = 0.05,
    objective: str = "channel",
    negative: bool = False,
    seed: int = 0,
    attempts: int = 3,
    batch: int = 32,
    device: torch.device | str = "cpu",
) -> Visualisation:
    """Return the pictures that the units of one layer answer to most (or least).

    All units climb at once, from the same start and through the same transforms, so a unit's picture does not depend
    on which others are asked for. The same seed gives the same pictures (on a CPU, bit for bit).

    Args:
        maps_of: the layer's maps before the activation, of normalised images; gradients must flow through it.
        units: indices of the units.
        size: height and width of the network's input.
        mean: of each channel, subtracted from pixels in [0, 1]; one or three.
        std: of each channel, dividing.
        steps: of Adam.
        rate: its learning rate.
        objective: "channel" for the mean of the map, "centre" for its middle.
        negative: look for what the units answer to least.
        seed: of the start and the transforms.
        attempts: how often a unit without gain is tried, each time from another seed.
        batch: most units to climb at once; it bounds the memory.
        device: where to compute.

    Raises:
        SettingsError: an option has a value it cannot have.
        DataError: ``maps_of`` gives no maps, none that are finite, or none with a gradient.
        LayerError: a unit is not there.
    """
    _check(units, size, mean, std, steps, rate, objective, attempts, batch)
    kind = {"dtype": torch.float32, "device": device}
    ascent = _Ascent(
        maps_of=maps_of,
        mean=torch.tensor(mean, **kind)[:, None, None],
        std=torch.tensor(std, **kind)[:, None, None],
        size=size,
        centre=objective == "centre",
        sign=-1.0 if negative else 1.0,
        steps=steps,
        rate=rate,
    )
    wanted = torch.tensor(list(units), device=device)
    parts = [_climb_with_retries(ascent, chunk, seed, attempts) for chunk in wanted.split(batch)]
    images, reached, peak, gained = (torch.cat(column).cpu() for column in zip(*parts))
    return Visualisation(images, reached, peak, gained, steps)


def _check(
    units: Sequence[int],
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    steps: int,
    rate: float,
    objective: str,
    attempts: int,
    batch: int,
) -> None:
    """Raise when an option has a value it cannot have."""
    if len(units) == 0 or min(units) < 0:
        raise SettingsError(f"expected at least one unit, counted from 0, got {list(units)}")
    if len(mean) not in (1, 3) or len(std) != len(mean) or min(std) <= 0:
        raise SettingsError(f"expected mean and std of 1 or 3 channels, std above 0, got {mean} and {std}")
    if min(size) < 4 or min(steps, attempts, batch) < 1 or rate <= 0:
        raise SettingsError(
            "expected a size of at least 4 x 4, steps, attempts and batch of at least 1 and a rate above 0, "
            f"got {size}, {steps}, {attempts}, {batch} and {rate}"
        )
    if objective not in ("channel", "centre"):
        raise SettingsError(f"the objective is 'channel' or 'centre', got {objective!r}")


def _climb_with_retries(ascent: _Ascent, units: Tensor, seed: int, attempts: int) -> tuple[Tensor, ...]:
    """Return images, reached, peak and gained of some units, the best of all attempts for each."""
    best = _climb(ascent, units, seed)
    for attempt in range(1, attempts):
        dead = (~best[3]).nonzero()[:, 0]
        if len(dead) == 0:
            break
        again = _climb(ascent, units[dead], seed + attempt)
        better = (again[1] - best[1][dead]) * ascent.sign > 0
        for column, new in zip(best, again):
            column[dead[better]] = new[better]
    return best


@torch.enable_grad()
def _climb(ascent: _Ascent, units: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return images, reached, peak and gained of one attempt."""
    dice = torch.Generator().manual_seed(seed)
    spectrum = _start(ascent, len(units), dice)
    optimiser = torch.optim.Adam([spectrum], lr=ascent.rate)
    first, _ = _value(ascent, _paint(spectrum.detach(), ascent.size), units)
    for _ in range(ascent.steps):
        pixels = _transform(_paint(spectrum, ascent.size), dice)
        value = ascent.objective(ascent.maps(pixels, units))
        if not value.requires_grad or not bool(torch.isfinite(value).all()):
            raise DataError(
                "the maps of the layer are not finite or have no gradient with respect to the images; "
                "compute them without torch.no_grad() and detach(), from finite weights"
            )
        optimiser.zero_grad()
        spectrum.grad = torch.autograd.grad(-ascent.sign * value.sum(), spectrum)[0]
        optimiser.step()
    images = (_paint(spectrum.detach(), ascent.size) * 255).round().to(torch.uint8)
    reached, peak = _value(ascent, images.float() / 255, units)
    gained = (reached - first) * ascent.sign > GAIN * (1 + first.abs())
    return images, reached, peak, gained


@torch.no_grad()
def _value(ascent: _Ascent, pixels: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Return the objective and the largest (or least) value of each picture, not transformed."""
    maps = ascent.maps(pixels, units).float()
    return ascent.objective(maps), ascent.sign * (ascent.sign * maps).amax((1, 2))


def _start(ascent: _Ascent, count: int, dice: torch.Generator) -> Tensor:
    """Return a faint random spectrum ``(B, C, H, F, 2)``, the same for every unit."""
    height, width = ascent.size
    shape = (1, len(ascent.mean), height, width // 2 + 1, 2)
    start = START * torch.randn(shape, generator=dice).to(ascent.mean.device)
    return start.expand(count, *shape[1:]).clone().requires_grad_()


def _paint(spectrum: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the pixels ``(B, C, H, W)`` in (0, 1) of spectra ``(B, C, H, F, 2)``.

    A spectrum of unit variance gives pictures with about the contrast and the colours of photographs.
    """
    height, width = size
    channels = spectrum.shape[1]
    falloff = _falloff(size).to(spectrum.device)
    waves = torch.fft.irfft2(torch.view_as_complex(spectrum) * falloff, s=(height, width), norm="ortho")
    axes = spectrum.new_tensor(COLOR_AXES if channels == 3 else GREY_AXIS)
    return torch.sigmoid(torch.einsum("bkhw,kc->bchw", waves, axes))


def _falloff(size: tuple[int, int]) -> Tensor:
    """Return the weight ``(H, F)`` of each frequency: one over it, scaled so that the pixels' variance is about 1."""
    height, width = size
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    weight = 1 / frequency.clamp(min=1 / max(size))
    twice = torch.full_like(weight, 2.0)  # each stands for a pair of conjugates, but those of the first column
    twice[:, 0] = 1.0
    return weight / (2 * (twice * weight**2).sum() / (height * width)).sqrt()


def _transform(pixels: Tensor, dice: torch.Generator) -> Tensor:
    """Return the pictures rotated by up to 10 degrees, scaled by .9 to 1.1 and moved by up to a sixteenth.

    All pictures alike, by one bilinear look-up; what lies outside is mirrored.
    """
    turn, zoom, down, right = (2 * torch.rand(4, generator=dice) - 1).tolist()
    height, width = pixels.shape[-2:]
    angle, scale = math.radians(10 * turn), 1 / (1 + 0.1 * zoom)
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    matrix = [[cosine, -sine * height / width, right / 8], [sine * width / height, cosine, down / 8]]
    theta = pixels.new_tensor(matrix).expand(len(pixels), 2, 3)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
