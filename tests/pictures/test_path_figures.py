from __future__ import annotations

import numpy as np
import pytest

from neurochains.errors import DataError
from neurochains.pictures import class_distance_figure, class_use_figure, paths_figure, plane_figure

ROWS = {
    "cat": {"conv1": [1.0, 0.5, 0.0], "conv2": [0.25] * 6},
    "dog to cat": None,
    "cup": {"conv1": [1.0, 1.0, 0.0], "conv2": [0.75] * 6},
}


def words(made) -> list[str]:
    drawn = [text.get_text() for axes in made.axes for text in [*axes.texts, *axes.get_yticklabels()]]
    return [*drawn, *(text.get_text() for text in made.texts)]


def test_each_layer_is_a_panel_with_a_row_for_each_group():
    made = paths_figure(ROWS, title="Paths")
    tables = [np.ma.filled(axes.images[0].get_array(), np.nan) for axes in made.axes[:2]]
    assert [table.shape for table in tables] == [(3, 3), (3, 6)]
    assert tables[0][0].tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(tables[1][1]).all()
    assert {"Paths", "cat", "dog to cat", "cup", "conv1", "conv2"} <= set(words(made))


def test_many_filters_go_on_below():
    wide = {f"layer{number}": [0.5] * 200 for number in range(6)}
    made = paths_figure({"all": wide})
    tops = {round(axes.get_position().y1, 4) for axes in made.axes[:6]}
    assert len(tops) > 1
    assert all(axes.get_position().x1 <= 1 for axes in made.axes)
    one = paths_figure({"all": {"layer": [0.5] * 3000}})
    assert one.axes[0].get_position().x1 <= 1


def test_images_are_points_in_the_colour_of_their_class():
    points = np.array([[0.0, 0], [1, 0], [0, 1]])
    made = plane_figure(points, [4, 7, 4], {4: "cat", 7: "dog"})
    lines = made.axes[0].get_lines()
    assert [len(line.get_xdata()) for line in lines] == [2, 1]
    assert lines[0].get_color() != lines[1].get_color()
    assert {"cat", "dog"} <= set(words(made))


def test_classes_by_the_filters_they_use():
    made = class_use_figure([{"name": "cat", "mean": 10.0, "sd": 1.0}, {"name": "dog", "mean": 30.0, "sd": 2.0}])
    dots = next(line for line in made.axes[0].get_lines() if line.get_marker() == "o")
    assert list(dots.get_xdata()) == [10.0, 30.0]
    assert [text.get_text() for text in made.axes[0].get_yticklabels()] == ["cat", "dog"]


def test_distances_of_classes_are_written_as_percent():
    made = class_distance_figure([[0.1, 0.4], [0.4, np.nan]], ["cat", "dog"])
    assert [text.get_text() for text in made.axes[0].texts] == ["10", "40", "40"]


def test_bad_input():
    with pytest.raises(DataError, match="of one group at least"):
        paths_figure({"cat": None})
    with pytest.raises(DataError, match="the same layers for each group"):
        paths_figure({"cat": {"a": [1.0]}, "dog": {"a": [1.0, 0.0]}})
    with pytest.raises(DataError, match=r"points \(N, 2\) and N labels, got \(2, 2\) and \(1,\)"):
        plane_figure(np.zeros((2, 2)), [0], {0: "cat"})
    with pytest.raises(DataError, match="at least one class"):
        class_use_figure([])
    with pytest.raises(DataError, match="K = 1 names, got"):
        class_distance_figure(np.zeros((2, 2)), ["cat"])
