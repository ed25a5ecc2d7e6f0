"""The images of planted networks: shapes, and the same shapes with one glyph missing, pair by pair.

Each shape stands at four places, once whole and once without one of its four glyphs; where a mark holds shapes back,
two of the places are shown a third time, with the mark. Nothing else differs within a pair, so a filter whose map is
the only one that differs is needed to tell the two apart: they are its *witnesses*.

Shapes: N images of 20 x 20 pixels, ink 1 on white 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neurochains.data.task import Task
from neurochains.measures.planted_designs import Design
from neurochains.measures.planted_networks import SIDE
from neurochains.measures.planted_units import GLYPHS

__all__ = ["PLACES", "Pair", "Sheet", "draw_sheet"]

PLACES = 4
NOTHING = "nothing"
_BLOCK = (7, 11)  # rows and columns that a shape and its mark take


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that differ in one thing: the shape, and which of its glyphs is missing (0 to 3), or -1 for a mark."""

    whole: int
    changed: int
    shape: str
    missing: int


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """Images ``(N, 1, 20, 20)`` with the class of each, and the pairs among them."""

    images: NDArray[np.float32]
    labels: tuple[str, ...]
    pairs: tuple[Pair, ...]

    def task(self, class_names: Sequence[str], *, held_out: Task | None = None) -> Task:
        """Return the task of these images."""
        pixels = torch.from_numpy((255 * (1 - self.images)).astype(np.uint8))
        return Task(
            self.images,
            [class_names.index(label) for label in self.labels],
            class_names,
            pixels=pixels,
            held_out=held_out,
        )


def draw_sheet(design: Design, dice: np.random.Generator, *, marks: bool) -> Sheet:
    """Return the images of a design's task, at random places."""
    images: list[NDArray[np.float32]] = []
    labels: list[str] = []
    pairs: list[Pair] = []
    for shape in design.asked_shapes:
        for missing in range(PLACES):
            paper, corner = _paper(dice)
            changes = [missing, -1] if marks and missing < 2 else [missing]
            first = len(images)
            drawn = [_with_shape(paper, corner, design, shape, change) for change in (None, *changes)]
            images += drawn
            labels += [shape, *[NOTHING] * len(changes)]
            pairs += [Pair(first, first + 1 + place, shape, change) for place, change in enumerate(changes)]
    return Sheet(np.stack(images)[:, None], tuple(labels), tuple(pairs))


def _paper(dice: np.random.Generator) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Return white paper, with a dot on every second sheet, and the place for a shape far from the dot."""
    top, left = (int(dice.integers(0, SIDE - length + 1)) for length in _BLOCK)
    paper = np.zeros((SIDE, SIDE), dtype=np.float32)
    if dice.random() < 0.5:
        free = np.ones_like(paper, dtype=bool)
        free[max(top - 2, 0) : top + _BLOCK[0] + 2, max(left - 2, 0) : left + _BLOCK[1] + 2] = False
        rows, columns = free.nonzero()
        chosen = int(dice.integers(len(rows)))
        paper[rows[chosen], columns[chosen]] = 1.0
    return paper, (top, left)


def _with_shape(
    paper: NDArray[np.float32], corner: tuple[int, int], design: Design, shape: str, change: int | None
) -> NDArray[np.float32]:
    """Return a copy of the paper with a shape on it: whole, without one glyph, or with a mark."""
    drawn = paper.copy()
    glyphs = [glyph for row in design.rows(shape) for glyph in row]
    for place, glyph in enumerate(glyphs):
        if place != change:
            _stamp(drawn, glyph, corner[0] + 4 * (place // 2), corner[1] + 4 * (place % 2))
    if change == -1:
        _stamp(drawn, "mark", corner[0] + 2, corner[1] + 8)
    return drawn


def _stamp(drawn: NDArray[np.float32], glyph: str, top: int, left: int) -> None:
    drawn[top : top + 3, left : left + 3] = [[char == "#" for char in line] for line in GLYPHS[glyph]]
