"""Figures of sub-features: the clusters of one filter with what they look like, and the filters of a layer ranked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from neurochains.circuits import LayerSubFeatures, SubFeatures
from neurochains.data import Task
from neurochains.errors import DataError
from neurochains.pictures.crops import crop_at, outline
from neurochains.pictures.figures import (
    BLUE,
    BODY,
    FAINT,
    INK,
    MARGIN,
    PAGE,
    QUIET,
    SERIES,
    SMALL,
    calm,
    canvas_axes,
    figure,
    text_width,
    title_line,
)
from neurochains.pictures.subfeature_visuals import SubFeatureVisuals
from neurochains.pictures.tiles import tile

__all__ = ["layer_subfeatures_figure", "subfeature_figure"]

HEAD, FOOT = 34.0, 16.0
PLANE = 230.0  # points: the side of the map of patches
MATRIX = 96.0
ROW, GAP = 62.0, 6.0  # of one cluster
WHOLE = 0.9  # a box of this share of a crop is not outlined
WORDS = 74.0  # room for the name of a cluster
LINE = 15.0  # of one filter in a ranking
MARKERS = ("o", "s", "^", "D", "v")
CONTROL = "#b5bac0"


def subfeature_figure(
    found: SubFeatures,
    task: Task,
    *,
    visuals: SubFeatureVisuals | None = None,
    points: NDArray[np.floating] | None = None,
    crops: int = 5,
    width: float = PAGE,
) -> Figure:
    """Return what one filter answers to: a map of its patches, each cluster with its strongest patches, and overlaps.

    Args:
        found: the sub-features.
        task: the images they were found in.
        visuals: a picture for each cluster, drawn in front of its patches.
        points: ``(P, 2)``, a place for each patch; by default the first two principal components of the directions.
        crops: how many patches of each cluster.
        width: of the figure in inches; the height follows.

    Raises:
        DataError: the images are others, or the points or pictures do not belong to these sub-features.
    """
    _check(found, task, visuals, points)
    left = MARGIN + PLANE + 30
    rows = max(found.clusters, 1)
    body = max(PLANE + 34 + MATRIX + 26 if found.clusters > 1 else PLANE + 20, rows * (ROW + GAP + 8))
    made = figure((HEAD + body + FOOT) / 72, width=width)
    page = canvas_axes(made)
    title_line(page, _title(found))
    _draw_plane(
        _panel(made, MARGIN + 4, HEAD + 6, PLANE, PLANE), found, components(found) if points is None else points
    )
    if found.clusters > 1:
        _draw_overlaps(made, found, HEAD + PLANE + 44)
    for cluster in range(found.clusters):
        shown = _crops(found, task, cluster, crops)
        picture = None if visuals is None else visuals.images[cluster]
        _draw_cluster(page, found, cluster, (left, HEAD + 6 + cluster * (ROW + GAP + 8)), picture, shown)
    if not found.clusters:
        page.text(left, HEAD + 20, "No cluster of patches was found.", size=BODY, color=QUIET)
    return made


def layer_subfeatures_figure(ranked: LayerSubFeatures, *, most: int = 40, width: float = PAGE) -> Figure:
    """Return the filters of a layer with sub-features, the most separable first, beside their mixed controls.

    Args:
        ranked: the sub-features of the layer's filters.
        most: how many filters at most.
        width: of the figure in inches; the height follows.

    Raises:
        DataError: no filter has two clusters or more.
    """
    shown = ranked.separable[:most]
    if not shown:
        raise DataError(f"No filter of {ranked.layer} has two clusters or more: there is nothing to rank.")
    made = figure((HEAD + 24 + LINE * len(shown) + 40) / 72, width=width)
    page = canvas_axes(made)
    title_line(page, f"Sub-features of {ranked.layer}: {len(ranked.separable)} of {len(ranked)} filters")
    left = MARGIN + max(text_width(_row_name(one), BODY) for one in shown) + 12
    axes = _panel(made, left, HEAD + 24, width * 72 - left - 60, LINE * len(shown))
    calm(axes, grid="x")
    for line, one in enumerate(shown):
        axes.plot([one.separability, one.mixed_separability], [line, line], color=FAINT, linewidth=0.8, zorder=1)
        axes.plot(one.mixed.tolist(), [line] * len(one.mixed), "|", color=CONTROL, markersize=6, zorder=2)
        axes.plot([one.separability], [line], "o", color=BLUE, markersize=5, zorder=3, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.4, -0.6))
    axes.set_yticks(range(len(shown)), [_row_name(one) for one in shown], size=BODY, color=INK)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("kernels that two clusters' circuits share, of those of either (median over pairs)")
    page.text(left, HEAD + 12, "● clusters", size=SMALL, color=BLUE, va="center")
    page.text(left + 64, HEAD + 12, "| the same patches dealt anew", size=SMALL, color=QUIET, va="center")
    return made


def components(found: SubFeatures) -> NDArray[np.float64]:
    """Return the first two principal components of the patches' directions, ``(P, 2)``."""
    directions = F.normalize(found.patches.vectors.double(), dim=1)
    centred = directions - directions.mean(0)
    if min(centred.shape) < 2:
        return np.zeros((len(directions), 2))
    left, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    signs = axes[:2].gather(1, axes[:2].abs().argmax(1, keepdim=True)).sign()[:, 0]
    return (left[:, :2] * sizes[:2] * signs).numpy()


def _title(found: SubFeatures) -> str:
    if found.clusters < 2:
        return f"{found.label}: {found.clusters} cluster{'s' * (found.clusters != 1)} among its top patches"
    return (
        f"{found.label}: {found.clusters} sub-features, whose circuits share {found.separability:.0%} of their kernels "
        f"(mixed {found.mixed_separability:.0%})"
    )


def _row_name(found: SubFeatures) -> str:
    return f"{found.label}, {found.clusters} clusters"


def _panel(made: Figure, x: float, y: float, across: float, down: float) -> Axes:
    """Return axes at a place of the page, in points from the top left."""
    width, height = made.get_size_inches() * 72
    return made.add_axes((x / width, 1 - (y + down) / height, across / width, down / height))


def _style(cluster: int) -> dict[str, Any]:
    return {"color": SERIES[cluster % len(SERIES)], "marker": MARKERS[cluster // len(SERIES) % len(MARKERS)]}


def _draw_plane(axes: Axes, found: SubFeatures, points: NDArray[np.floating]) -> None:
    """Draw the patches as points, coloured by cluster."""
    calm(axes)
    axes.set(xticks=[], yticks=[])
    none = found.members(-1).numpy()
    axes.scatter(*points[none].T, s=9, color=CONTROL, linewidths=0, zorder=1)
    for cluster in range(found.clusters):
        axes.scatter(*points[found.members(cluster).numpy()].T, s=13, linewidths=0, zorder=2, **_style(cluster))
    words = f"patches, by what the rest of the layer answers; {len(none)} in no cluster"
    axes.set_xlabel(words, size=SMALL, color=QUIET)


def _draw_cluster(
    page: Axes,
    found: SubFeatures,
    cluster: int,
    place: tuple[float, float],
    picture: Tensor | None,
    crops: Sequence[Tensor],
) -> None:
    """Draw one row: which cluster, its visualisation, its strongest patches."""
    x, y = place
    kernels = sum(int(mask.sum()) for mask in found.circuits[cluster].values())
    page.plot([x + 4], [y + 10], markersize=6, linestyle="none", **_style(cluster))
    page.text(x + 12, y + 10, f"cluster {cluster}", size=BODY, color=INK, va="center_baseline")
    page.text(x, y + 25, f"{len(found.members(cluster))} patches", size=SMALL, color=QUIET)
    page.text(x, y + 36, f"{kernels:,} kernels", size=SMALL, color=QUIET)
    x += WORDS
    if picture is not None:
        tile(page, picture, x, y, ROW, ROW)
        x += ROW + 3 * GAP
    side = min(ROW, (page.get_xlim()[1] - MARGIN - x) / max(len(crops), 1) - GAP)
    for number, crop in enumerate(crops):
        tile(page, crop, x + number * (side + GAP), y, side, side)


def _crops(found: SubFeatures, task: Task, cluster: int, count: int) -> list[Tensor]:
    """Return the strongest patches of a cluster, what they see outlined where that is not all."""
    patches, shown = found.patches, []
    least = max(1, min(task.pixels.shape[-2:]) // 7)
    for index in found.members(cluster)[:count].tolist():
        top, left, bottom, right = patches.boxes[index].tolist()
        box, image = (top, left, bottom, right), int(patches.images[index])
        position = int(patches.rows[index]), int(patches.columns[index])
        crop = crop_at(
            image, position, float(patches.values[index]), lambda *_, box=box: box, task.pixels[image], least
        )
        height, width = bottom - top, right - left
        whole = height * width > WHOLE * crop.pixels.shape[-2] * crop.pixels.shape[-1]
        shown.append(crop.pixels if whole else outline(crop.pixels, crop.inner))
    return shown


def _draw_overlaps(made: Figure, found: SubFeatures, y: float) -> None:
    """Draw the table of shared kernels, and separability beside the draws of the mixed control."""
    table = found.overlaps.numpy()
    axes = _panel(made, MARGIN + 22, y, MATRIX, MATRIX)
    axes.imshow(table, cmap="Blues", vmin=0, vmax=1)
    size = BODY if len(table) < 5 else SMALL
    for row, values in enumerate(table):
        for column, value in enumerate(values):
            if row != column and len(table) < 7:
                color = "white" if value > 0.6 else INK
                axes.text(column, row, f"{value:.2f}"[1:], size=size, color=color, ha="center", va="center")
    axes.set_xticks(range(len(table)), [str(number) for number in range(len(table))], size=SMALL, color=QUIET)
    axes.set_yticks(range(len(table)), [str(number) for number in range(len(table))], size=SMALL, color=QUIET)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("share of common kernels", size=SMALL, color=INK)
    _draw_control(_panel(made, MARGIN + 22 + MATRIX + 26, y, PLANE - MATRIX - 48, MATRIX), found)


def _draw_control(axes: Axes, found: SubFeatures) -> None:
    calm(axes, grid="y")
    axes.plot([0], [found.separability], "o", color=BLUE, markersize=5, clip_on=False)
    axes.plot([1] * len(found.mixed), found.mixed.tolist(), "_", color=QUIET, markersize=10)
    axes.set(xlim=(-0.6, 1.6), ylim=(0, 1))
    axes.set_xticks([0, 1], ["clusters", "mixed"], size=SMALL, color=INK)
    axes.set_yticks([0, 0.5, 1], ["0", ".5", "1"], size=SMALL)


def _check(
    found: SubFeatures, task: Task, visuals: SubFeatureVisuals | None, points: NDArray[np.floating] | None
) -> None:
    digests = found.provenance.get("images", {}).get("digests", list(task.digests))
    if list(digests) != list(task.digests):
        raise DataError(f"The sub-features of {found.label} were found in other images. Pass the task they came from.")
    if visuals is not None and len(visuals.images) != found.clusters:
        raise DataError(f"Wanted a picture for each of {found.clusters} clusters, got {len(visuals.images)}.")
    if points is not None and np.shape(points) != (len(found.patches), 2):
        raise DataError(f"Wanted points ({len(found.patches)}, 2), one for each patch, got {np.shape(points)}.")
