"""What is planted: which edges make which corners, which of these make which shapes, and how many decoys stand around.

A shape is two rows of two glyphs, seven pixels square. In the variants without a skip its rows are corners; where edges
skip a layer, the upper row is a corner and the lower one two edges, read past the layer of corners. The rows of a shape
that is asked for have no glyph in common, so that a glyph that is missing shows in one of them alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["DESIGNS", "SIZES", "VARIANTS", "Design", "design_of"]

Pair = tuple[str, str]

VARIANTS = ("plain", "copies", "inhibition", "residual", "concatenated", "trained")
SIZES = ("small", "medium", "large")
_SKIPPING = ("residual", "concatenated")


@dataclass(frozen=True, slots=True)
class Design:
    """A planted network on paper.

    `corners` are pairs of glyphs side by side; `shapes` are (upper row, lower row): the upper row is a corner, the
    lower one a corner too, or a pair of glyphs where `direct`. The first `asked` shapes are the classes of the task.
    """

    corners: Mapping[str, Pair]
    shapes: Mapping[str, tuple[str, str | Pair]]
    asked: int
    width: int

    @property
    def direct(self) -> bool:
        """Whether lower rows are read past the layer of corners."""
        return any(isinstance(lower, tuple) for _, lower in self.shapes.values())

    @property
    def asked_shapes(self) -> tuple[str, ...]:
        """The shapes that the task shows."""
        return tuple(self.shapes)[: self.asked]

    def rows(self, shape: str) -> tuple[Pair, Pair]:
        """Return the glyphs of a shape, row by row."""
        upper, lower = self.shapes[shape]
        return self.corners[upper], lower if isinstance(lower, tuple) else self.corners[lower]

    @property
    def edges(self) -> tuple[str, ...]:
        """All glyphs that some shape is made of, each once."""
        rows = [row for shape in self.shapes for row in self.rows(shape)]
        return tuple(dict.fromkeys(glyph for row in rows for glyph in row))


_ROWS: dict[str, Pair] = {
    "bar-post": ("bar", "post"),
    "post-bar": ("post", "bar"),
    "fall-post": ("fall", "post"),
    "bar-fall": ("bar", "fall"),
    "fall-rise": ("fall", "rise"),
    "rise-fall": ("rise", "fall"),
    "ring-bar": ("ring", "bar"),
    "post-cross": ("post", "cross"),
    "cross-ring": ("cross", "ring"),
    "fall-hook": ("fall", "hook"),
    "fall-bar": ("fall", "bar"),
    "post-fall": ("post", "fall"),
    "hook-bar": ("hook", "bar"),
}


def _design(shapes: Mapping[str, tuple[str, str | Pair]], asked: int, width: int) -> Design:
    named = [row for rows in shapes.values() for row in rows if isinstance(row, str)]
    return Design({name: _ROWS[name] for name in dict.fromkeys(named)}, shapes, asked, width)


DESIGNS: dict[tuple[str, bool], Design] = {
    ("small", False): _design(
        {
            "gate": ("bar-post", "fall-rise"),
            "kite": ("bar-post", "rise-fall"),
            "mill": ("post-bar", "fall-rise"),
        },
        asked=2,
        width=8,
    ),
    ("medium", False): _design(
        {
            "gate": ("bar-post", "fall-rise"),
            "kite": ("bar-post", "rise-fall"),
            "mill": ("post-bar", "fall-rise"),
            "raft": ("bar-fall", "fall-rise"),
        },
        asked=3,
        width=10,
    ),
    ("large", False): _design(
        {
            "gate": ("bar-post", "fall-rise"),
            "kite": ("rise-fall", "post-bar"),
            "mill": ("ring-bar", "post-cross"),
            "raft": ("cross-ring", "fall-rise"),
            "fern": ("bar-fall", "rise-fall"),
        },
        asked=4,
        width=12,
    ),
    ("small", True): _design(
        {
            "gate": ("bar-post", ("ring", "cross")),
            "kite": ("fall-post", ("cross", "ring")),
            "mill": ("bar-post", ("cross", "cross")),
        },
        asked=2,
        width=8,
    ),
    ("medium", True): _design(
        {
            "gate": ("bar-post", ("ring", "cross")),
            "kite": ("fall-bar", ("cross", "rise")),
            "mill": ("post-fall", ("rise", "ring")),
            "raft": ("bar-post", ("rise", "cross")),
        },
        asked=3,
        width=10,
    ),
    ("large", True): _design(
        {
            "gate": ("bar-post", ("ring", "cross")),
            "kite": ("fall-hook", ("cross", "rise")),
            "mill": ("post-fall", ("rise", "ring")),
            "raft": ("hook-bar", ("ring", "rise")),
            "fern": ("bar-post", ("rise", "cross")),
        },
        asked=4,
        width=12,
    ),
}
"""Designs by size, and by whether edges skip a layer."""


def design_of(variant: str, size: str) -> Design:
    """Return the design of a variant at a size."""
    return DESIGNS[size, variant in _SKIPPING]
