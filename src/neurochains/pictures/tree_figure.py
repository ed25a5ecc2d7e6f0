"""The figure of a decision process: a tree from left to right, each parting at its layer, each end with its classes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from neurochains.errors import DataError
from neurochains.pictures.figures import (
    FAINT,
    HAIR,
    INK,
    MARGIN,
    PAGE,
    QUIET,
    SMALL,
    canvas_axes,
    colormap,
    figure,
    shorten,
    text_width,
    title_line,
)

__all__ = ["tree_figure"]

Node = Mapping[str, Any]
_HEAD, _FOOT, _LINE = 62.0, 14.0, 26.0  # points
_BAR, _TALL, _END = 30.0, 8.0, 100.0
_WORDS, _SHOWN = 250.0, 4


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where nodes stand: `columns` of layers and `rows` of nodes (by identity) in points; `largest` is an end's."""

    columns: dict[str | None, float]
    rows: dict[int, float]
    colors: dict[str, tuple[float, ...]]
    images: int
    largest: int


def tree_figure(root: Node, *, title: str = "", width: float = PAGE) -> Figure:
    """Return the tree of a decision process (the paper's Fig. C).

    A bar shows the shares of classes in a node, a line is as thick as the share of images that take it, and the layer
    above a parting is where it happens.

    Args:
        root: as `DecisionTree.to_json` gives it: ``images``, ``classes``, ``layer``, ``tests`` and ``parts``.
        title: above the figure.
        width: in inches.

    Raises:
        DataError: the tree holds no image.
    """
    if not root.get("images"):
        raise DataError("expected a tree of at least one image, got none")
    ends = [node for node in _walk(root) if not node["parts"]]
    made = figure((_HEAD + _LINE * len(ends) + _FOOT) / 72, width=width)
    page = canvas_axes(made)
    title_line(page, title)
    plan = _planned(root, width * 72)
    for layer, x in plan.columns.items():
        if layer is not None:
            page.plot([x, x], [_HEAD - 8, _HEAD + _LINE * len(ends)], color=HAIR, linewidth=0.6, zorder=0)
            text = shorten(layer, SMALL, 90)
            page.text(x, _HEAD - 11, text, size=SMALL, color=QUIET, rotation=15, rotation_mode="anchor")
    _draw(page, root, plan)
    return made


def _walk(node: Node) -> Iterator[Node]:
    yield node
    for child in node["parts"]:
        yield from _walk(child)


def _planned(root: Node, width: float) -> _Plan:
    known = {name: None for node in _walk(root) for name in node["tests"]}
    parting = {node["layer"] for node in _walk(root)} - {None}
    layers = _ordered([list(node["tests"]) for node in _walk(root)], list(known))
    layers = [layer for layer in layers if layer in parting]
    right = width - MARGIN - _WORDS - _END - 40
    step = (right - MARGIN - 20) / max(1, len(layers))
    columns: dict[str | None, float] = {layer: MARGIN + 20 + step * place for place, layer in enumerate(layers)}
    columns[None] = right + 20
    rows: dict[int, float] = {}
    _set_rows(root, rows, iter(range(10**6)))
    names = sorted(root["classes"])
    colors = {name: colormap("tab20")(number % 20) for number, name in enumerate(names)}
    largest = max(node["images"] for node in _walk(root) if not node["parts"])
    return _Plan(columns, rows, colors, root["images"], largest)


def _ordered(ways: list[list[str]], known: list[str]) -> list[str]:
    """Return the layers in the order of execution, which every way from the root follows."""
    before: dict[str, set[str]] = {layer: set() for layer in known}
    for way in ways:
        for first, second in itertools.pairwise(way):
            before[second].add(first)
    order: list[str] = []
    while len(order) < len(known):
        order.append(next(layer for layer in known if layer not in order and before[layer] <= set(order)))
    return order


def _set_rows(node: Node, rows: dict[int, float], lines: Iterator[int]) -> float:
    if not node["parts"]:
        rows[id(node)] = _HEAD + _LINE * (next(lines) + 0.5)
    else:
        places = [_set_rows(child, rows, lines) for child in node["parts"]]
        rows[id(node)] = sum(places) / len(places)
    return rows[id(node)]


def _draw(page: Axes, node: Node, plan: _Plan) -> None:
    x, y = plan.columns[node["layer"]], plan.rows[id(node)]
    for child in node["parts"]:
        across, down = plan.columns[child["layer"]], plan.rows[id(child)]
        thick = 0.6 + 5 * child["images"] / plan.images
        turn = min(x + _BAR, across - 4)
        page.plot([x + 4, turn, across], [y, down, down], color=FAINT, linewidth=thick, zorder=1)
        _draw(page, child, plan)
    wide = _BAR if node["parts"] else _END * (node["images"] / plan.largest) ** 0.5
    _draw_bar(page, node, plan, (x, y), wide)
    count = page.text(x, y - 7, f"{node['images']:,}", size=SMALL, color=INK, va="bottom", zorder=3)
    count.set_path_effects([withStroke(linewidth=3, foreground="white")])  # branches pass behind it
    if not node["parts"]:
        left = plan.columns[None] + _END + 8
        page.text(left, y, shorten(_words(node), SMALL, _WORDS), size=SMALL, color=INK, va="center")


def _draw_bar(page: Axes, node: Node, plan: _Plan, place: tuple[float, float], wide: float) -> None:
    """Draw the shares of classes in a node, always in the same order."""
    x, y = place
    known = sum(node["classes"].values())
    page.add_patch(Rectangle((x, y - _TALL / 2), wide, _TALL, facecolor=FAINT, edgecolor="white", zorder=2))
    for name in plan.colors:
        part = wide * node["classes"].get(name, 0) / max(known, 1)
        page.add_patch(Rectangle((x, y - _TALL / 2), part, _TALL, facecolor=plan.colors[name], linewidth=0, zorder=2))
        x += part


def _words(node: Node) -> str:
    """Return the most frequent classes of a node with their shares."""
    known = sum(node["classes"].values())
    pairs = sorted(node["classes"].items(), key=lambda pair: -pair[1])
    shown = [f"{name} {count / known:.0%}" for name, count in pairs[:_SHOWN]]
    more = len(pairs) - _SHOWN
    text = ", ".join(shown) + (f", {more} more" if more > 0 else "")
    return text if text_width(text, SMALL) <= _WORDS or len(shown) < 2 else ", ".join(shown[:2]) + f", {more + 2} more"
