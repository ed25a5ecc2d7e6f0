from __future__ import annotations

import colorsys
import importlib
import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from neurochains.errors import DataError, SettingsError
from neurochains.pictures import combine, gamma_norm, gauss_norm, lovi, lovi_heat, range_norm, smoe

module = importlib.import_module("neurochains.pictures.smoe")


def slow_smoe(maps: Tensor) -> Tensor:
    """The formula, position by position."""
    batch, channels, height, width = maps.shape
    out = torch.zeros(batch, height, width, dtype=torch.float64)
    for b in range(batch):
        for h in range(height):
            for w in range(width):
                x = [max(float(maps[b, c, h, w]), 0.0) + 1e-7 for c in range(channels)]
                mean = sum(x) / channels
                out[b, h, w] = mean * (math.log2(mean) - sum(math.log2(value) for value in x) / channels)
    return out


def test_smoe_is_the_formula() -> None:
    maps = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(smoe(maps), slow_smoe(maps))


def test_smoe_is_the_divergence_from_even_shares() -> None:
    maps = torch.rand(1, 6, 2, 2, dtype=torch.float64)
    x = maps + 1e-7
    share = x / x.sum(1, keepdim=True)
    divergence = ((1 / 6) * ((1 / 6) / share).log2()).sum(1)
    torch.testing.assert_close(smoe(maps), x.mean(1) * divergence)


@pytest.mark.parametrize(("epsilon", "expected"), [(1e-7, 5.31), (1e-5, 3.65), (1e-3, 2.00)])
def test_half_of_the_channels_active_by_epsilon(
    monkeypatch: pytest.MonkeyPatch, epsilon: float, expected: float
) -> None:
    monkeypatch.setattr(module, "EPSILON", epsilon)
    maps = torch.tensor([1.0, 1, 1, 0, 0, 0]).view(1, 6, 1, 1)
    assert smoe(maps).item() == pytest.approx(expected, abs=6e-3)


@given(st.integers(0, 10_000), st.integers(4, 12), st.floats(0.1, 50))
@settings(max_examples=30, deadline=None)
def test_smoe_properties(seed: int, channels: int, scale: float) -> None:
    maps = torch.randn(2, channels, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.5
    value = smoe(maps)
    assert (value >= 0).all()
    torch.testing.assert_close(smoe(maps[:, torch.randperm(channels)]), value)
    strong = maps.abs() + 1
    torch.testing.assert_close(smoe(strong * scale), smoe(strong) * scale, rtol=1e-5, atol=1e-5)


def test_equal_channels_give_zero() -> None:
    assert smoe(torch.full((1, 8, 2, 2), 3.0)).abs().max() < 1e-6


def test_negative_values_count_as_zero() -> None:
    maps = torch.randn(1, 6, 4, 4)
    assert torch.equal(smoe(maps), smoe(maps.relu()))


def test_half_precision_is_widened() -> None:
    maps = torch.rand(1, 6, 4, 4).half() * (torch.rand(1, 6, 4, 4) > 0.5)
    assert smoe(maps).dtype == torch.float32
    assert torch.equal(smoe(maps), smoe(maps.float()))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_few_channels_fall_back_to_the_mean(channels: int) -> None:
    maps = torch.randn(2, channels, 3, 3)
    torch.testing.assert_close(smoe(maps), maps.relu().mean(1))


def test_the_formula_can_be_had_with_few_channels() -> None:
    maps = torch.randn(2, 3, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(smoe(maps, least_channels=1), slow_smoe(maps))
    assert smoe(torch.rand(2, 1, 3, 3), least_channels=1).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 0, 2, 2)])
def test_smoe_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"maps of shape \(B, C, H, W\) with C > 0, got"):
        smoe(torch.zeros(shape))


def test_range_norm_spans_zero_to_one_for_each_map() -> None:
    maps = torch.randn(3, 4, 5) * torch.tensor([1.0, 10, 100])[:, None, None]
    normed = range_norm(maps)
    assert torch.equal(normed.flatten(1).amin(1), torch.zeros(3))
    assert torch.equal(normed.flatten(1).amax(1), torch.ones(3))
    expected = (maps[1] - maps[1].min()) / (maps[1].max() - maps[1].min())
    torch.testing.assert_close(normed[1], expected)


def test_gauss_norm_is_the_normal_distribution() -> None:
    maps = torch.randn(2, 6, 5, dtype=torch.float64)
    one = maps[1].numpy()
    expected = scipy.stats.norm.cdf((one - one.mean()) / one.std(ddof=1))
    np.testing.assert_allclose(gauss_norm(maps)[1].numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [0.3, 1.0, 4.0])
def test_gamma_norm_is_the_most_likely_gamma_distribution(shape: float) -> None:
    x = np.random.default_rng(3).gamma(shape, 2.0, (1, 20, 20))
    shifted = x - x.min() + 1e-7
    k, _, theta = scipy.stats.gamma.fit(shifted.ravel(), floc=0)
    expected = scipy.stats.gamma.cdf(shifted, k, scale=theta)
    np.testing.assert_allclose(gamma_norm(torch.from_numpy(x)).numpy(), expected, atol=2e-4)


def test_gamma_norm_keeps_the_strongest_peak_strongest() -> None:
    """An eight-term series of the distribution gives .33 to the first and .92 to the second of such peaks."""
    maps = torch.full((1, 14, 14), 0.05) + 0.02 * torch.rand(1, 14, 14)
    maps[0, 3, 3], maps[0, 8, 8] = 6.0, 2.0
    normed = gamma_norm(maps)
    assert normed[0, 3, 3] == normed.max()
    assert normed[0, 3, 3] > 0.99
    assert normed[0, 3, 3] >= normed[0, 8, 8] > 0.9


@given(st.integers(0, 10_000), st.floats(0.2, 6))
@settings(max_examples=30, deadline=None)
def test_normalisations_are_monotone_and_within_bounds(seed: int, power: float) -> None:
    maps = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(seed)) ** power
    order = maps.flatten(1).argsort(1)
    for norm in (range_norm, gauss_norm, gamma_norm):
        ranked = norm(maps).flatten(1).gather(1, order)
        assert (ranked.diff(dim=1) >= -1e-6).all()
        assert ranked.min() >= 0
        assert ranked.max() <= 1


@pytest.mark.parametrize("norm", [range_norm, gauss_norm, gamma_norm])
@pytest.mark.parametrize("value", [0.0, 3.0, -2.0, 1e-9])
def test_constant_maps_give_zeros(norm, value: float) -> None:
    maps = torch.stack([torch.full((4, 4), value), torch.rand(4, 4)])
    normed = norm(maps)
    assert torch.equal(normed[0], torch.zeros(4, 4))
    assert normed[1].max() > 0.8
    assert torch.equal(norm(torch.ones(1, 1, 1)), torch.zeros(1, 1, 1))


@pytest.mark.parametrize("norm", [range_norm, gauss_norm, gamma_norm])
def test_normalisations_refuse_other_shapes(norm) -> None:
    with pytest.raises(DataError, match=r"maps of shape \(B, H, W\) with at least one position, got \(2, 3\)"):
        norm(torch.zeros(2, 3))


def test_combine_is_the_weighted_mean_of_resized_maps() -> None:
    small, large = torch.rand(2, 3, 4), torch.rand(2, 6, 8)
    resized = torch.nn.functional.interpolate(small[:, None], (6, 8), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(combine([small, large], (6, 8)), (resized + large) / 2)
    torch.testing.assert_close(combine([small, large], (6, 8), [1, 3]), (resized + 3 * large) / 4)
    torch.testing.assert_close(combine([large], (6, 8), [0.2]), large)


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -1.0], [1.0, math.nan], []])
def test_combine_refuses_weights_that_do_not_fit(weights: list[float]) -> None:
    with pytest.raises(SettingsError, match="expected 2 weights, one for each layer, non-negative and not all 0"):
        combine([torch.rand(1, 2, 2)] * 2, (4, 4), weights)


def test_combine_refuses_maps_of_different_images() -> None:
    with pytest.raises(DataError, match=r"maps \(B, h, w\) of one B, one a layer, got \[\(1, 2, 2\), \(2, 2, 2\)\]"):
        combine([torch.rand(1, 2, 2), torch.rand(2, 2, 2)], (4, 4))
    with pytest.raises(DataError, match=r"got \[\]"):
        combine([], (4, 4))


def color_of(*layers: float) -> tuple[float, ...]:
    """The LOVI colour of a position where the layers have these values, beside one of all 0 and one of all 1."""
    maps = torch.tensor([[0.0, value, 1.0] for value in layers]).view(1, len(layers), 1, 3)
    return tuple(round(v, 3) for v in lovi(maps)[0, 0, 1].tolist())


def test_lovi_colors() -> None:
    assert color_of(1, 0, 0) == (1.0, 0.0, 1.0)  # first layer alone: violet
    assert color_of(0, 1, 0) == (0.0, 1.0, 0.5)  # middle: 150 degrees
    assert color_of(0, 0, 1) == (1.0, 0.0, 0.0)  # last: red
    assert color_of(1, 1, 1) == (1.0, 1.0, 1.0)  # all alike: white
    assert color_of(0, 0, 0) == (0.0, 0.0, 0.0)
    assert color_of(0.5, 0, 0) == (0.5, 0.0, 0.5)  # half as bright


def test_lovi_stretches_all_layers_together() -> None:
    maps = torch.zeros(1, 2, 1, 2)
    maps[0, 0, 0, 0], maps[0, 1, 0, 1] = 4.0, 2.0
    picture = lovi(maps)[0, 0]
    assert picture.amax(1).tolist() == [1.0, 0.5]
    assert lovi(maps, [1, 2])[0, 0].amax(1).tolist() == [0.5, 0.5]


def test_lovi_of_one_layer_and_of_nothing_is_finite() -> None:
    assert torch.isfinite(lovi(torch.rand(2, 1, 3, 3))).all()
    for picture in (lovi(torch.ones(1, 3, 2, 2)), lovi_heat(torch.zeros(1, 1, 2, 2))):
        assert torch.equal(picture, torch.zeros(1, 2, 2, 3))


def test_lovi_heat_goes_from_blue_to_red() -> None:
    maps = torch.zeros(1, 2, 1, 3)
    maps[0, 0, 0] = torch.tensor([0.0, 0.25, 1.0])
    heat = lovi_heat(maps)[0, 0]
    torch.testing.assert_close(heat[2], torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(heat[1], torch.tensor([0.0, 0.25, 0.25]))  # 180 degrees
    assert heat[0].max() == 0


def test_lovi_heat_pales_where_the_layers_agree() -> None:
    maps = torch.tensor([[0.0, 1.0, 1.0], [0.0, 1.0, 0.5]]).view(1, 2, 1, 3)
    heat = lovi_heat(maps)[0, 0]
    assert heat[1].tolist() == [1.0, 1.0, 1.0]
    hue, saturation, value = 240 * (1 - 0.75), 0.5 ** (1 / math.e), 0.75
    torch.testing.assert_close(heat[2], torch.tensor(colorsys.hsv_to_rgb(hue / 360, saturation, value)))


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_lovi_is_a_picture_and_agrees_with_the_standard_library(seed: int, layers: int) -> None:
    maps = torch.rand(1, layers, 2, 2, generator=torch.Generator().manual_seed(seed))
    picture = lovi(maps)
    assert picture.shape == (1, 2, 2, 3)
    p = ((maps - maps.min()) / (maps.max() - maps.min()))[0, :, 1, 0].tolist()
    if max(p) > 1e-3:
        places = [1 - i / max(1, layers - 1) for i in range(layers)]
        hue = 300 * sum(a * b for a, b in zip(p, places)) / sum(p)
        evenness = sum(p) / (layers * max(p))
        saturation = 1.0 if layers == 1 else 1 - (evenness - 1 / layers) / (1 - 1 / layers)
        expected = colorsys.hsv_to_rgb(hue / 360, saturation, max(p))
        np.testing.assert_allclose(picture[0, 1, 0].numpy(), expected, atol=1e-4)


def test_lovi_refuses_other_shapes() -> None:
    with pytest.raises(DataError, match=r"stack of maps \(B, L, H, W\) with L > 0, got \(2, 3, 3\)"):
        lovi(torch.zeros(2, 3, 3))
