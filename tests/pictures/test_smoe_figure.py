from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from matplotlib.image import AxesImage

from neurochains.errors import DataError
from neurochains.pictures import SmoeRow, smoe_figure
from neurochains.pictures.smoe_figure import agreement


def row(layers: int, *, side: int = 32, name: str = "dalmatian/003.jpg") -> SmoeRow:
    maps = [torch.rand(8, 8) for _ in range(layers)]
    return SmoeRow(name, torch.randint(0, 256, (3, side, side), dtype=torch.uint8), maps, [one**2 for one in maps])


@pytest.mark.parametrize(("images", "layers"), [(1, 1), (4, 6), (2, 16)])
def test_every_size_is_legible_and_complete(images: int, layers: int, legible, words) -> None:
    labels = [f"L{i % 4}B{i}C2" for i in range(layers)]
    made = smoe_figure([row(layers) for _ in range(images)], labels, title="SMOE maps")
    legible(made)
    assert len(made.findobj(AxesImage)) == images * (1 + 2 * layers + 2) + 1
    written = words(made)
    assert written.count("original") == written.count("sub-network") == images
    assert sum(text.startswith("r = ") for text in written) == images * layers
    assert all(label in written for label in labels)


def test_the_combined_column_can_be_left_out(words) -> None:
    made = smoe_figure([row(3)], ["a", "b", "c"], combined=False)
    assert len(made.findobj(AxesImage)) == 7
    assert "all layers" not in words(made)


def test_grey_and_oblong_images_are_drawn(legible) -> None:
    grey = SmoeRow("g", torch.zeros(1, 20, 40, dtype=torch.uint8), [torch.rand(2, 4)], [torch.zeros(2, 4)])
    legible(smoe_figure([grey], ["L0"]))


def test_both_networks_are_drawn_to_one_scale() -> None:
    maps = [0.5 * torch.rand(8, 8)]
    same = SmoeRow("x", torch.full((3, 16, 16), 90, dtype=torch.uint8), maps, maps)
    _, original, reduced = smoe_figure([same], ["L0"], combined=False).findobj(AxesImage)
    assert np.array_equal(original.get_array(), reduced.get_array())
    assert original.get_array().max() < 200  # half of the scale is not its brightest colour


def test_agreement_is_the_correlation() -> None:
    a, b = torch.rand(6, 6), torch.rand(6, 6)
    expected = np.corrcoef(a.numpy().ravel(), b.numpy().ravel())[0, 1]
    assert agreement(a, b) == pytest.approx(expected, abs=1e-5)
    assert agreement(a, 3 * a + 1) == pytest.approx(1.0)
    assert agreement(a, -a) == pytest.approx(-1.0)
    assert math.isnan(agreement(a, torch.ones(6, 6)))
    assert agreement(torch.rand(12, 12), torch.rand(6, 6)) == pytest.approx(0, abs=0.6)


def test_constant_maps_are_named(words) -> None:
    flat = SmoeRow("x", torch.zeros(3, 8, 8, dtype=torch.uint8), [torch.zeros(4, 4)], [torch.rand(4, 4)])
    assert "constant" in words(smoe_figure([flat], ["L0"]))


def test_rows_must_fit_the_layers() -> None:
    with pytest.raises(DataError, match="one map of each network for each of 2 layers"):
        smoe_figure([row(3)], ["a", "b"])
    with pytest.raises(DataError, match="1 to 16 layers, got 1 and 17"):
        smoe_figure([row(17)], [str(i) for i in range(17)])
    with pytest.raises(DataError, match="got 0 and 2"):
        smoe_figure([], ["a", "b"])
