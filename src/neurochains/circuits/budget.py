"""The budget method on kernels: the fewest that keep a target's map, their scores tuned on the way.

Every kernel that leads to the target gets a score, 1 at first, that multiplies its weights. The loss is the squared
error of the target's map, at all positions of all images, as a share of its variance; or one minus its correlation.

1. **Eliminate.** The kernels whose removal costs least leave, a fifth of those that are left at a time, and with them
   what has become a dead end. The cost is of second order, ``1/2 s^2 |dm/ds|^2``: near the original the loss has no
   slope, so what is of first order is noise.
2. **Tune.** After each elimination some steps of Adam let the scores of what stays make up for what left. As the
   original network says what its map is on *any* image, the images are varied: mirrored, moved, mixed with each other.
   So a few images go a long way, and what is tuned holds on others.
3. At each size that was asked for the scores are tuned longer, and averaged over the last half of the steps; tuned
   scores that are worse on the images than those before are dropped.
4. Where a correlation is asked for instead, elimination goes on until it is missed; then sizes in between are tried
   from the last good circuit.

With binary scores nothing is tuned; the costs then have their first-order part too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from neurochains.circuits.problem import Kept, Problem, largest_within
from neurochains.circuits.ranking import curvature
from neurochains.errors import FidelityError, SettingsError

__all__ = ["CircuitSettings", "Objective", "reach_correlation", "shrink_to"]

Objective = Literal["correlation", "error"]
Report = Callable[[int, float], None]
"""Told the number of kernels that are left and the correlation on the images, now and then."""

_LEAST = 1e-3  # a kept score never quite goes
_MOST, _PIXELS = 32, 8 * 224 * 224  # images, and pixels of each channel, of one step


@dataclass(frozen=True)
class CircuitSettings:
    """The settings of the search.

    Attributes:
        objective: ``"error"``, the squared error of the map, or ``"correlation"``.
        binary: scores are 0 or 1, and nothing is tuned.
        ratio: of the kernels that stay in each elimination.
        probes: draws of random signs for the costs.
        steps: of tuning after each elimination.
        final: of tuning at each size that was asked for.
        rate: Adam's learning rate at the start of each tuning; it falls to 0.
        batch: images of a step; if None 32, fewer of large ones: 8 of 224 x 224 pixels.
        vary: whether the images are varied.
        seed: of signs, batches and variations.
    """

    objective: Objective = "error"
    binary: bool = False
    ratio: float = 0.8
    probes: int = 4
    steps: int = 20
    final: int = 120
    rate: float = 0.04
    batch: int | None = None
    vary: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in ("correlation", "error"):
            raise SettingsError(f"The objective is 'error' or 'correlation'; got {self.objective!r}.")
        least = min(self.probes, 1 if self.batch is None else self.batch)
        if not 0 < self.ratio < 1 or least < 1 or min(self.steps, self.final) < 0:
            raise SettingsError(
                "A ratio between 0 and 1, at least 1 probe and 1 image a step, and steps of at least 0 are wanted; got "
                f"{self.ratio}, {self.probes}, {self.batch}, {self.steps} and {self.final}."
            )


def shrink_to(
    problem: Problem, sizes: Sequence[int], settings: CircuitSettings, *, report: Report | None = None
) -> dict[int, Kept]:
    """Return a circuit of at most each size (numbers of kernels), the smaller ones inside the larger.

    Raises:
        SettingsError: nothing is left at a size (total collapse).
    """
    search = _Search(problem, settings, report)
    found = {}
    for size in sorted(set(sizes), reverse=True):
        search.descend(size)
        search.tune(settings.final, averaged=True)
        found[size] = search.kept
    return found


def reach_correlation(
    problem: Problem, correlation: float, settings: CircuitSettings, *, tries: int = 4, report: Report | None = None
) -> Kept:
    """Return the smallest circuit that was found to give the map with a correlation on the images.

    Raises:
        FidelityError: it is not between 0 and 1.
    """
    if not 0 < correlation < 1:
        raise FidelityError(f"A correlation is above 0 and below 1; got {correlation}.")
    search = _Search(problem, settings, report)
    good, missed = search.kept, 0
    for size in _ladder(problem.edges.total, 1, settings.ratio):
        if not search.reaches(size, correlation):
            missed = size
            break
        good = search.kept
    for _ in range(tries):
        size = (missed + good.size) // 2
        if size in (missed, good.size):
            break
        search.kept = good
        if search.reaches(size, correlation):
            good = search.kept
        else:
            missed = size
    return good


class _Search:
    """A circuit that shrinks; `kept` is where it is."""

    def __init__(self, problem: Problem, settings: CircuitSettings, report: Report | None) -> None:
        self.problem = problem
        self.settings = settings
        self.kept = problem.everything()
        self._report = report
        self._dice = torch.Generator().manual_seed(settings.seed)

    def descend(self, size: int) -> None:
        """Eliminate down to a size, tuning on the way."""
        for goal in _ladder(self.kept.size, size, self.settings.ratio):
            self.eliminate(goal)
            if goal > size:
                self.tune(self.settings.steps)

    def eliminate(self, size: int) -> None:
        """Remove what costs least, down to a size, and what becomes a dead end."""
        if self.kept.size <= size:
            return
        values = curvature(self.problem, self.kept, probes=self.settings.probes, generator=self._dice)
        if self.settings.binary:
            slopes = self._slopes()
            values = {name: value - slopes[name] * self.kept.scores[name] for name, value in values.items()}
        smaller = largest_within(values, self.kept.masks, size, self.problem.edges)
        self.kept = Kept.of(smaller.masks, self.kept.scores)

    def reaches(self, size: int, correlation: float) -> bool:
        """Go to a size; return whether the circuit there has a correlation. A total collapse has none."""
        try:
            self.eliminate(size)
        except SettingsError:
            return False
        if self.problem.measure(self.kept).pearson < correlation:
            self.tune(self.settings.final, averaged=True)
        else:
            self.tune(self.settings.steps)
        return self.problem.measure(self.kept).pearson >= correlation

    def tune(self, steps: int, *, averaged: bool = False) -> None:
        """Tune the scores of what is kept; averaged ones are taken only if they are better on the images."""
        if steps and not self.settings.binary:
            tuned = Kept(self.kept.masks, _tuned(self.problem, self.kept, steps, self.settings, averaged, self._dice))
            if not averaged or self._loss(tuned) < self._loss(self.kept):
                self.kept = tuned
        if self._report is not None:
            self._report(self.kept.size, self.problem.measure(self.kept).pearson)

    def _loss(self, kept: Kept) -> float:
        return float(_loss(self.problem.maps(kept), self.problem.original, self.problem, self.settings.objective))

    def _slopes(self) -> dict[str, Tensor]:
        """Return the slope of half the squared error, summed over images and positions, at each score."""
        problem, totals = self.problem, {name: torch.zeros_like(s) for name, s in self.kept.scores.items()}
        for images, original in zip(problem.batches(), problem.original.split(problem.batch_size), strict=True):
            scores = {name: values.clone().requires_grad_(True) for name, values in self.kept.scores.items()}
            with torch.enable_grad():
                error = (problem.run(images, self.kept, scores) - original).square().sum() / 2
            for name, slope in zip(scores, torch.autograd.grad(error, list(scores.values())), strict=True):
                totals[name] += slope.cpu()
        return totals


def _tuned(
    problem: Problem, kept: Kept, steps: int, settings: CircuitSettings, averaged: bool, dice: torch.Generator
) -> dict[str, Tensor]:
    """Return the scores after some steps of Adam on varied images; where asked, their mean over the last half."""
    masks = {name: mask.to(problem.images) for name, mask in kept.masks.items()}
    scores = {name: values.to(problem.images).clone().requires_grad_(True) for name, values in kept.scores.items()}
    adam = torch.optim.Adam(scores.values(), lr=settings.rate, betas=(0.9, 0.99))
    mean = {name: torch.zeros_like(values) for name, values in scores.items()}
    for step in range(steps):
        adam.param_groups[0]["lr"] = settings.rate * (1 - step / steps)
        images = _drawn(problem.images, settings, dice)
        with torch.no_grad():
            original = problem.run(images)
        with torch.enable_grad():
            found = problem.run(images, kept, {name: values * masks[name] for name, values in scores.items()})
            loss = _loss(found, original, problem, settings.objective)
        slopes = torch.autograd.grad(loss, list(scores.values()))
        for values, slope in zip(scores.values(), slopes, strict=True):
            values.grad = slope
        adam.step()
        with torch.no_grad():
            for name, values in scores.items():
                values.clamp_(min=_LEAST)
                if step >= steps // 2:
                    mean[name] += values / (steps - steps // 2)
    return {name: ((mean if averaged else scores)[name].detach() * masks[name]).cpu() for name in scores}


def _loss(found: Tensor, original: Tensor, problem: Problem, objective: Objective) -> Tensor:
    if objective == "error":
        return (found - original).square().mean() / problem.variance
    left, right = (values.flatten() - values.mean() for values in (found, original))
    return 1 - left @ right / (left.norm() * right.norm()).clamp(min=1e-12)


def _drawn(images: Tensor, settings: CircuitSettings, dice: torch.Generator) -> Tensor:
    """Return a batch of images; where asked, half mirrored, all moved by up to an eighth, half mixed with another."""
    many = settings.batch or min(_MOST, max(1, _PIXELS // images[0, 0].numel()))
    chosen = images[torch.randperm(len(images), generator=dice)[:many].to(images.device)]
    if not settings.vary:
        return chosen
    mirrored, mixed = (torch.rand(len(chosen), 1, 1, 1, generator=dice) < 0.5 for _ in range(2))
    share = torch.rand(len(chosen), 1, 1, 1, generator=dice) / 2 * mixed
    chosen = torch.where(mirrored.to(images.device), chosen.flip(3), chosen)
    chosen = torch.lerp(chosen, chosen.roll(1, 0), share.to(images))
    return _moved(chosen, dice)


def _moved(images: Tensor, dice: torch.Generator) -> Tensor:
    """Return the images moved by up to an eighth of their sides, what lies outside mirrored."""
    height, width = images.shape[-2:]
    down, right = height // 8, width // 8
    wide = F.pad(images, (right, right, down, down), mode="reflect")
    top = int(torch.randint(0, 2 * down + 1, (), generator=dice))
    left = int(torch.randint(0, 2 * right + 1, (), generator=dice))
    return wide[..., top : top + height, left : left + width]


def _ladder(start: int, end: int, ratio: float) -> Iterator[int]:
    """Yield sizes from below `start` down to `end`, each a ratio of the one before."""
    size = start
    while size > end:
        size = max(end, min(size - 1, round(size * ratio)))
        yield size
