from __future__ import annotations

import numpy as np
import pytest

from neurochains.errors import DataError
from neurochains.pictures import concepts_figure, cross_attack_figure, detection_figure


def row(features: str, classifier: str, trained: str, tested: str, mean: float) -> dict:
    return {
        "features": features,
        "classifier": classifier,
        "trained_on": trained,
        "tested_on": tested,
        "mean": mean,
        "sd": 0.02,
    }


ROWS = [
    row("paths", "forest", "fgsm", "fgsm", 0.8),
    row("paths", "forest", "fgsm", "pgd", 0.6),
    row("paths", "forest", "pgd", "pgd", 0.9),
    row("confidence", "none", "", "fgsm", 0.7),
    row("confidence", "none", "", "pgd", 0.4),
]


def test_a_panel_for_each_attack_trained_on_the_same():
    made = detection_figure(ROWS)
    assert [axes.get_title(loc="left") for axes in made.axes] == ["fgsm", "pgd"]
    dots = [line.get_xdata()[0] for axes in made.axes for line in axes.get_lines() if line.get_marker() == "o"]
    assert dots == [0.8, 0.7, 0.9, 0.4]
    assert all(axes.get_xlim()[0] < 0.5 for axes in made.axes)


def test_attacks_by_the_one_trained_on():
    made = cross_attack_figure(ROWS)
    assert [text.get_text() for text in made.axes[0].texts] == ["0.80", "0.60", "0.90", "forest"]
    assert np.isnan(np.ma.filled(made.axes[0].images[0].get_array(), np.nan)[1, 0])


def test_filters_and_the_parts_that_switch_them_off():
    made = concepts_figure({"L3[7]": [0.9, 0.1]}, {"L3[7]": (0.8, 0.7, 0.2)}, ["mouth", "nose"])
    assert [text.get_text() for text in made.axes[0].texts[:2]] == ["90", "10"]
    drawn = [line.get_xdata()[0] for line in made.axes[1].get_lines()]
    assert {0.8, 0.7, 0.2} <= set(drawn)


def test_bad_input():
    with pytest.raises(DataError, match="the attack they were trained on, got none"):
        detection_figure(ROWS[1:2])
    with pytest.raises(DataError, match="trained on 'gates', got none"):
        cross_attack_figure(ROWS, features="gates")
    with pytest.raises(DataError, match="a share for each part"):
        concepts_figure({"a": [0.1]}, {"a": (0.1, 0.1, 0.1)}, ["mouth", "nose"])
