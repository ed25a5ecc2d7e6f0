"""Figures of circuits: what is on them, and nothing cut off."""

from __future__ import annotations

import pytest
import torch
from tests.circuits.conftest import small_network, small_task

import neurochains as nc
from neurochains.errors import DataError, SettingsError
from neurochains.pictures import (
    CircuitPicture,
    circuit_figure,
    correlation_figure,
    revisualisation_figure,
    visualise_circuit,
)

NETWORK, TASK = small_network("residual"), small_task(4)
PICTURE = torch.zeros(3, 8, 8, dtype=torch.uint8)


def words(figure):
    axes = figure.axes[0]
    legend = axes.get_legend()
    return [text.get_text() for text in [*axes.texts, *(legend.get_texts() if legend else [])]]


def test_a_curve_for_each_method_without_its_collapses():
    made = correlation_figure({"budget": [(0.1, 0.9), (0.05, 0.8)], "worst": [(0.05, float("nan")), (0.1, 0.1)]})
    budget, worst = made.axes[0].get_lines()[:2]
    assert list(budget.get_xdata()) == [0.05, 0.1]
    assert list(worst.get_ydata()) == [0.1]
    assert budget.get_linewidth() > worst.get_linewidth()
    assert words(made) == ["budget", "worst"]


def test_no_curve_is_an_error():
    with pytest.raises(DataError, match="at least one curve"):
        correlation_figure({"worst": [(0.1, float("nan"))]})


def test_pictures_by_method_and_size():
    row = {0.1: CircuitPicture(PICTURE, 2.5, 0.9), 0.3: CircuitPicture(None)}
    made = revisualisation_figure(CircuitPicture(PICTURE, 3.0, 1.0), {"budget": row, "worst": row}, title="c_1")
    assert len(made.axes[0].get_images()) == 3
    said = words(made)
    assert said.count("total collapse") == 2
    assert said.count("reaches 2.5, r 0.90") == 2
    assert {"10% of the kernels", "30% of the kernels", "budget", "worst", "c_1"} <= set(said)
    with pytest.raises(DataError, match="rows of the same sizes"):
        revisualisation_figure(CircuitPicture(None), {"budget": row, "worst": {0.1: row[0.1]}})


def test_a_circuit_has_a_dot_for_each_filter_and_a_line_for_each_source():
    made = nc.circuit(NETWORK, TASK, target="c.0[1]", keep=0.5, method="topk")
    drawn = circuit_figure(made)
    lines = sum(len(edge.sources) for edge in made.edges())
    assert len(drawn.axes[0].collections[0].get_segments()) == lines
    dots = sum(len(line.get_xdata()) for line in drawn.axes[0].get_lines() if line.get_marker() == "o")
    assert dots == sum(len(kept) for kept in made.filters.values()) + 3
    few = circuit_figure(made, most=5)
    assert len(few.axes[0].collections[0].get_segments()) == 5
    assert f"5 of {lines:,} lines are drawn, the strongest" in words(few)


def test_a_picture_of_what_a_target_answers_to_in_its_circuit():
    made = nc.circuit(NETWORK, TASK, target="c.0[1]", keep=0.6, method="topk")
    seen = visualise_circuit(made, steps=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert seen.images.shape == (1, 3, 16, 16)
    normalised = (seen.images.float() / 255 - 0.5) / 0.5
    assert float(seen.reached[0]) == pytest.approx(made.run(normalised).mean().item(), abs=1e-4)
    with pytest.raises(SettingsError, match="Pass mean= and std="):
        visualise_circuit(made)
