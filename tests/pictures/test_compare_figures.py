from __future__ import annotations

import numpy as np
import pytest

from neurochains.errors import DataError
from neurochains.measures.overlap import join
from neurochains.pictures import layer_overlap_figure, overlap_figure, shared_figure


def matrix(count: int) -> np.ndarray:
    values = np.random.default_rng(count).random((count, count))
    values = (values + values.T) / 2
    np.fill_diagonal(values, 1)
    return values


@pytest.mark.parametrize("count", [2, 7, 40, 120])
def test_matrix_and_tree_are_legible(count, legible, words):
    overlap = matrix(count)
    names = [f"class {number} / a rather long name of a class" for number in range(count)]
    made = overlap_figure(overlap, names, join(1 - overlap), title="Overlap")
    legible(made)
    assert "Overlap" in words(made)
    shown = made.axes[0].images[0].get_array()
    assert sorted(np.asarray(shown).flatten()) == pytest.approx(sorted(overlap.flatten()))
    assert np.allclose(np.diagonal(shown), 1)


def test_rows_follow_the_tree():
    overlap = np.array([[1, 0.1, 0.9], [0.1, 1, 0.2], [0.9, 0.2, 1]])
    made = overlap_figure(overlap, ["a", "b", "c"], join(1 - overlap))
    shown = [label.get_text().split()[-1] for label in made.axes[0].get_yticklabels()]
    assert abs(shown.index("a") - shown.index("c")) == 1


@pytest.mark.parametrize("count", [1, 6, 53])
def test_layers_are_legible(count, legible, words):
    layers = [f"L{number}B2C3" for number in range(count)]
    lines = {"a class in common": np.linspace(0, 1, count), "by chance": [float("nan")] * count}
    made = layer_overlap_figure(layers, lines, title="Where")
    legible(made)
    assert {"a class in common", "by chance"} <= set(words(made))
    counts = {"of all chains": [2] * count, "of several": list(range(count)), "of one alone": [0] * count}
    bars = shared_figure(layers, counts, title="How many")
    legible(bars)
    heights = [patch.get_height() for patch in bars.axes[0].patches]
    assert heights == [2] * count + list(range(count)) + [0] * count


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="expected an overlap"):
        overlap_figure(matrix(3), ["a", "b"], np.zeros((1, 4)))
    with pytest.raises(DataError, match="one value for each of 2 layers, got"):
        layer_overlap_figure(["a", "b"], {"x": [1.0]})
    with pytest.raises(DataError, match="one number for each of 1 layers, got"):
        shared_figure(["a"], {})
