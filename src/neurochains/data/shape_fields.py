"""Shapes and textures as signed distances: negative inside, positive outside, in pixels.

A distance turns into an anti-aliased picture by `coverage`; distances join by maximum (and),
minimum (or) and negation (not). ``x`` and ``y`` are pixel coordinates in the shape's own frame:
the origin is its centre and a corner, if it has any, points along +x.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["CORNERS", "SHAPE_FIELDS", "TEXTURE_FIELDS", "Array", "corner_field", "coverage", "turned"]

Array = NDArray[np.float64]
ShapeField = Callable[[Array, Array, float], Array]
TextureField = Callable[[Array, Array, float], Array]

CORNERS = {"disc": 0, "square": 4, "triangle": 3, "star": 5}
"""Corners that point outwards."""

_REACH = {"square": 1.22, "triangle": 1.38, "star": 1.36}  # corner distance for radius 1: areas look alike
_STAR_WAIST = 0.52  # inner over outer radius


def coverage(distance: Array) -> Array:
    """Return how much of each pixel lies inside, 0 to 1, for an edge that is straight within the pixel."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def turned(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """Return the coordinates in a frame turned by ``angle`` radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def corner_field(x: Array, y: Array, shape: str, radius: float) -> Array:
    """Return the distance to the shape's nearest outward corner; infinite for a disc."""
    nearest = np.full_like(x, np.inf)
    for angle in 2 * np.pi * np.arange(CORNERS[shape]) / max(1, CORNERS[shape]):
        reach = _REACH[shape] * radius
        away = (x - reach * np.cos(angle)) ** 2 + (y - reach * np.sin(angle)) ** 2
        nearest = np.minimum(nearest, away)
    return np.sqrt(nearest)


def _disc(x: Array, y: Array, radius: float) -> Array:
    return np.hypot(x, y) - radius


def _polygon(x: Array, y: Array, reach: float, sides: int) -> Array:
    angles = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    sides_far = [np.cos(angle) * x + np.sin(angle) * y for angle in angles]
    return np.maximum.reduce(sides_far) - reach * np.cos(np.pi / sides)


def _square(x: Array, y: Array, radius: float) -> Array:
    return _polygon(x, y, _REACH["square"] * radius, 4)


def _triangle(x: Array, y: Array, radius: float) -> Array:
    return _polygon(x, y, _REACH["triangle"] * radius, 3)


def _star(x: Array, y: Array, radius: float) -> Array:
    """All ten edges are one edge after folding the plane into a wedge between a tip and a waist."""
    reach = _REACH["star"] * radius
    wedge = 2 * np.pi / 5
    angle = np.arctan2(y, x)
    angle = np.abs(angle - wedge * np.round(angle / wedge))
    length = np.hypot(x, y)
    waist = _STAR_WAIST * reach * np.exp(0.5j * wedge)
    edge = waist - reach
    normal = -1j * edge / abs(edge)
    return normal.real * (length * np.cos(angle) - reach) + normal.imag * length * np.sin(angle)


def _wave(x: Array, period: float) -> Array:
    """Return the distance to bands of half a period, the first centred on 0."""
    phase = x / period
    return (np.abs(phase - np.round(phase)) - 0.25) * period


def _striped(x: Array, _: Array, radius: float) -> Array:
    return _wave(x, 0.58 * radius)


def _dotted(x: Array, y: Array, radius: float) -> Array:
    """Dots on a square grid, one third of the area."""
    period = 0.56 * radius
    across = x - period * np.round(x / period)
    along = y - period * np.round(y / period)
    return np.hypot(across, along) - 0.32 * period


def _checked(x: Array, y: Array, radius: float) -> Array:
    across, along = _wave(x, 0.86 * radius), _wave(y, 0.86 * radius)
    return np.sign(across) * np.sign(along) * np.minimum(np.abs(across), np.abs(along))


def _ringed(x: Array, y: Array, radius: float) -> Array:
    return _wave(np.hypot(x, y), 0.54 * radius)


SHAPE_FIELDS: dict[str, ShapeField] = {"disc": _disc, "square": _square, "triangle": _triangle, "star": _star}
"""``field(x, y, radius)`` of each shape."""

TEXTURE_FIELDS: dict[str, TextureField] = {
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
    "ringed": _ringed,
}
"""``field(x, y, radius)`` of each texture's marks on a shape of that radius."""
