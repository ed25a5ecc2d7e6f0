"""What two chains or circuits have in common, and the paths of each class through one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurochains.explorer.desk import Desk
from neurochains.explorer.runs import Run
from neurochains.network import Filter

__all__ = ["Shared", "paths_of", "shared"]


@dataclass(frozen=True, slots=True)
class Shared:
    """The filters of two runs: in both, in the first alone, in the second alone."""

    both: tuple[Filter, ...]
    first: tuple[Filter, ...]
    second: tuple[Filter, ...]


def shared(first: Run, second: Run) -> Shared:
    """Return what two chains or circuits have in common and what they have alone.

    With one twice, everything is in both.
    """
    one, other = first.units, second.units
    in_one, in_other = set(one), set(other)
    return Shared(
        tuple(unit for unit in one if unit in in_other),
        tuple(unit for unit in one if unit not in in_other),
        tuple(unit for unit in other if unit not in in_one),
    )


def paths_of(desk: Desk, number: int) -> dict[int, list[Any]]:
    """Return the best paths of each class through a chain, by output; computed once."""
    return desk.paths.get(number, desk.runs[number].paths)
