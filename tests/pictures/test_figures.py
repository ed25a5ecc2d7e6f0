from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest

from neurochains.errors import ArtifactError, DataError, SettingsError
from neurochains.pictures import save_figure, svg
from neurochains.pictures.figures import (
    canvas_axes,
    colormap,
    display,
    figure,
    ink_on,
    score_colors,
    shorten,
    text_width,
)


@pytest.fixture
def drawing():
    made = figure(2.0, width=5.0)
    axes = canvas_axes(made)
    axes.text(20, 30, "a kernel & a <filter>", size=8)
    axes.plot([0, 100], [10, 90])
    return made


def test_axes_are_in_points_from_the_top_left(drawing) -> None:
    axes = drawing.axes[0]
    assert axes.get_xlim() == (0, 360)
    assert axes.get_ylim() == (144, 0)
    assert axes.transData.transform((0, 0)).tolist() == [0, 200]


def test_pyplot_knows_nothing_of_it(drawing) -> None:
    assert plt.get_fignums() == []


def test_svg_files_keep_text_and_are_reproducible(drawing, tmp_path: Path) -> None:
    first = save_figure(drawing, tmp_path / "a.svg").read_bytes()
    assert save_figure(drawing, str(tmp_path / "b.SVG")).read_bytes() == first
    text = first.decode()
    assert "dc:date" not in text
    written = [element.text for element in ElementTree.fromstring(text).iter() if element.tag.endswith("}text")]
    assert written == ["a kernel & a <filter>"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg", "b.SVG"]


def test_png_files_have_the_resolution_asked_for(drawing, tmp_path: Path) -> None:
    from PIL import Image

    with Image.open(save_figure(drawing, tmp_path / "a.png", dpi=200)) as image:
        assert image.size == (1000, 400)


def test_saving_leaves_matplotlib_as_it_was(drawing, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    save_figure(drawing, tmp_path / "a.svg")
    assert dict(matplotlib.rcParams) == before


def test_saving_elsewhere_fails_clearly(drawing, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"saved as .svg or .png, got 'a.pdf'"):
        save_figure(drawing, tmp_path / "a.pdf")
    with pytest.raises(ArtifactError, match=r"cannot write the figure .*a.svg: No such file or directory"):
        save_figure(drawing, tmp_path / "none" / "a.svg")


def test_a_failed_write_leaves_nothing_behind(drawing, tmp_path: Path) -> None:
    (tmp_path / "a.svg").mkdir()
    with pytest.raises(ArtifactError):
        save_figure(drawing, tmp_path / "a.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]


def test_inline_svg_has_its_own_ids_and_no_size(drawing) -> None:
    text = svg(drawing, name="one")
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert "width" not in root.attrib
    assert root.attrib["viewBox"] == "0 0 360 144"
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    assert "one" in ids
    assert all(found.startswith("one-") for found in ids - {"one"})
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= ids
    assert set(re.findall(r'href="#([^"]+)"', text)) <= ids
    assert "<metadata>" not in text
    assert "#one *{stroke-linejoin" in text  # its style does not reach the page


def test_sizes_are_checked() -> None:
    with pytest.raises(SettingsError, match=r"0 to 200 inches a side, got 11.0 x 900"):
        figure(900)


def test_text_is_measured_and_shortened() -> None:
    assert text_width("L4B1C2", 7) == pytest.approx(26, abs=3)
    assert text_width("LL", 8) < text_width("LLLL", 8) < text_width("LLLL", 16)
    assert text_width("  ", 8) == 0
    assert shorten("dalmatian", 8, 500) == "dalmatian"
    cut = shorten("dalmatian", 8, 25)
    assert cut.endswith("…")
    assert text_width(cut, 8) <= 25
    assert shorten("dalmatian", 8, 1) == "…"


def test_measured_widths_are_those_that_are_drawn(drawing) -> None:
    label = drawing.axes[0].texts[0]
    drawing.canvas.draw()
    drawn = label.get_window_extent().width * 72 / drawing.dpi
    assert text_width(label.get_text(), 8) == pytest.approx(drawn, rel=0.04)


def test_scores_darken_evenly() -> None:
    luminance = score_colors()(np.linspace(0, 1, 20))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()
    assert luminance[0] < 0.85
    assert ink_on(score_colors()(0.0)) != "white"
    assert ink_on(score_colors()(1.0)) == "white"


def test_unknown_color_maps_are_named() -> None:
    with pytest.raises(SettingsError, match="no colour map 'viridi'"):
        colormap("viridi")


def test_pictures_come_in_two_orders() -> None:
    picture = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    shown = display(picture)
    assert shown.shape == (4, 5, 3)
    assert np.array_equal(display(shown), shown)
    assert display(picture[:1]).shape == (4, 5, 3)
    assert np.array_equal(display(picture[:1])[..., 2], picture[0])


@pytest.mark.parametrize("bad", [np.zeros((3, 4, 5)), np.zeros((4, 5), np.uint8), np.zeros((2, 4, 5), np.uint8)])
def test_other_arrays_are_no_pictures(bad: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected a picture as uint8|a picture has 1 or 3 channels"):
        display(bad)
