from __future__ import annotations

import pytest

from neurochains.errors import DataError
from neurochains.pictures import ResponseRow, frequency_figure, response_figure, states_figure

ROWS = [
    {"layer": "conv1", "filters": 8, "energetic": 4, "dynamic": 3, "silent": 1},
    {"layer": "conv2", "filters": 4, "energetic": 0, "dynamic": 4, "silent": 0},
]


def test_each_layer_is_a_whole_bar():
    axes = states_figure(ROWS, title="States").axes[0]
    widths = [[patch.get_width() for patch in container] for container in axes.containers]
    assert widths == [[0.5, 0.0], [0.375, 1.0], [0.125, 0.0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv1", "conv2"]
    assert {text.get_text() for text in axes.texts} == {"8", "4", "filters"}


def test_never_and_always_have_bars_of_their_own():
    made = frequency_figure({"conv1": [0.0, 0.0, 0.05, 0.5, 0.999, 1.0]}, images=1000)
    heights = [patch.get_height() for patch in made.axes[0].patches]
    assert heights == [2, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1]
    assert "1,000 images" in made.texts[0].get_text()


def test_a_line_for_each_state_and_the_accuracy():
    rows = [ResponseRow(v, {"dynamic": v, "silent": 0.2, "energetic": 0.8 - v}, 0.9) for v in (0.0, 0.1, 0.4)]
    axes = response_figure(rows, name="mi").axes[0]
    lines = [line.get_ydata().tolist() for line in axes.lines]
    assert lines == [pytest.approx([0.8, 0.7, 0.4]), [0.0, 0.1, 0.4], [0.2] * 3, [0.9] * 3]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.1", "0.4"]


def test_messages():
    with pytest.raises(DataError, match="states of at least one layer"):
        states_figure([])
    with pytest.raises(DataError, match="frequencies of at least one layer"):
        frequency_figure({}, images=1)
    with pytest.raises(DataError, match="at least two trainings to compare, got 1"):
        response_figure([ResponseRow(0.1, {}, 0.5)], name="mi")
