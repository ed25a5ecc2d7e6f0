"""Confidence intervals by the bootstrap over sub-networks.

What is measured of several sub-networks (points, images, filters) is not independent within one of them, so whole
sub-networks are drawn: with replacement, as many as there are, again and again; the statistic is taken each time, and
the interval holds the middle share of what comes out (percentile bootstrap; Efron 1979).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from neurochains.errors import SettingsError

__all__ = ["Interval", "bootstrap", "interval_of_mean"]

Group = TypeVar("Group")


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic of `count` sub-networks, and the ends of its interval, which take two of them at least.

    `value` is None where the statistic has none, such as a correlation of what does not vary.
    """

    value: float | None
    low: float | None
    high: float | None
    count: int

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return asdict(self)


def bootstrap(
    groups: Sequence[Group],
    statistic: Callable[[Sequence[Group]], float | None],
    *,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic of groups with its interval; draws for which it has no value are passed over.

    Args:
        groups: what was measured of each sub-network.
        statistic: from groups to a number.
        level: the share of draws inside the interval.
        draws: how often groups are drawn.
        seed: of the draws.

    Raises:
        SettingsError: the level is no share, or there are no draws.
    """
    if not 0 < level < 1 or draws < 1:
        raise SettingsError(f"A level lies between 0 and 1 and draws are 1 or more; got {level} and {draws}.")
    value = _finite(statistic(groups)) if groups else None
    if len(groups) < 2 or value is None:
        return Interval(value, None, None, len(groups))
    dice = np.random.default_rng(seed)
    drawn = (statistic([groups[i] for i in dice.integers(len(groups), size=len(groups))]) for _ in range(draws))
    values = [found for found in map(_finite, drawn) if found is not None]
    if not values:
        return Interval(value, None, None, len(groups))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high, len(groups))


def interval_of_mean(
    values: Sequence[float | None], *, level: float = 0.95, draws: int = 1000, seed: int = 0
) -> Interval:
    """Return the mean of one number for each sub-network with its interval, None and NaN left out."""
    known = np.array([value for value in values if value is not None and math.isfinite(value)], dtype=float)
    if len(known) < 2:
        return Interval(float(known[0]) if len(known) else None, None, None, len(known))
    rows = np.random.default_rng(seed).integers(len(known), size=(draws, len(known)))
    low, high = np.quantile(known[rows].mean(1), [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(float(known.mean()), low, high, len(known))


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
