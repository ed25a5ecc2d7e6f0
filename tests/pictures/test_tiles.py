from __future__ import annotations

import numpy as np
import pytest
import torch

from neurochains.pictures.figures import canvas_axes, figure
from neurochains.pictures.tiles import SHARPNESS, empty_tile, fitted, tile


@pytest.fixture
def axes():
    return canvas_axes(figure(2.0, width=4.0))


def test_small_pictures_keep_their_pixels() -> None:
    picture = np.array([[[0, 50], [100, 200]]], np.uint8)
    large = fitted(picture, 40, 40)
    assert large.shape == (int(40 * SHARPNESS), int(40 * SHARPNESS), 3)
    assert set(np.unique(large)) == {0, 50, 100, 200}
    assert large[0, 0, 0] == 0
    assert large[-1, -1, 0] == 200


def test_large_pictures_are_reduced() -> None:
    picture = torch.randint(0, 256, (3, 400, 800), dtype=torch.uint8)
    assert fitted(picture, 50, 50).shape == (int(25 * SHARPNESS), int(50 * SHARPNESS), 3)


def test_a_tile_is_centred_and_keeps_its_proportions(axes) -> None:
    drawn = tile(axes, torch.zeros(3, 10, 20, dtype=torch.uint8), 100, 40, 60, 60)
    assert drawn.get_extent() == [100, 160, 85, 55]
    assert axes.get_xlim() == (0, 288)
    assert axes.get_ylim() == (144, 0)


def test_a_tile_is_the_right_way_up(axes) -> None:
    picture = np.zeros((3, 8, 8), np.uint8)
    picture[:, :4] = 255
    tile(axes, picture, 20, 20, 80, 80)
    axes.figure.canvas.draw()
    page = np.asarray(axes.figure.canvas.buffer_rgba())[..., 0]
    assert page[55, 80] == 255  # 100 dots an inch: 40 points from the top
    assert page[120, 80] == 0


def test_an_empty_tile_says_why(axes, words, legible) -> None:
    empty_tile(axes, "none", 10, 10, 50, 50)
    assert words(axes.figure) == ["none"]
    legible(axes.figure)
