"""What may stand in a plan, value by value, and where in its file it stands, for messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neurochains.errors import SettingsError, did_you_mean

__all__ = [
    "FLAG",
    "NOISE",
    "NUMBERS",
    "TEXT",
    "TEXTS",
    "Check",
    "Key",
    "Place",
    "check_keys",
    "check_table",
    "counts",
    "whole",
]

Key = tuple[str | int, ...]
"""Where a value stands in a plan: ``("models", 0, "weights")``."""


@dataclass(frozen=True, slots=True)
class Check:
    """What a value must be, in words, and the function that says whether it is."""

    wanted: str
    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a table of a plan stands: its file, if it has one, the lines of its keys, and the way to it."""

    source: str = "the plan"
    lines: Mapping[Key, int] = field(default_factory=dict)
    way: Key = ()

    def inside(self, *keys: str | int) -> Place:
        """Return the place of a value further in."""
        return Place(self.source, self.lines, (*self.way, *keys))

    def error(self, message: str, key: str | None = None) -> SettingsError:
        """Return the error for a key at this place, or for the place itself."""
        way = self.way if key is None else (*self.way, key)
        line = next((self.lines[way[:end]] for end in range(len(way), 0, -1) if way[:end] in self.lines), None)
        where = self.source if line is None else f"{self.source}, line {line}"
        return SettingsError(f"{where}: {message}")

    def __str__(self) -> str:
        words = ""
        for key in self.way:
            words += f"[{key}]" if isinstance(key, int) else f".{key}" if words else key
        return words or "the plan"


def whole(least: int) -> Check:
    """Return the check for a whole number."""
    return Check(f"a whole number of {least} or more", lambda value: _is_whole(value, least))


def counts(least: int) -> Check:
    """Return the check for a whole number or a list of them."""

    def holds(value: Any) -> bool:
        several = value if _is_list(value) else [value]
        return bool(several) and all(_is_whole(one, least) for one in several)

    return Check(f"a whole number of {least} or more, or a list of them", holds)


TEXT = Check("text", lambda value: isinstance(value, str) and bool(value))
FLAG = Check("true or false", lambda value: isinstance(value, bool))
NUMBERS = Check(
    "a list of numbers", lambda value: _is_list(value) and all(_is_number(one) for one in value) and bool(value)
)
TEXTS = Check(
    "a list of names",
    lambda value: _is_list(value) and all(isinstance(one, (str, int)) for one in value) and bool(value),
)


NOISE = Check(
    "a number of 0 or more, or a list of them",
    lambda value: all(_is_number(one) and one >= 0 for one in (value if _is_list(value) else [value])),
)


def check_table(value: Any, place: Place, checks: Mapping[str, Check]) -> dict[str, Any]:
    """Return a table of a plan, its lists as tuples, after checking its keys and values.

    Raises:
        SettingsError: it is no table, has an unknown key, or a value that cannot be.
    """
    table = check_keys(value, place, checks)
    for key, check in checks.items():
        if key in table and not check.holds(table[key]):
            raise place.error(f"{key} of {place} must be {check.wanted}; got {table[key]!r}.", key)
    return {key: _frozen(entry) for key, entry in table.items()}


def check_keys(value: Any, place: Place, known: Collection[str]) -> dict[str, Any]:
    """Return a table of a plan after checking its keys.

    Raises:
        SettingsError: it is no table, or has an unknown key; names the nearest.
    """
    if not isinstance(value, Mapping):
        raise place.error(f"{place} must be a table of keys and values; got {type(value).__name__}.")
    for key in value:
        if key not in known:
            hint = did_you_mean(str(key), known)
            listed = f"There are {', '.join(known)}."
            raise place.error(f"{place} has no key {str(key)!r}. {hint or listed}", str(key))
    return dict(value)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if _is_list(value) else value


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
