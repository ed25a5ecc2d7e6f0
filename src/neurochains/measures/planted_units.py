"""The parts of planted networks: glyphs, and units whose weights are written by hand.

A unit answers 1 at exactly the places where it finds what it stands for, and 0 elsewhere:

- a *template* finds a 3 x 3 glyph of ink (1) on white (0): +4/3 on ink, -4/3 on white, so that one wrong pixel is
  enough to stay silent;
- a *conjunction* finds several other units at given offsets: 4/3 for each, silent when one is missing.

Both have a margin of 1/3 on the silent side, so small noise on the weights leaves them what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

__all__ = ["GLYPHS", "INPUT", "Tap", "Unit", "conjunction", "relay", "scaled", "stack", "template"]

INPUT = "input"
GAIN = 4 / 3
SLACK = 0.75  # a unit answers when what it counts is above the wanted number less this

GLYPHS: dict[str, tuple[str, str, str]] = {
    "bar": ("...", "###", "..."),
    "post": (".#.", ".#.", ".#."),
    "fall": ("#..", ".#.", "..#"),
    "rise": ("..#", ".#.", "#.."),
    "ring": ("###", "#.#", "###"),
    "cross": (".#.", "###", ".#."),
    "hook": ("#..", "#..", "###"),
    "dot": ("...", ".#.", "..."),
    "mark": ("#.#", ".#.", "#.#"),
}
"""The 3 x 3 glyphs that images are made of."""


@dataclass(frozen=True, slots=True)
class Tap:
    """What a unit reads: another unit's map, `down` rows below and `right` columns to the right, times a weight."""

    source: str
    weight: float
    down: int = 0
    right: int = 0


@dataclass(frozen=True, slots=True)
class Unit:
    """One filter, before it has a channel."""

    name: str
    taps: tuple[Tap, ...]
    bias: float


def template(name: str, glyph: str) -> Unit:
    """Return the unit that finds a glyph alone in its 3 x 3 window."""
    cells = [(row, column, char == "#") for row, line in enumerate(GLYPHS[glyph]) for column, char in enumerate(line)]
    ink = sum(inked for *_, inked in cells)
    taps = tuple(Tap(INPUT, GAIN if inked else -GAIN, row - 1, column - 1) for row, column, inked in cells)
    return Unit(name, taps, -GAIN * (ink - SLACK))


def conjunction(name: str, parts: Sequence[tuple[str, int, int]], *, without: Sequence[Tap] = ()) -> Unit:
    """Return the unit that finds all of some units ``(name, down, right)``; taps of `without` may hold it back."""
    taps = tuple(Tap(source, GAIN, down, right) for source, down, right in parts)
    return Unit(name, (*taps, *without), -GAIN * (len(parts) - SLACK))


def relay(name: str, source: str, *, right: int = 0) -> Unit:
    """Return the unit that hands another one on, from some columns to the right."""
    return Unit(name, (Tap(source, 1.0, 0, right),), 0.0)


def scaled(unit: Unit, name: str, factor: float) -> Unit:
    """Return a unit under another name that answers `factor` where the given one answers 1."""
    taps = tuple(replace(tap, weight=tap.weight * factor) for tap in unit.taps)
    return Unit(name, taps, unit.bias * factor)


def stack(units: Sequence[Unit], inputs: Mapping[str, int], kernel: int) -> tuple[Tensor, Tensor]:
    """Return the weights ``(O, I, kernel, kernel)`` and biases ``(O,)`` of a convolution that holds units in order.

    Args:
        units: one for each output channel.
        inputs: the channel on which each source is read.
        kernel: odd; offsets of taps reach half of it.
    """
    weight_OIKK = torch.zeros(len(units), max(inputs.values()) + 1, kernel, kernel)
    for channel, unit in enumerate(units):
        for tap in unit.taps:
            weight_OIKK[channel, inputs[tap.source], kernel // 2 + tap.down, kernel // 2 + tap.right] += tap.weight
    return weight_OIKK, torch.tensor([unit.bias for unit in units])
