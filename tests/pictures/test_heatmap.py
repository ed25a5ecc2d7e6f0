from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from neurochains.errors import DataError, SettingsError
from neurochains.pictures import colorize, overlay, upsample

PHOTO = torch.randint(0, 256, (3, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def grey_of(pixels: torch.Tensor) -> torch.Tensor:
    luma = 0.299 * pixels[0].float() + 0.587 * pixels[1].float() + 0.114 * pixels[2].float()
    return luma.round().to(torch.uint8)


def test_upsample_is_bilinear_for_any_number_of_leading_axes() -> None:
    maps = torch.rand(2, 3, 4, 5)
    expected = F.interpolate(maps, (8, 10), mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsample(maps, (8, 10)), expected)
    torch.testing.assert_close(upsample(maps[0, 1], (8, 10)), expected[0, 1])


def test_upsample_refuses_what_is_no_map() -> None:
    with pytest.raises(DataError, match=r"maps of shape \(..., h, w\), got \(3,\)"):
        upsample(torch.rand(3), (2, 2))


def test_colorize_runs_through_the_color_map() -> None:
    colors = colorize(torch.tensor([[0.0, 1.0], [0.5, 2.0]]), cmap="gray")
    assert colors[..., 0].tolist() == [[0, 128], [64, 255]]
    assert colorize(torch.tensor([[0.0, 1.0]]), cmap="gray", limits=(0, 2))[0, 1].tolist() == [128] * 3


def test_the_default_colors_grow_lighter_evenly() -> None:
    luminance = colorize(torch.arange(9.0)[None])[0].float() @ torch.tensor([0.2126, 0.7152, 0.0722])
    assert (luminance.diff() > 5).all()
    assert luminance[0] < 10


def test_centered_colors_have_zero_in_the_middle() -> None:
    colors = colorize(torch.tensor([[-1.0, 0.0, 3.0]]), centered=True).float()
    blue, white, red = colors[0]
    assert white.min() > 240
    assert red[0] > red[2] + 50
    assert blue[2] > blue[0]
    assert blue.min() > colorize(torch.tensor([[-3.0, 3.0]]), centered=True)[0, 0].min()  # -1 of 3 is paler


def test_overlay_shows_the_grey_picture_where_the_map_is_least() -> None:
    values = torch.zeros(2, 2)
    values[0, 0] = 1
    shown = overlay(values, PHOTO)
    assert shown.shape == (8, 10, 3)
    assert shown.dtype == torch.uint8
    assert torch.equal(shown[7, 9], grey_of(PHOTO)[7, 9].expand(3))
    assert not torch.equal(shown[0, 0], grey_of(PHOTO)[0, 0].expand(3))


def test_overlay_of_full_opacity_is_the_color_at_the_peak() -> None:
    values = torch.ones(8, 10)
    values[4, 4] = 0
    assert overlay(values, PHOTO, cmap="gray", opacity=1.0)[0, 0].tolist() == [255] * 3


def test_overlay_of_opacity_zero_and_of_a_constant_map_is_the_grey_picture() -> None:
    grey = grey_of(PHOTO)[..., None].expand(8, 10, 3)
    assert torch.equal(overlay(torch.rand(2, 2), PHOTO, opacity=0.0), grey)
    assert torch.equal(overlay(torch.full((2, 2), 3.0), PHOTO), grey)
    assert torch.equal(overlay(torch.zeros(2, 2), PHOTO, centered=True), grey)


def test_centered_overlay_is_strong_at_both_ends() -> None:
    shown = overlay(torch.tensor([[-1.0, 0.0, 1.0]]), torch.full((3, 1, 3), 100, dtype=torch.uint8), centered=True)
    assert shown[0, 1].tolist() == [100, 100, 100]
    assert shown[0, 0, 2] > shown[0, 0, 0]
    assert shown[0, 2, 0] > shown[0, 2, 2]


def test_limits_make_maps_comparable() -> None:
    weak = overlay(torch.tensor([[0.0, 0.1]]), PHOTO, limits=(0, 1)).float()
    strong = overlay(torch.tensor([[0.0, 1.0]]), PHOTO, limits=(0, 1)).float()
    grey = grey_of(PHOTO)[..., None].float()
    assert (strong - grey).abs().sum() > 3 * (weak - grey).abs().sum()


def test_grey_pictures_and_last_channel_order_are_taken() -> None:
    values = torch.rand(4, 4)
    assert torch.equal(overlay(values, PHOTO), overlay(values, PHOTO.permute(1, 2, 0)))
    assert torch.equal(overlay(values, PHOTO[:1]), overlay(values, PHOTO[:1].expand(3, 8, 10)))


def test_inputs_stay_as_they_are() -> None:
    values, pixels = torch.rand(4, 4), PHOTO.clone()
    before = values.clone()
    overlay(values, pixels)
    assert torch.equal(values, before)
    assert torch.equal(pixels, PHOTO)


@pytest.mark.parametrize("bad", [torch.tensor([[math.nan, 1.0]]), torch.tensor([[math.inf, 1.0]]), torch.rand(2, 2, 2)])
def test_maps_must_be_finite_and_flat(bad: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"finite map of shape \(h, w\)"):
        overlay(bad, PHOTO)


def test_options_are_checked() -> None:
    with pytest.raises(SettingsError, match=r"opacity lies within 0 and 1, got 1.5"):
        overlay(torch.rand(2, 2), PHOTO, opacity=1.5)
    with pytest.raises(SettingsError, match="no colour map 'jets'"):
        colorize(torch.rand(2, 2), cmap="jets")
    with pytest.raises(SettingsError, match="low <= high"):
        colorize(torch.rand(2, 2), limits=(1, 0))
    with pytest.raises(DataError, match="expected a picture as uint8"):
        overlay(torch.rand(2, 2), PHOTO.float())
