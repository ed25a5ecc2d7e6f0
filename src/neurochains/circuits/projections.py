"""Projections: a place in the plane for each filter of a layer, so that filters that do alike lie together.

1. A row of numbers describes each filter: its importance for each class (class-wise), or its answer to the feature
   visualisations of the others (feature-viz). Rows are L2-normalised, since it is the pattern that counts.
2. UMAP brings the rows into the plane (McInnes et al. 2018); where it is not installed, the two principal components.
3. The points spread to a disc of uniform density, 99 steps: each pair repels with the inverse of its distance, and the
   centre attracts in proportion to the distance. In the plane the two balance where the density is the same all over
   a disc. Its radius is ``sqrt(n / n_max)``, n_max being the units of the largest layer.
4. Each layer is turned so that the edges to the layers before it are short.

The same numbers give the same places, on every run.

Shapes: N filters, D numbers for each, S filters of other layers, E edges.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import warnings

import numpy as np
from numpy.typing import NDArray

from neurochains.errors import DataError, SettingsError

__all__ = ["METHODS", "embed", "grid", "known_method", "place", "rotate", "spread"]

METHODS = ("auto", "umap", "pca")
"""How rows become points: ``auto`` is UMAP where it is installed."""

STEPS = 99
FEWEST_FOR_UMAP = 6
NEIGHBOURS = 15
MOST_EDGES = 10_000
ANGLES = 720
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_PACE = 0.5  # share of the force that a step follows
_EXTRA = "pip install 'neurochains[explorer]'"

Array = NDArray[np.floating]
Edges = tuple[NDArray[np.integer], Array, Array]
"""Targets ``(E,)`` as indices, the points of their sources ``(E, 2)``, and the weights ``(E,)``."""


def place(rows_ND: Array, *, method: str = "auto", largest: int | None = None, seed: int = 0) -> Array:
    """Return a place ``(N, 2)`` for each filter: its row normalised, embedded and spread to a disc.

    Args:
        rows_ND: what describes each filter.
        method: one of `METHODS`.
        largest: the units of the network's largest layer; N if None. The disc has the radius ``sqrt(N / largest)``.
        seed: of UMAP.

    Raises:
        DataError: the rows are no finite table.
        SettingsError: there is no such method, or it is not installed.
    """
    points = embed(_normalised(rows_ND), method=method, seed=seed)
    return spread(points, radius=math.sqrt(len(points) / (largest or len(points))))


def grid(count: int, *, largest: int | None = None) -> Array:
    """Return places ``(count, 2)`` on a square grid, row by row, as wide as the disc of so many points."""
    side = math.ceil(math.sqrt(count))
    rows, columns = np.divmod(np.arange(count), side)
    points = np.stack([columns, -rows], 1) - np.array([side - 1, 1 - side]) / 2
    return points * 2 * math.sqrt(count / (largest or count)) / max(side - 1, 1)


def known_method(method: str) -> str:
    """Return ``"umap"`` or ``"pca"``: what a method of `METHODS` comes to here.

    Raises:
        SettingsError: there is no such method, or it is not installed.
    """
    if method not in METHODS:
        raise SettingsError(f"A projection is one of {', '.join(METHODS)}; got {method!r}.")
    installed = importlib.util.find_spec("umap") is not None
    if method == "umap" and not installed:
        raise SettingsError(f"UMAP is not installed. Install it with: {_EXTRA}; or take pca.")
    return "umap" if method != "pca" and installed else "pca"


def embed(rows_ND: Array, *, method: str = "auto", seed: int = 0) -> Array:
    """Return points ``(N, 2)`` for rows, near each other for rows that are alike; `place` normalises rows first.

    Few or narrow tables, of less than 6 rows or 3 numbers, go to their principal components whatever the method.

    Raises:
        DataError: the rows are no finite table.
        SettingsError: there is no such method, or it is not installed.
    """
    rows_ND = _checked(rows_ND)
    if known_method(method) == "pca" or len(rows_ND) < FEWEST_FOR_UMAP or rows_ND.shape[1] < 3:
        return _components(rows_ND)
    return _umap(rows_ND, seed)


def spread(points_N2: Array, *, radius: float = 1.0, steps: int = STEPS) -> Array:
    """Return points spread to a disc of uniform density around 0; neighbours stay neighbours where they can.

    Args:
        points_N2: where the points start; those that coincide are told apart by their index.
        radius: of the disc.
        steps: of the descent.
    """
    points = _start(np.asarray(points_N2, dtype=np.float64))
    spacing = math.sqrt(math.pi / len(points))
    for step in range(steps):
        moves = _PACE * (_repulsion(points) - points)
        most = spacing * (1 - step / steps) / np.maximum(np.hypot(*moves.T), 1e-12)
        points = points + moves * np.minimum(most, 1.0)[:, None]
    points -= points.mean(0)
    reach = np.quantile(np.hypot(*points.T), 0.99) if len(points) > 1 else 0.0
    return points * (radius * math.sqrt(max(1 - 1 / len(points), 0.0)) / reach if reach else 0.0)


def rotate(points_N2: Array, edges: Edges) -> Array:
    """Return the points turned around 0 by the angle that makes the edges shortest, weighted by their importance.

    The heaviest 10,000 edges count. Without any, the points stay.

    Args:
        points_N2: the places of a layer.
        edges: targets ``(E,)`` among the points, the places of their sources ``(E, 2)``, and weights ``(E,)`` from 0.

    Raises:
        DataError: the edges do not fit the points.
    """
    targets, sources_E2, weights_E = edges
    if not len(targets) == len(sources_E2) == len(weights_E) or (len(targets) and targets.max() >= len(points_N2)):
        raise DataError(f"Wanted edges of {len(points_N2)} points, but got {len(targets)}, {len(sources_E2)} sources.")
    order = np.argsort(-weights_E, kind="stable")[:MOST_EDGES]
    order = order[weights_E[order] > 0]
    if not len(order):
        return points_N2
    angle = _best_angle(points_N2[targets[order]], sources_E2[order], weights_E[order])
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return points_N2 @ turn


def _best_angle(points_E2: Array, sources_E2: Array, weights_E: Array) -> float:
    """Return the angle of the least weighted length: the best of 720, then of ever finer ones around it."""
    points, sources = points_E2 @ [1, 1j], sources_E2 @ [1, 1j]
    squares, products = abs(points) ** 2 + abs(sources) ** 2, points * sources.conj()

    def length(angle: float) -> float:
        inner = products.real * math.cos(angle) - products.imag * math.sin(angle)
        return float(weights_E @ np.sqrt(np.maximum(squares - 2 * inner, 0)))

    best, step = 0.0, 2 * math.pi / ANGLES
    candidates = step * np.arange(ANGLES)
    for _ in range(6):
        best = float(min(candidates, key=length))
        candidates = best + step * np.linspace(-1, 1, 11)
        step /= 5
    return best


def _checked(rows_ND: Array) -> Array:
    rows = np.asarray(rows_ND, dtype=np.float64)
    if rows.ndim != 2 or not rows.size or not np.isfinite(rows).all():
        raise DataError(f"Wanted a finite row of numbers for each filter, (N, D); got {rows.shape}.")
    return rows


def _normalised(rows_ND: Array) -> Array:
    rows = _checked(rows_ND)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1.0)


def _components(rows_ND: Array) -> Array:
    """Return the first two principal components; the entry of largest size of each is positive."""
    centred = rows_ND - rows_ND.mean(0)
    if rows_ND.shape[0] <= rows_ND.shape[1]:
        values, vectors = np.linalg.eigh(centred @ centred.T)
        scores = vectors * np.sqrt(np.maximum(values, 0))
    else:
        scores = centred @ np.linalg.eigh(centred.T @ centred)[1]
    scores = np.pad(scores[:, ::-1][:, :2], ((0, 0), (0, max(0, 2 - scores.shape[1]))))
    peaks = np.take_along_axis(scores, abs(scores).argmax(0)[None], 0)
    return scores * np.where(peaks < 0, -1, 1)


def _umap(rows_ND: Array, seed: int) -> Array:
    with warnings.catch_warnings():  # of numba and scikit-learn, on their own use of each other
        warnings.simplefilter("ignore")
        umap = importlib.import_module("umap")
        reducer = umap.UMAP(
            n_neighbors=min(NEIGHBOURS, len(rows_ND) - 1), init="pca", random_state=seed, n_jobs=1, min_dist=0.1
        )
        points = np.asarray(reducer.fit_transform(rows_ND.astype(np.float32)), dtype=np.float64)
    lost = ~np.isfinite(points).all(1)  # rows without a neighbour
    points[lost] = points[~lost].mean(0) if not lost.all() else 0.0
    return points


def _start(points_N2: Array) -> Array:
    """Return points around 0 with the variance of a uniform disc, a grain of a sunflower's seeds added."""
    centred = points_N2 - points_N2.mean(0)
    scale = math.sqrt(float((centred**2).sum(1).mean()))
    number = np.arange(len(points_N2))
    radius, angle = np.sqrt((number + 0.5) / len(points_N2)), number * _GOLDEN_ANGLE
    seeds = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    return (centred / (scale * math.sqrt(2)) if scale > 1e-12 else 0.0) + 1e-3 * seeds


def _repulsion(points_N2: Array) -> Array:
    """Return the mean over the other points of ``(p - q) / |p - q|**2``."""
    points = points_N2.astype(np.float32)  # half the time, and far more than the eye needs
    lengths = (points**2).sum(1)
    inverse_NN = 1 / np.maximum(lengths[:, None] + lengths - 2 * points @ points.T, 1e-6)
    np.fill_diagonal(inverse_NN, 0.0)
    return (points * inverse_NN.sum(1, keepdims=True) - inverse_NN @ points) / len(points)
