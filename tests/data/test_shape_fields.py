"""The signed distances against polygons walked edge by edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.data.shape_fields import (
    CORNERS,
    SHAPE_FIELDS,
    TEXTURE_FIELDS,
    corner_field,
    coverage,
    turned,
)

REACH = {"square": 1.22, "triangle": 1.38, "star": 1.36}
POLYGONS = tuple(REACH)
GRID_Y, GRID_X = np.mgrid[-40:40, -40:40] + 0.5


def vertices(shape: str, radius: float) -> np.ndarray:
    """The corners in order; a star has a waist between two tips."""
    count = CORNERS[shape] * (2 if shape == "star" else 1)
    angles = 2 * np.pi * np.arange(count) / count
    reach = np.full(count, REACH[shape] * radius)
    if shape == "star":
        reach[1::2] *= 0.52
    return np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1)


def slow_distance(x: float, y: float, corners: np.ndarray) -> float:
    """Distance to the nearest edge, negative when a ray to the right crosses an odd number of edges."""
    nearest, inside = np.inf, False
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = end - start
        share = np.clip(((x, y) - start) @ along / (along @ along), 0, 1)
        nearest = min(nearest, float(np.linalg.norm((x, y) - (start + share * along))))
        if (start[1] > y) != (end[1] > y) and x < start[0] + (y - start[1]) / along[1] * along[0]:
            inside = not inside
    return -nearest if inside else nearest


@pytest.mark.parametrize("shape", POLYGONS)
@settings(max_examples=60, deadline=None)
@given(x=st.floats(-30, 30), y=st.floats(-30, 30), radius=st.floats(3, 20))
def test_inside_and_outside_agree_with_the_polygon(shape: str, x: float, y: float, radius: float) -> None:
    fast = float(SHAPE_FIELDS[shape](np.array([x]), np.array([y]), radius)[0])
    slow = slow_distance(x, y, vertices(shape, radius))
    if abs(slow) > 1e-6:
        assert (fast < 0) == (slow < 0)


@pytest.mark.parametrize("shape", POLYGONS)
def test_distance_is_exact_in_the_middle_of_an_edge(shape: str) -> None:
    corners = vertices(shape, 12.0)
    middle = (corners[0] + corners[1]) / 2
    along = (corners[1] - corners[0]) / np.linalg.norm(corners[1] - corners[0])
    outwards = np.array([along[1], -along[0]])
    for step in (-1.0, 0.0, 1.0):
        x, y = middle + step * outwards
        assert SHAPE_FIELDS[shape](np.array([x]), np.array([y]), 12.0)[0] == pytest.approx(step, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(x=st.floats(-30, 30), y=st.floats(-30, 30), radius=st.floats(3, 20))
def test_disc_is_the_distance_to_its_circle(x: float, y: float, radius: float) -> None:
    distance = SHAPE_FIELDS["disc"](np.array([x]), np.array([y]), radius)[0]
    assert distance == pytest.approx(np.sqrt(x * x + y * y) - radius)


def test_areas_of_the_shapes_are_alike() -> None:
    areas = {shape: coverage(field(GRID_X, GRID_Y, 15.0)).sum() for shape, field in SHAPE_FIELDS.items()}
    assert areas["disc"] == pytest.approx(np.pi * 15**2, rel=0.01)
    assert max(areas.values()) / min(areas.values()) < 1.6


@pytest.mark.parametrize("shape", list(SHAPE_FIELDS))
def test_corner_field_is_zero_at_the_tips_alone(shape: str) -> None:
    assert np.isinf(corner_field(GRID_X, GRID_Y, "disc", 10.0)).all()
    if shape == "disc":
        return
    tips = vertices(shape, 10.0)[:: 2 if shape == "star" else 1]
    assert len(tips) == CORNERS[shape]
    assert corner_field(tips[:, 0], tips[:, 1], shape, 10.0) == pytest.approx(np.zeros(len(tips)), abs=1e-9)
    assert corner_field(np.zeros(1), np.zeros(1), shape, 10.0)[0] == pytest.approx(10 * REACH[shape])


def test_coverage_of_straight_edges() -> None:
    assert coverage(np.array([-2.0, -0.25, 0.0, 0.25, 2.0])).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]


@given(angle=st.floats(-7, 7), x=st.floats(-9, 9), y=st.floats(-9, 9))
@settings(max_examples=30, deadline=None)
def test_turned_keeps_lengths_and_turns_back(angle: float, x: float, y: float) -> None:
    there = turned(np.array([x]), np.array([y]), angle)
    back = turned(*there, -angle)
    assert np.hypot(*there)[0] == pytest.approx(np.hypot(x, y), abs=1e-9)
    assert (back[0][0], back[1][0]) == pytest.approx((x, y), abs=1e-9)


@pytest.mark.parametrize(
    ("texture", "share"), [("striped", 0.5), ("dotted", np.pi * 0.32**2), ("checked", 0.5), ("ringed", 0.5)]
)
def test_marks_cover_their_share(texture: str, share: float) -> None:
    assert coverage(TEXTURE_FIELDS[texture](GRID_X, GRID_Y, 14.0)).mean() == pytest.approx(share, abs=0.03)


def test_textures_differ_as_their_names_say() -> None:
    shift = np.array([0.0, 3.0, 11.0])
    stripes = TEXTURE_FIELDS["striped"](np.ones(3), shift, 10.0)
    rings = TEXTURE_FIELDS["ringed"](9 * np.cos(shift), 9 * np.sin(shift), 10.0)
    assert np.ptp(stripes) == 0
    assert np.ptp(rings) < 1e-9
    period = 8.6
    checks = TEXTURE_FIELDS["checked"]
    assert checks(np.array([1.0]), np.array([1.0]), 10.0) == -checks(np.array([1 + period / 2]), np.array([1.0]), 10.0)
    dots = TEXTURE_FIELDS["dotted"](np.array([0.0, 5.6, 2.8]), np.array([0.0, 5.6, 0.0]), 10.0)
    assert dots[0] == pytest.approx(dots[1])
    assert dots[0] < 0 < dots[2]
