"""The states of filters on a set of images: energetic (always on), silent (never), dynamic (for some images).

Shapes: N images, C filters of a layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from neurochains.errors import DataError, SettingsError

if TYPE_CHECKING:
    from neurochains.decoupling.decoupled import Decoupled

__all__ = ["States", "measure_states"]


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """How often each filter was on; one more image can turn a silent filter into a dynamic one, so N belongs to it.

    Attributes:
        counts: by layer ``(C,)``: on how many images a filter was on.
        images: N.
        tolerance: the share of images that a filter may differ on and still count as silent or energetic.
        blank: by layer, on how many images no filter was on at all; layers that this never happened in are left out.
            Behind such a layer a network without shortcuts answers the same, whatever the image; see `keep_one` of
            `decouple`.
    """

    counts: Mapping[str, Tensor]
    images: int
    tolerance: float = 0.0
    blank: Mapping[str, int] = field(default_factory=dict)

    @property
    def frequency(self) -> dict[str, Tensor]:
        """By layer ``(C,)``: the share of the images that a filter was on for."""
        return {name: counts.double() / self.images for name, counts in self.counts.items()}

    @property
    def silent(self) -> dict[str, Tensor]:
        """By layer ``(C,)``: True for filters that were on for no image."""
        return {name: share <= self.tolerance for name, share in self.frequency.items()}

    @property
    def energetic(self) -> dict[str, Tensor]:
        """By layer ``(C,)``: True for filters that were on for all images."""
        return {name: share >= 1 - self.tolerance for name, share in self.frequency.items()}

    @property
    def dynamic(self) -> dict[str, Tensor]:
        """By layer ``(C,)``: True for the other filters."""
        energetic = self.energetic
        return {name: ~(silent | energetic[name]) for name, silent in self.silent.items()}

    @property
    def shares(self) -> dict[str, float]:
        """The shares of ``dynamic``, ``silent`` and ``energetic`` filters in all layers together."""
        total = sum(len(counts) for counts in self.counts.values())
        sets = {"dynamic": self.dynamic, "silent": self.silent, "energetic": self.energetic}
        return {name: sum(int(mask.sum()) for mask in masks.values()) / total for name, masks in sets.items()}

    @property
    def mean_on(self) -> float:
        """The mean share of filters that an image uses."""
        total = sum(len(counts) for counts in self.counts.values())
        return sum(int(counts.sum()) for counts in self.counts.values()) / (total * self.images)

    @property
    def entropy(self) -> float:
        """The sum of the filters' entropies in bits: a path says no more about its image, ``H(Z) <= this``."""
        share = torch.cat(list(self.frequency.values()))
        return float(
            -(torch.xlogy(share, share) + torch.xlogy(1 - share, 1 - share)).sum() / torch.log(torch.tensor(2))
        )

    def table(self) -> list[dict[str, Any]]:
        """Return a row for each layer: name, filters, how many are in each state, and the mean share that is on."""
        sets = {"dynamic": self.dynamic, "silent": self.silent, "energetic": self.energetic}
        return [
            {
                "layer": name,
                "filters": len(counts),
                **{state: int(masks[name].sum()) for state, masks in sets.items()},
                "on": float(counts.double().mean() / self.images),
            }
            for name, counts in self.counts.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; `from_json` reads it back."""
        counts = {name: values.tolist() for name, values in self.counts.items()}
        return {"images": self.images, "tolerance": self.tolerance, "counts": counts, "blank": dict(self.blank)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> States:
        """Return what `to_json` wrote."""
        counts = {name: torch.tensor(values) for name, values in data["counts"].items()}
        return cls(counts, data["images"], data["tolerance"], data.get("blank", {}))


def measure_states(decoupled: Decoupled, images: Tensor, *, tolerance: float = 0.0, batch: int = 64) -> States:
    """Return the states of all controlled filters on some images, by the codes of eval mode.

    Args:
        decoupled: the network.
        images: ``(N, C, H, W)``.
        tolerance: share of the images, less than 1/2; 0 counts one deviating image.
        batch: how many images are computed at once.

    Raises:
        SettingsError: the tolerance is out of range.
        DataError: there are no images, or of another shape.
    """
    check_tolerance(tolerance)
    return count_states(decoupled.codes(images, batch=batch), tolerance=tolerance)


def count_states(codes: Mapping[str, Tensor], *, tolerance: float = 0.0) -> States:
    """Return the states that the codes ``(N, C)`` of some images mean.

    Raises:
        DataError: there is no layer or no image.
        SettingsError: the tolerance is out of range.
    """
    check_tolerance(tolerance)
    if not codes or not len(next(iter(codes.values()))):
        raise DataError("Wanted the codes of at least one layer on at least one image; got none.")
    images = len(next(iter(codes.values())))
    blank = {name: int((~code.bool().any(1)).sum()) for name, code in codes.items()}
    counts = {name: code.long().sum(0) for name, code in codes.items()}
    return States(counts, images, tolerance, {name: count for name, count in blank.items() if count})


def check_tolerance(tolerance: float) -> None:
    """Check a tolerance.

    Raises:
        SettingsError: it is not between 0 and 1/2.
    """
    if not 0 <= tolerance < 0.5:
        raise SettingsError(f"tolerance must be a share of the images from 0 to below 0.5; got {tolerance}.")
