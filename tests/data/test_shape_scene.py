"""One scene: what is painted is what the masks say."""

from __future__ import annotations

import numpy as np
import pytest

from neurochains.data import shape_scene, shapes
from neurochains.data.shape_fields import SHAPE_FIELDS, turned
from neurochains.shapes_spec import PARTS


def generator(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, 7]))


@pytest.mark.parametrize("label", [0, 5, 10, 15])
def test_the_silhouette_is_body_or_hidden_by_clutter(label: int) -> None:
    attributes = shapes.attributes(label)
    hidden = 0
    for seed in range(6):
        pose = shape_scene._object_pose(generator(seed))
        _, parts = shape_scene.picture(generator(seed), attributes)
        seen = dict(zip(PARTS, parts, strict=True))
        x, y = turned(shape_scene._COLUMN - pose.x, shape_scene._ROW - pose.y, pose.angle)
        silhouette = SHAPE_FIELDS[attributes[0]](x, y, pose.radius) <= 0
        np.testing.assert_array_equal(silhouette & ~seen["clutter"], seen["body"])
        hidden += (silhouette & seen["clutter"]).sum()
    assert hidden > 0


@pytest.mark.parametrize("label", [0, 5, 10, 15])
def test_every_scene_takes_the_same_random_values(label: int) -> None:
    used, reference = generator(3), generator(3)
    shape_scene.picture(used, shapes.attributes(label))
    shape_scene.picture(reference, shapes.attributes(8))
    assert used.random() == reference.random()


def test_objects_stay_inside_the_picture() -> None:
    poses = [shape_scene._object_pose(generator(seed)) for seed in range(200)]
    reach = np.array([min(pose.x, pose.y, 64 - pose.x, 64 - pose.y) / pose.radius for pose in poses])
    assert reach.min() >= 1.08 - 1e-9
    assert np.ptp([pose.radius for pose in poses]) > 8


def test_soft_noise_interpolates_between_its_knots() -> None:
    noise = shape_scene._soft_noise(generator(1))
    knots = 2 * generator(1).random((7, 7)) - 1
    position, grid = np.linspace(0, 6, 64), np.arange(7)
    rows = np.stack([np.interp(position, grid, row) for row in knots])
    expected = np.stack([np.interp(position, grid, column) for column in rows.T], axis=1)
    np.testing.assert_allclose(noise, expected, atol=1e-12)
    assert np.abs(noise).max() <= 1


@pytest.mark.parametrize("per_pixel", [False, True])
def test_blend_lays_a_colour_over_in_place(per_pixel: bool) -> None:
    canvas = np.full((3, 2, 2), 0.2)
    colour = np.array([0.0, 0.5, 1.0])
    cover = np.array([[0.0, 1.0], [0.5, 0.25]])
    shape_scene._blend(canvas, np.tile(colour[:, None, None], (1, 2, 2)) if per_pixel else colour, cover)
    for channel in range(3):
        np.testing.assert_allclose(canvas[channel], 0.2 * (1 - cover) + colour[channel] * cover)


def test_the_layers_of_an_object_add_up_to_its_body() -> None:
    pose = shape_scene._object_pose(generator(2))
    canvas = np.zeros((3, 64, 64))
    layers = shape_scene._paint(canvas, pose, ("star", "ringed", "blue"))
    assert (layers >= 0).all()
    assert layers.sum(0).max() <= 1 + 1e-12
    assert not canvas[:, layers.sum(0) == 0].any()
    bare = shape_scene._paint(canvas, pose, ("star", "ringed", "blue"), marks=False)
    assert not bare[1].any()
    np.testing.assert_allclose(bare.sum(0), layers.sum(0))
