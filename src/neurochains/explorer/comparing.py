"""Chains in words and numbers: what they have in common, and the paths of each class through one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from neurochains.chains import Chain
from neurochains.explorer.desk import Desk
from neurochains.network import Filter

__all__ = ["Shared", "paths_of", "shared", "units_of"]


@dataclass(frozen=True, slots=True)
class Shared:
    """The filters of two chains: in both, in the first alone, in the second alone."""

    both: tuple[Filter, ...]
    first: tuple[Filter, ...]
    second: tuple[Filter, ...]


def units_of(chain: Chain) -> list[Filter]:
    """Return the kept filters of a chain, layer by layer."""
    return chain.subnetwork.list_filters()


def shared(first: Chain, second: Chain) -> Shared:
    """Return what two chains have in common and what they have alone.

    With one chain twice, everything is in both.
    """
    one, other = units_of(first), units_of(second)
    in_one, in_other = set(one), set(other)
    return Shared(
        tuple(unit for unit in one if unit in in_other),
        tuple(unit for unit in one if unit not in in_other),
        tuple(unit for unit in other if unit not in in_one),
    )


def paths_of(desk: Desk, number: int) -> dict[int, list[Any]]:
    """Return the best paths of each class through a chain, by output; computed once."""
    return desk.paths.get(number, lambda: desk.chains[number][1].paths(3))
