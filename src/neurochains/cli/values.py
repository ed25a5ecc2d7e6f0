"""What stands on the command line, turned into values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import Any

from typer.core import TyperCommand

from neurochains.errors import SettingsError

__all__ = ["ManyValues", "given", "one_target", "parse_shape", "parse_size", "spread"]

_SHAPE = re.compile(r"\d+(?:[x,]\d+){0,2}")
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%")


class ManyValues(TyperCommand):
    """A command whose list options take several values at once: ``--classes a b`` like ``--classes a --classes b``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Return what is left of the arguments after the options are read."""
        many = {flag for option in self.params if getattr(option, "multiple", False) for flag in option.opts}
        return super().parse_args(ctx, list(spread(args, many)))


def spread(args: Sequence[str], many: Collection[str]) -> Iterator[str]:
    """Yield the arguments with each flag of ``many`` repeated before each of its values.

    >>> list(spread(["--classes", "a", "b", "--out", "c"], {"--classes"}))
    ['--classes', 'a', '--classes', 'b', '--out', 'c']
    """
    flag, bare = "", False
    for position, arg in enumerate(args):
        if arg == "--":
            yield from args[position:]
            return
        name, equals, _ = arg.partition("=")
        if arg.startswith("-"):
            flag, bare = (name, not equals) if name in many else ("", False)
        elif flag and not bare:
            yield flag
        else:
            bare = False
        yield arg


def one_target(*, fidelity: float | None, size: str | None, agreement: float | None) -> dict[str, Any]:
    """Return what an extraction aims at, as the one keyword of `extract`; none of them means its default.

    Raises:
        SettingsError: more than one is given, or the size is no size.
    """
    given = {"fidelity": fidelity, "size": None if size is None else parse_size(size), "agreement": agreement}
    chosen = {name: value for name, value in given.items() if value is not None}
    if len(chosen) > 1:
        flags = " and ".join(f"--{name}" for name in chosen)
        raise SettingsError(f"{flags} cannot be had at once. Give one of --fidelity, --size and --agreement.")
    return chosen


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given, choices by their names and lists as tuples.

    >>> given(steps=0, device=None, units=["hidden"])
    {'steps': 0, 'units': ('hidden',)}
    """
    return {name: _plain(value) for name, value in options.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_plain, value))
    return value.value if isinstance(value, Enum) else value


def parse_size(text: str) -> int | float:
    """Return a size: a whole number of filters as an int, a share of them as a float.

    >>> parse_size("150"), parse_size("0.1"), parse_size("10%")
    (150, 0.1, 0.1)

    Raises:
        SettingsError: it is neither.
    """
    percent = _PERCENT.fullmatch(text.strip())
    try:
        return float(percent[1]) / 100 if percent else int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise SettingsError(
            f"--size must be a number of filters (150) or a share of them (0.1, 10%); got {text!r}."
        ) from None


def parse_shape(text: str) -> tuple[int | None, int, int]:
    """Return channels (None if not given), height and width of an input.

    >>> parse_shape("224"), parse_shape("160x240"), parse_shape("1x28x28")
    ((None, 224, 224), (None, 160, 240), (1, 28, 28))

    Raises:
        SettingsError: it is none.
    """
    if _SHAPE.fullmatch(text) is None:
        raise SettingsError(
            f"--input-size must be SIDE, HEIGHTxWIDTH or CHANNELSxHEIGHTxWIDTH in pixels; got {text!r}."
        )
    numbers = [int(part) for part in re.split("[x,]", text)]
    channels = numbers[0] if len(numbers) == 3 else None
    height, width = (numbers * 2)[:2] if len(numbers) == 1 else numbers[-2:]
    return channels, height, width
