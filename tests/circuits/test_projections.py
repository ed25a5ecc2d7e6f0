from __future__ import annotations

import importlib.util
import math
import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.circuits import projections
from neurochains.circuits.projections import embed, grid, known_method, place, rotate, spread
from neurochains.errors import DataError, SettingsError


def clusters(each: int = 20, dimensions: int = 12, noise: float = 0.05) -> np.ndarray:
    """Rows in three groups, each strong in four numbers of its own."""
    rows = noise * np.random.default_rng(0).random((3 * each, dimensions))
    for group in range(3):
        rows[group * each : (group + 1) * each, 4 * group : 4 * group + 4] += 1
    return rows


def apart(points: np.ndarray, each: int) -> float:
    """The smallest distance of two group centres over the largest mean distance to a centre."""
    groups = points.reshape(-1, each, 2)
    centres = groups.mean(1)
    between = [np.linalg.norm(centres[a] - centres[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    return min(between) / np.linalg.norm(groups - centres[:, None], axis=2).mean(1).max()


def test_components_are_those_of_the_singular_values():
    for shape in ((30, 7), (7, 30)):
        rows = np.random.default_rng(1).normal(size=shape) * np.linspace(3, 0.1, shape[1])
        centred = rows - rows.mean(0)
        left, values, _ = np.linalg.svd(centred, full_matrices=False)
        wanted = left[:, :2] * values[:2]
        found = embed(rows, method="pca")
        np.testing.assert_allclose(abs(found), abs(wanted), atol=1e-8)
        assert (found[abs(found).argmax(0), [0, 1]] > 0).all()


@pytest.mark.parametrize("rows", [np.ones((1, 5)), np.ones((4, 1)), np.zeros((9, 3)), np.eye(2)])
def test_few_narrow_and_equal_rows_have_places_too(rows):
    points = place(rows, method="pca")
    assert points.shape == (len(rows), 2)
    assert np.isfinite(points).all()
    assert len(np.unique(points.round(6), axis=0)) == len(rows)


def test_only_the_pattern_of_a_row_counts():
    rows = clusters()
    scaled = rows * np.linspace(1, 50, len(rows))[:, None]
    np.testing.assert_allclose(place(rows, method="pca"), place(scaled, method="pca"), atol=1e-6)


def test_filters_that_do_alike_lie_together():
    assert apart(place(clusters(), method="pca"), 20) > 1.5


@given(st.integers(2, 300), st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_the_disc_has_one_density(count, seed):
    points = spread(np.random.default_rng(seed).normal(size=(count, 2)) ** 3)
    radius = np.hypot(*points.T)
    nearest = np.linalg.norm(points[:, None] - points, axis=2) + 9 * np.eye(count)
    spacing = nearest.min(1) * math.sqrt(count)
    assert radius.max() < 1.1
    assert spacing.min() > 1
    assert spacing.max() < 2.6
    if count >= 200:  # fewer make rings
        share = np.histogram(radius**2, bins=[0, 1 / 2, 1.3])[0] / count
        np.testing.assert_allclose(share, 1 / 2, atol=0.1)


def test_neighbours_stay_neighbours():
    line = np.stack([np.linspace(-1, 1, 60), 0.02 * np.sin(np.arange(60))], 1)
    assert np.corrcoef(spread(line)[:, 0], line[:, 0])[0, 1] > 0.95


def test_the_radius_tells_the_size_of_the_layer():
    points = place(np.random.default_rng(2).random((64, 5)), method="pca", largest=256)
    assert np.hypot(*points.T).max() == pytest.approx(0.5, rel=0.06)
    assert abs(grid(64, largest=256)).max() == pytest.approx(0.5)


def test_the_same_numbers_give_the_same_places():
    assert np.array_equal(place(clusters(), method="pca"), place(clusters(), method="pca"))


def test_the_grid_goes_row_by_row():
    assert grid(4).tolist() == [[-1, 1], [1, 1], [-1, -1], [1, -1]]
    assert grid(1).tolist() == [[0, 0]]


def length(points: np.ndarray, edges) -> float:
    targets, sources, weights = edges
    return sum(
        w * math.dist(points[int(t)], source) for t, source, w in zip(targets.tolist(), sources.tolist(), weights)
    )


def turned(points: np.ndarray, angle: float) -> np.ndarray:
    return points @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])


def random_edges(count: int = 40) -> tuple[np.ndarray, tuple]:
    dice = np.random.default_rng(3)
    points = dice.normal(size=(10, 2))
    return points, (dice.integers(0, 10, count), dice.normal(size=(count, 2)), dice.random(count))


def test_the_angle_is_the_best_of_a_fine_scan():
    points, edges = random_edges()
    best = min(length(turned(points, angle), edges) for angle in np.linspace(0, 2 * math.pi, 5000))
    assert length(rotate(points, edges), edges) <= best + 1e-9


@given(st.floats(0, 6.28))
@settings(max_examples=20, deadline=None)
def test_a_turned_layer_is_turned_back(angle):
    points = np.random.default_rng(4).normal(size=(12, 2))
    edges = (np.arange(12), points, np.ones(12))
    np.testing.assert_allclose(rotate(turned(points, angle), edges), points, atol=1e-3)


def test_heavy_edges_decide(monkeypatch):
    points = np.array([[1.0, 0.0]])
    edges = (np.array([0, 0]), np.array([[0.0, 1.0], [0.0, -1.0]]), np.array([1.0, 5.0]))
    np.testing.assert_allclose(rotate(points, edges), [[0, -1]], atol=1e-3)
    monkeypatch.setattr(projections, "MOST_EDGES", 1)
    np.testing.assert_allclose(rotate(points, edges), [[0, -1]], atol=1e-3)


def test_without_edges_a_layer_stays():
    points = np.eye(2)
    for weights in (np.zeros(0), np.zeros(2)):
        edges = (np.arange(len(weights)), np.zeros((len(weights), 2)), weights)
        assert np.array_equal(rotate(points, edges), points)


def test_edges_must_fit():
    with pytest.raises(DataError, match="Wanted edges of 2 points"):
        rotate(np.eye(2), (np.array([2]), np.zeros((1, 2)), np.ones(1)))


@pytest.mark.parametrize("rows", [np.zeros(4), np.zeros((0, 3)), np.full((3, 3), np.nan)])
def test_rows_must_be_a_finite_table(rows):
    with pytest.raises(DataError, match="Wanted a finite row of numbers for each filter"):
        place(rows)


def test_without_umap_the_components_stand_in(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert known_method("auto") == "pca"
    assert np.array_equal(place(clusters()), place(clusters(), method="pca"))
    with pytest.raises(SettingsError, match=r"UMAP is not installed. Install it with: pip install 'neurochains\[expl"):
        place(clusters(), method="umap")


def test_an_unknown_method_is_an_error():
    with pytest.raises(SettingsError, match="one of auto, umap, pca; got 'mds'"):
        embed(clusters(), method="mds")


def test_umap_is_asked_for_a_repeatable_run(monkeypatch):
    asked = {}

    class Reducer:
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, rows):
            points = rows[:, :2].copy()
            points[0] = np.nan
            return points

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=Reducer, __spec__=object()))
    points = embed(clusters(4), method="umap", seed=7)
    assert (asked["random_state"], asked["n_jobs"], asked["n_neighbors"]) == (7, 1, 11)
    np.testing.assert_allclose(points[0], points[1:].mean(0))


@pytest.mark.slow
def test_umap_finds_the_clusters_twice():
    pytest.importorskip("umap", reason="UMAP is not installed", exc_type=ImportError)
    first, second = (embed(clusters(), method="umap") for _ in range(2))
    assert np.array_equal(first, second)
    assert apart(first, 20) > 2
