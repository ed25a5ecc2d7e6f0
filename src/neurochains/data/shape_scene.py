"""One picture of the shapes data set: an object on a cluttered background, with its part masks.

1. a backdrop: two muted colours blending across the image, with soft unevenness,
2. clutter on it: blobs, lines, and fragments that look like small pieces of other objects,
3. the object: silhouette, outline inside its edge, filled in its colour, texture marks on the fill,
4. twigs in front of it all: a few thin lines,
5. the camera: brightness, contrast and noise.

Every scene takes the same number of random values in the same order whatever is drawn, so the object
can be exchanged and all else stays. Only `Generator.random` is used: its stream is the same everywhere.

Shapes: C = 3 colours, H x W pixels, P parts. Pictures are float64, 0 to 1, until the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurochains.data.shape_fields import (
    SHAPE_FIELDS,
    TEXTURE_FIELDS,
    Array,
    corner_field,
    coverage,
    turned,
)
from neurochains.shapes_spec import COLOURS, SHAPES, SIDE, TEXTURES

__all__ = ["picture"]

_PALETTE = {
    "red": (0.83, 0.22, 0.20),
    "yellow": (0.95, 0.74, 0.18),
    "green": (0.20, 0.62, 0.38),
    "blue": (0.20, 0.42, 0.80),
}
_LIGHT = np.array([0.97, 0.95, 0.90])
_DARK = np.array([0.13, 0.12, 0.17])
_ROW, _COLUMN = np.mgrid[0:SIDE, 0:SIDE] + 0.5
_KNOTS = 7
_BLOBS, _LINES, _FRAGMENTS, _TWIGS = 4, 3, 4, 3


@dataclass(frozen=True, slots=True)
class _Pose:
    """Where an object is and how it is seen; lengths in pixels, angles in radians."""

    x: float
    y: float
    radius: float
    angle: float
    texture_angle: float
    texture_x: float
    texture_y: float
    light_marks: bool
    tint: Array


def picture(rng: np.random.Generator, attributes: tuple[str, str, str]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return the pixels (C, H, W) and the part masks (P, H, W) of one (shape, texture, colour)."""
    pose = _object_pose(rng)
    canvas = _backdrop(rng)
    clutter = _clutter(rng, canvas)
    layers = _paint(canvas, pose, attributes)
    twigs = _twigs(rng, canvas) >= 0.5
    body = (layers.sum(axis=0) >= 0.5) & ~twigs
    shown = [body & (layers.argmax(axis=0) == number) for number in range(len(layers))]
    corners = body & _near_corners(pose, attributes[0])
    return _photograph(rng, canvas), np.stack([body, *shown, corners, ((clutter >= 0.5) | twigs) & ~body])


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(rng.random())


def _pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.random() * len(names))]


def _blend(canvas: Array, colour: Array, cover: Array) -> None:
    """Lay a colour, (C,) or (C, H, W), over the canvas in place."""
    canvas += cover * (colour.reshape(3, *(colour.shape[1:] or (1, 1))) - canvas)


def _muted_colour(rng: np.random.Generator) -> Array:
    """Return a colour of any hue, neither vivid nor extreme."""
    grey = _between(rng, 0.30, 0.80)
    return np.clip(grey + 0.24 * (rng.random(3) - 0.5), 0, 1)


def _soft_noise(rng: np.random.Generator) -> Array:
    """Return unevenness (H, W) in -1..1: random knots, interpolated between."""
    knots = 2 * rng.random((_KNOTS, _KNOTS)) - 1
    position = np.linspace(0, _KNOTS - 1, SIDE)[:, None]
    hats = np.maximum(0, 1 - np.abs(position - np.arange(_KNOTS)))
    return hats @ knots @ hats.T


def _backdrop(rng: np.random.Generator) -> Array:
    first, second = _muted_colour(rng), _muted_colour(rng)
    x, _ = turned(_COLUMN / SIDE - 0.5, _ROW / SIDE - 0.5, 2 * np.pi * rng.random())
    blend = np.clip(x + 0.5 + 0.25 * _soft_noise(rng), 0, 1)
    shade = 0.06 * _soft_noise(rng)
    return first[:, None, None] * (1 - blend) + second[:, None, None] * blend + shade


def _clutter(rng: np.random.Generator, canvas: Array) -> Array:
    """Paint the clutter and return its coverage (H, W)."""
    covers = [_blob(rng, canvas) for _ in range(_BLOBS)]
    covers += [_line(rng, canvas) for _ in range(_LINES)]
    covers += [_fragment(rng, canvas) for _ in range(_FRAGMENTS)]
    return np.maximum.reduce(covers)


def _twigs(rng: np.random.Generator, canvas: Array) -> Array:
    """Paint the lines that hang in front of everything and return their coverage (H, W)."""
    return np.maximum.reduce([_line(rng, canvas) for _ in range(_TWIGS)])


def _blob(rng: np.random.Generator, canvas: Array) -> Array:
    x, y = _between(rng, 0, SIDE), _between(rng, 0, SIDE)
    across, along = turned(_COLUMN - x, _ROW - y, np.pi * rng.random())
    long, wide = _between(rng, 4, 11), _between(rng, 0.4, 1)
    cover = coverage(np.hypot(across, along / wide) - long)
    _blend(canvas, _muted_colour(rng), cover * _between(rng, 0.5, 1))
    return cover


def _line(rng: np.random.Generator, canvas: Array) -> Array:
    x, y = _between(rng, 0, SIDE), _between(rng, 0, SIDE)
    across, along = turned(_COLUMN - x, _ROW - y, np.pi * rng.random())
    half_length, half_width = _between(rng, 8, 30), _between(rng, 0.5, 1.4)
    cover = coverage(np.maximum(np.abs(across) - half_length, np.abs(along) - half_width))
    _blend(canvas, _muted_colour(rng), cover)
    return cover


def _fragment(rng: np.random.Generator, canvas: Array) -> Array:
    """Paint a small object of any shape, texture and colour, half of them without texture."""
    pose = _fragment_pose(rng)
    attributes = _pick(rng, SHAPES), _pick(rng, TEXTURES), _pick(rng, COLOURS)
    under = canvas.copy()
    body = _paint(canvas, pose, attributes, marks=bool(rng.random() < 0.5)).sum(axis=0)
    faded = _between(rng, 0.1, 0.5)
    canvas += faded * body * (under - canvas)
    return body


def _object_pose(rng: np.random.Generator) -> _Pose:
    radius = _between(rng, 10, 20)
    margin = 1.08 * radius
    x, y = _between(rng, margin, SIDE - margin), _between(rng, margin, SIDE - margin)
    return _pose(rng, x, y, radius)


def _fragment_pose(rng: np.random.Generator) -> _Pose:
    x, y = _between(rng, 0, SIDE), _between(rng, 0, SIDE)
    return _pose(rng, x, y, _between(rng, 3.5, 8))


def _pose(rng: np.random.Generator, x: float, y: float, radius: float) -> _Pose:
    return _Pose(
        x=x,
        y=y,
        radius=radius,
        angle=2 * np.pi * rng.random(),
        texture_angle=2 * np.pi * rng.random(),
        texture_x=radius * _between(rng, -0.3, 0.3),
        texture_y=radius * _between(rng, -0.3, 0.3),
        light_marks=bool(rng.random() < 0.6),
        tint=0.24 * (rng.random(3) - 0.5),
    )


def _paint(canvas: Array, pose: _Pose, attributes: tuple[str, str, str], *, marks: bool = True) -> Array:
    """Paint an object and return the coverage (3, H, W) by outline, texture and fill, which add up to the body."""
    shape, texture, colour = attributes
    x, y = turned(_COLUMN - pose.x, _ROW - pose.y, pose.angle)
    edge = SHAPE_FIELDS[shape](x, y, pose.radius)
    body, inner = coverage(edge), coverage(edge + 0.035 * pose.radius + 0.9)
    along, across = turned(x - pose.texture_x, y - pose.texture_y, pose.texture_angle)
    mark = inner * coverage(TEXTURE_FIELDS[texture](along, across, pose.radius)) * marks
    fill = np.clip(np.array(_PALETTE[colour]) + pose.tint, 0, 1)
    _blend(canvas, 0.45 * fill, body)
    _blend(canvas, fill, inner)
    _blend(canvas, _mark_colour(fill, light=pose.light_marks), mark)
    return np.stack([body - inner, mark, inner - mark])


def _near_corners(pose: _Pose, shape: str) -> NDArray[np.bool_]:
    x, y = turned(_COLUMN - pose.x, _ROW - pose.y, pose.angle)
    return corner_field(x, y, shape, pose.radius) < 0.42 * pose.radius


def _mark_colour(fill: Array, *, light: bool) -> Array:
    return 0.85 * (_LIGHT if light else _DARK) + 0.15 * fill


def _photograph(rng: np.random.Generator, canvas: Array) -> NDArray[np.uint8]:
    """Return the canvas as a camera sees it (C, H, W): mostly clear, now and then hazy or grainy."""
    contrast, brightness = 1.15 - 0.65 * rng.random() ** 2, _between(rng, -0.1, 0.1)
    grain = (0.02 + 0.15 * rng.random() ** 2) * (rng.random(canvas.shape) - rng.random(canvas.shape))
    seen = 0.5 + contrast * (canvas - 0.5) + brightness + grain
    return np.rint(255 * np.clip(seen, 0, 1)).astype(np.uint8)
