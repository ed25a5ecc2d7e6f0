from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.errors import DataError, SettingsError
from neurochains.pictures import Box, outline, top_crops

PIXELS = torch.arange(4 * 3 * 20 * 30).remainder(251).to(torch.uint8).view(4, 3, 20, 30)


def box(row: int, column: int) -> Box:
    return 4 * row, 5 * column, 4 * row + 4, 5 * column + 5


def maps_with(*peaks: tuple[int, int, int, float]) -> torch.Tensor:
    maps = torch.zeros(4, 5, 6)
    for image, row, column, value in peaks:
        maps[image, row, column] = value
    return maps


def test_the_largest_position_of_each_image_in_order() -> None:
    maps = maps_with((0, 1, 2, 5.0), (0, 3, 3, 6.0), (1, 0, 0, 1.0), (2, 4, 5, 9.0), (3, 2, 2, 3.0))
    crops = top_crops(maps, box, PIXELS, k=3)
    assert [(c.image, c.row, c.column, c.value) for c in crops] == [(2, 4, 5, 9.0), (0, 3, 3, 6.0), (3, 2, 2, 3.0)]
    assert crops[0].box == (16, 25, 20, 30)


def test_a_crop_is_the_square_around_its_box() -> None:
    (crop,) = top_crops(maps_with((1, 2, 3, 1.0)), box, PIXELS, k=1, context=9)
    assert crop.box == (8, 15, 12, 20)
    assert crop.pixels.shape == (3, 9, 9)
    assert torch.equal(crop.pixels, PIXELS[1, :, 5:14, 13:22])
    assert crop.inner == (3, 2, 7, 7)
    top, left, bottom, right = crop.inner
    assert torch.equal(crop.pixels[:, top:bottom, left:right], PIXELS[1, :, 8:12, 15:20])


def test_a_crop_at_the_edge_is_moved_inside() -> None:
    (crop,) = top_crops(maps_with((0, 0, 0, 1.0)), box, PIXELS, k=1, context=10)
    assert torch.equal(crop.pixels, PIXELS[0, :, :10, :10])
    assert crop.inner == (0, 0, 4, 5)


def test_a_square_larger_than_the_picture_is_padded_with_white() -> None:
    (crop,) = top_crops(maps_with((0, 0, 0, 1.0)), lambda r, c: (-9, -9, 99, 99), PIXELS, k=1)
    assert crop.box == (0, 0, 20, 30)
    assert crop.pixels.shape == (3, 30, 30)
    assert (crop.pixels[:, :5] == 255).all()
    assert (crop.pixels[:, 25:] == 255).all()
    assert torch.equal(crop.pixels[:, 5:25], PIXELS[0])
    assert crop.inner == (5, 0, 25, 30)


def test_the_default_context_is_a_seventh() -> None:
    (crop,) = top_crops(
        torch.rand(1, 5, 6), lambda r, c: (3, 3, 4, 4), torch.zeros(1, 3, 70, 90, dtype=torch.uint8), k=1
    )
    assert crop.pixels.shape == (3, 10, 10)


def test_fewer_images_give_fewer_crops_and_ties_keep_their_order() -> None:
    crops = top_crops(torch.ones(4, 5, 6), box, PIXELS, k=9)
    assert [crop.image for crop in crops] == [0, 1, 2, 3]
    assert {(crop.row, crop.column) for crop in crops} == {(0, 0)}


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(-30, 60), st.integers(-30, 60), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_every_crop_is_square_and_shows_its_box(seed: int, context: int, top: int, left: int, side: int) -> None:
    maps = torch.rand(4, 5, 6, generator=torch.Generator().manual_seed(seed))
    for crop in top_crops(maps, lambda r, c: (top, left, top + side, left + side), PIXELS, k=2, context=context):
        assert crop.pixels.shape[1] == crop.pixels.shape[2] >= context
        a, b, c, d = crop.box
        e, f, g, h = crop.inner
        assert 0 <= a < c <= 20
        assert 0 <= b < d <= 30
        assert torch.equal(crop.pixels[:, e:g, f:h], PIXELS[crop.image, :, a:c, b:d])


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match=r"finite maps \(N, h, w\) and pixels \(N, C, H, W\), got \(3, 5, 6\)"):
        top_crops(torch.zeros(3, 5, 6), box, PIXELS)
    with pytest.raises(DataError, match="finite maps"):
        top_crops(torch.full((4, 5, 6), torch.nan), box, PIXELS)
    with pytest.raises(SettingsError, match="k >= 1 and context >= 1, got 0 and 2"):
        top_crops(torch.zeros(4, 5, 6), box, PIXELS, k=0)


def test_outline_draws_the_edge_and_nothing_else() -> None:
    picture = torch.zeros(3, 8, 9, dtype=torch.uint8)
    drawn = outline(picture, (2, 3, 6, 8), color=(10, 20, 30), thickness=1)
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[2:6, 3:8] = True
    expected[3:5, 4:7] = False
    assert torch.equal((drawn != 0).all(0), expected)
    assert drawn[:, 2, 3].tolist() == [10, 20, 30]
    assert not picture.any()


def test_outline_of_a_grey_picture_and_beyond_its_edges() -> None:
    drawn = outline(torch.zeros(1, 4, 4, dtype=torch.uint8), (-5, -5, 50, 50), color=(30, 60, 90))
    assert drawn[0, 0, 0] == 60
    assert (drawn[0] != 0).sum() == 12
