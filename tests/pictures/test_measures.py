from __future__ import annotations

import math

import numpy as np
import pytest

from neurochains.errors import DataError
from neurochains.pictures import Measure, controls_figure, drop_figure, parting_figure, per_image_figure

NETWORKS = ("chain", "largest activation", "random", "complement")
DICE = np.random.default_rng(0)


def measure(*values: float, name: str = "mean KL", **options: bool) -> Measure:
    return Measure(name, dict(zip(NETWORKS, values)), **options)


def dots(axes) -> list[tuple[float, float]]:
    return [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in axes.lines if line.get_marker() == "o"]


def test_controls_stand_beside_the_chain(legible, words) -> None:
    made = controls_figure(
        [
            measure(0.043, 1.2, 2.31, 6.1, log=True),
            measure(1.0, 0.55, 0.3, 0.0, name="predictions kept", percent=True),
            measure(-0.011, 0.31, 0.45, math.nan, name="drop of the probability, a rather long title for a panel"),
        ],
        title="The chain and its controls",
    )
    legible(made)
    written = words(made)
    for text in (*NETWORKS, "0.043", "100 %", "55 %", "−0.011", "not finite"):
        assert text in written
    assert dots(made.axes[0]) == [(0.043, 0), (1.2, 1), (2.31, 2), (6.1, 3)]
    assert dots(made.axes[1]) == [pytest.approx(dot) for dot in ((100, 0), (55, 1), (30, 2), (0, 3))]
    assert dots(made.axes[2]) == [(-0.011, 0), (0.31, 1), (0.45, 2)]
    assert made.axes[0].get_xscale() == "log"
    assert made.axes[0].get_ylim()[0] > made.axes[0].get_ylim()[1]  # the chain is at the top
    colors = [line.get_color() for line in made.axes[0].lines if line.get_marker() == "o"]
    assert colors[0] != colors[1] == colors[2]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("values", [(0.0, 0.0), (math.inf, math.nan), (1e-9, 1e9), (3.0, 3.0), (-1.0, -2.0)])
def test_extreme_values_are_legible(values: tuple[float, float], log: bool, legible) -> None:
    if log and min(values) < 0:
        values = (1e-3, 1e-3)
    legible(controls_figure([measure(*values, log=log)], title="x"))


def test_controls_must_be_those_of_the_same_networks() -> None:
    with pytest.raises(DataError, match=r"same networks, got \[\['chain', 'largest activation'\], \['chain'\]\]"):
        controls_figure([measure(1, 2), measure(1)])
    with pytest.raises(DataError, match="same networks"):
        controls_figure([])


def test_every_image_has_a_dot(legible, words) -> None:
    values = {name: 10 ** DICE.normal(-2 + i, 0.4, 20) for i, name in enumerate(NETWORKS)}
    values["chain"][0] = 0.0
    made = per_image_figure(values, budget=0.05, title="Every image")
    legible(made)
    clouds = [line for line in made.axes[0].lines if line.get_marker() == "o"]
    assert [len(cloud.get_xdata()) for cloud in clouds] == [20] * 4
    assert min(clouds[0].get_xdata()) == 1e-6
    np.testing.assert_allclose(clouds[2].get_xdata(), values["random"])
    assert all(np.abs(cloud.get_ydata() - i).max() < 0.3 for i, cloud in enumerate(clouds))
    medians = [line.get_xdata()[0] for line in made.axes[0].lines if line.get_linewidth() == 2]
    np.testing.assert_allclose(medians, [np.median(column) for column in values.values()])
    assert "asked for: 0.05" in words(made)
    assert "asked for: 0.05" not in words(per_image_figure(values))


@pytest.mark.parametrize("bad", [{}, {"chain": []}, {"chain": [1.0, math.nan]}])
def test_images_need_finite_values(bad: dict[str, list[float]]) -> None:
    with pytest.raises(DataError, match="expected finite values of at least one image"):
        per_image_figure(bad)


def test_drops_are_scattered_over_scores(legible, words) -> None:
    scores, drops = DICE.gamma(2, 1, 30), DICE.normal(size=30)
    made = drop_figure(scores, drops, correlations={"Pearson": 0.8213, "Spearman": -0.5}, title="Without one filter")
    legible(made)
    points = next(line for line in made.axes[0].lines if line.get_marker() == "o")
    np.testing.assert_allclose(points.get_xydata(), np.stack([scores, drops], 1))
    assert "30 filters   Pearson 0.821   Spearman −0.5" in words(made)
    legible(drop_figure([1.0], [0.0]))


def test_drops_must_fit_the_scores() -> None:
    with pytest.raises(DataError, match="as many finite scores as drops, at least one, got 2 and 1"):
        drop_figure([1, 2], [1])
    with pytest.raises(DataError, match="finite"):
        drop_figure([1.0], [math.nan])


@pytest.mark.parametrize("layers", [1, 12, 53])
def test_the_parting_of_an_image_is_legible_at_every_depth(layers: int, legible, words) -> None:
    labels = [f"L{1 + i // 9}B{1 + i % 9}C2" for i in range(layers)]
    similarity = {
        name: DICE.uniform(0.5, 0.52, layers) for name in ("castle", "stone wall", "banana", "a fourth class")
    }
    band = (np.full(layers, 0.4), np.full(layers, 0.6))
    made = parting_figure(labels, similarity, usual={"castle": band}, title="castle or stone wall")
    legible(made)
    (axes,) = made.axes
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose([line.get_ydata() for line in lines], list(similarity.values()))
    assert len(axes.collections) == 1
    colors = {text.get_text(): text.get_color() for text in axes.texts}
    assert [colors[name] for name in similarity] == [line.get_color() for line in lines]
    assert set(labels) <= set(words(made))


def test_a_class_needs_a_value_for_each_layer() -> None:
    with pytest.raises(DataError, match=r"one value for each of 2 layers, got \[2, 3\]"):
        parting_figure(["a", "b"], {"castle": [1, 2], "wall": [1, 2, 3]})
    with pytest.raises(DataError, match="one value for each of 2 layers"):
        parting_figure(["a", "b"], {"castle": [1, 2]}, usual={"castle": ([1], [2])})
