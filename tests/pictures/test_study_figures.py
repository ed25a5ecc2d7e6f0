from __future__ import annotations

import math

import numpy as np
import pytest

from neurochains.errors import DataError
from neurochains.pictures import (
    Share,
    curves_figure,
    effect_figure,
    histogram_figure,
    palette,
    scatter_figure,
    shares_figure,
    svg,
)


def texts(made):
    made.canvas.draw()
    found = [text.get_text() for text in made.texts]
    for axes in made.axes:
        parts = [axes.xaxis.label, axes.yaxis.label, *axes.texts, *axes.get_yticklabels()]
        found += [part.get_text() for part in [*parts, *(axes.title, axes._left_title, axes._right_title)]]
    return [text for text in found if text]


def overlaps(made):
    """Pairs of texts of a figure whose boxes lie upon each other, or that reach beyond its edge."""
    made.canvas.draw()
    renderer = made.canvas.get_renderer()
    parts = list(made.texts)
    for axes in made.axes:
        parts += [axes.xaxis.label, axes.yaxis.label, axes._left_title, axes._right_title, *axes.texts]
    boxes = [(part.get_text(), part.get_window_extent(renderer)) for part in parts if part.get_text()]
    width, height = made.canvas.get_width_height()
    out = [text for text, box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    pairs = [(a, b) for i, (a, one) in enumerate(boxes) for b, two in boxes[i + 1 :] if one.overlaps(two)]
    return out + pairs


def test_a_scatter_draws_what_is_finite_and_says_how_many():
    points = {"budget": ([1, 2, 3], [0.1, np.nan, 0.3]), "random": ([1, 2], [0.0, 0.5]), "none": ([1], [math.inf])}
    made = scatter_figure(points, x="size", y="KL", title="E1", log=True)
    said = texts(made)
    assert "●  budget: 2 sub-networks" in said
    assert "●  random: 1 sub-network" in said
    assert not any("none" in text for text in said)
    main = made.axes[0]
    assert [line.get_xdata().tolist() for line in main.lines] == [[1, 3], [2]]
    assert main.get_yscale() == "log"
    assert made.axes[1].get_xlim() == main.get_xlim()
    assert overlaps(made) == []


def test_means_of_equally_many_go_with_the_score():
    scores = np.arange(100.0)
    made = effect_figure(scores, 2 * scores, y="drop", said=["Pearson 1", "Spearman 1"], bins=4)
    means = made.axes[0].containers[0].lines[0]
    assert means.get_xdata().tolist() == [12.0, 37.0, 62.0, 87.0]
    assert means.get_ydata().tolist() == [24.0, 74.0, 124.0, 174.0]
    assert overlaps(made) == []


def test_on_a_logarithmic_axis_the_means_are_geometric():
    made = effect_figure([1, 1, 2, 2], [1, 100, 10, 1000], y="KL", log=True, bins=2)
    assert made.axes[0].containers[0].lines[0].get_ydata().tolist() == pytest.approx([10, 100])


def test_a_histogram_counts_shares_and_puts_what_is_beyond_into_the_outer_bins():
    values = {"a": [-9, 0.5, 0.5, 9], "b": [0.1, math.nan]}
    made = histogram_figure(values, x="Q", clip=(-2, 3), marks=(0, 1), notes={"a": "Q < 0: 25 %"})
    heights = [[patch.get_height() for patch in axes.patches] for axes in made.axes]
    assert heights[0][0] == heights[0][-1] == 0.25
    assert sum(heights[0]) == pytest.approx(1)
    assert sum(heights[1]) == pytest.approx(1)
    assert {"a (4)", "b (1)", "Q < 0: 25 %", "Q"} <= set(texts(made))
    assert overlaps(made) == []


def test_curves_are_medians_with_the_middle_half():
    made = curves_figure({"a": {10: [1, 2, 3, 4, 5], 1: [7]}, "b": {1: [math.nan]}}, x="n", y="share", percent=True)
    (line,) = made.axes[0].lines
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 10], [7, 3])
    assert "●  a: 6 cases" in texts(made)
    assert overlaps(made) == []


def test_shares_stand_beside_their_intervals():
    share = Share(0.543, 0.5, 0.6)
    made = shares_figure(
        {
            "KL at most 0.8": {"budget": share, "random": share},
            "KL at least 1.5": dict.fromkeys(("budget", "random"), share),
        }
    )
    assert texts(made).count("54.3%") == 4
    assert list(made.axes[0].lines[0].get_xdata()) == [0.5, 0.6]
    assert overlaps(made) == []


def test_names_keep_their_colours_and_are_escaped():
    colors = palette(["a", "<b> & c"])
    made = histogram_figure({"<b> & c": [1.0, 2.0]}, x="n", colors=colors)
    assert colors["<b> & c"] in svg(made)
    assert "<b> &" not in svg(made)


def test_many_points_are_thinned():
    made = scatter_figure({"a": (np.arange(9e4), np.arange(9e4))}, x="x", y="y")
    assert len(made.axes[0].lines[0].get_xdata()) <= 3000
    assert "●  a: 90,000 sub-networks" in texts(made)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: scatter_figure({"a": ([1], [math.nan])}, x="", y=""),
        lambda: effect_figure([], [], y=""),
        lambda: histogram_figure({"a": []}, x=""),
        lambda: curves_figure({"a": {}}, x="", y=""),
    ],
)
def test_nothing_to_draw_is_said(draw):
    with pytest.raises(DataError, match="expected at least one finite value to draw, got none"):
        draw()


def test_what_does_not_fit_is_said():
    with pytest.raises(DataError, match="expected as many values on both axes"):
        effect_figure([1, 2], [1], y="")
    with pytest.raises(DataError, match="expected shares of the same names"):
        shares_figure({"a": {"x": Share(0, 0, 0)}, "b": {"y": Share(0, 0, 0)}})
