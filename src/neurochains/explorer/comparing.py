"""What two chains or circuits have in common, and the paths of each class through one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurochains.explorer.active import on_units
from neurochains.explorer.desk import Desk
from neurochains.explorer.runs import DecoupledRun
from neurochains.explorer.view import View
from neurochains.network import Filter

__all__ = ["Shared", "paths_of", "shared", "units_of"]


@dataclass(frozen=True, slots=True)
class Shared:
    """The filters of two runs: in both, in the first alone, in the second alone."""

    both: tuple[Filter, ...]
    first: tuple[Filter, ...]
    second: tuple[Filter, ...]


def units_of(desk: Desk, number: int, view: View, uploaded: str | None = None) -> tuple[Filter, ...]:
    """Return the filters of a chain or circuit, or those of a decoupled network that are on for the chosen image."""
    run = desk.runs[number]
    return on_units(desk, number, view, uploaded) if isinstance(run, DecoupledRun) else run.units


def shared(one: tuple[Filter, ...], other: tuple[Filter, ...]) -> Shared:
    """Return what the filters of two runs have in common and what each has alone.

    With one twice, everything is in both.
    """
    in_one, in_other = set(one), set(other)
    return Shared(
        tuple(unit for unit in one if unit in in_other),
        tuple(unit for unit in one if unit not in in_other),
        tuple(unit for unit in other if unit not in in_one),
    )


def paths_of(desk: Desk, number: int) -> dict[int, list[Any]]:
    """Return the best paths of each class through a chain, by output; computed once."""
    run = desk.runs[number]
    return desk.paths.get(number, dict if isinstance(run, DecoupledRun) else run.paths)
