"""What a search is to keep: a fidelity, an agreement, or a size."""

from __future__ import annotations

import math
from dataclasses import dataclass

from neurochains.chains.live import LiveNetwork
from neurochains.errors import SettingsError

__all__ = ["Goal", "make_goal"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The goal of a search: the divergence allowed, the share of predictions to keep, the number of units to end at."""

    divergence: float = math.inf
    agreement: float = 0.0
    least: int = 1

    def fits(self, divergence: float, live: LiveNetwork) -> bool:
        """Return whether a live network, whose divergence is known, keeps the goal."""
        return divergence <= self.divergence and (not self.agreement or self._agreement(live) >= self.agreement)

    def comfortable(self, divergence: float, reserve: float, live: LiveNetwork) -> bool:
        """Return whether further tuning is not worth its time."""
        return divergence <= reserve * self.limit and self.fits(divergence, live)

    @property
    def limit(self) -> float:
        """The divergence to stay under on the way: the goal's own, or a usual one where the goal is another."""
        return self.divergence if math.isfinite(self.divergence) else 0.5 if self.agreement else 0.02

    @property
    def is_size(self) -> bool:
        """Whether all that is asked for is a number of units."""
        return math.isinf(self.divergence) and not self.agreement

    def hopeless(self, before: float, after: float, steps: int) -> bool:
        """Return whether the goal stays out of reach if the remaining steps gain what the last one did."""
        return after > self.divergence and after * (after / before) ** steps > self.divergence

    def could_spare(self, without: float) -> bool:
        """Return whether a unit may go, as far as its leave-one-out divergence tells; a size is kept as it is."""
        if math.isfinite(self.divergence):
            return without <= self.divergence
        return bool(self.agreement) and math.isfinite(without)

    def _agreement(self, live: LiveNetwork) -> float:
        same = live.outputs.argmax(-1) == live.original.argmax(-1)
        return float(same.double().mean())  # float32 would put 7 of 10 below 0.7


def make_goal(*, fidelity: float | None, agreement: float | None, size: int | float | None, total: int) -> Goal:
    """Return the goal that exactly one of three options asks for; a fidelity of 0.05 if none does.

    Raises:
        SettingsError: several are given, or a value is out of range.
    """
    given = {"fidelity": fidelity, "agreement": agreement, "size": size}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise SettingsError(f"Give one goal; got {' and '.join(named)}.")
    if agreement is not None:
        _check(0 < agreement <= 1, f"An agreement is a share of predictions above 0, at most 1; got {agreement}.")
        return Goal(agreement=float(agreement))
    if size is not None:
        return Goal(least=_units(size, total))
    fidelity = 0.05 if fidelity is None else fidelity
    _check(
        fidelity > 0 and math.isfinite(fidelity), f"A fidelity is a divergence above 0, such as 0.05; got {fidelity}."
    )
    return Goal(divergence=float(fidelity))


def _units(size: int | float, total: int) -> int:
    if isinstance(size, bool) or not isinstance(size, (int, float)):
        raise SettingsError(f"A size is a number of filters (50) or a fraction of them (0.1); got {size!r}.")
    if isinstance(size, float):
        _check(0 < size <= 1, f"A size as a fraction is above 0, at most 1; got {size}.")
        return max(1, round(size * total))
    _check(size >= 1, f"A size is at least 1 filter; got {size}.")
    _check(size <= total, f"The network has {total} scored filters; a size is 1 to {total}, got {size}.")
    return size


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise SettingsError(message)
