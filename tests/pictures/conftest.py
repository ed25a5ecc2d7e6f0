"""Sub-networks of many shapes to draw, and the check that a reader can read what was drawn."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.text import Text

from neurochains.pictures import ArchitectureView, Bypass, Column, Edge

CHANNELS = Column("input", "input", 3, (0, 1, 2), None, ("red", "green", "blue"))


def texts_of(figure: Figure) -> list[Text]:
    """Return the texts of a figure that are drawn and not empty; ticks outside the axes are not drawn."""
    figure.canvas.draw()
    hidden = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in outside(axis)}
    return [
        text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def outside(axis: Axis) -> list[Text]:
    """Return the labels of an axis that lie beyond its ends."""
    low, high = sorted(axis.get_view_interval())
    room = 1e-9 * (high - low)
    ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
    gone = [tick for tick in ticks if not low - room <= tick.get_loc() <= high + room]
    return [label for tick in gone for label in (tick.label1, tick.label2)]


@pytest.fixture
def words() -> Callable[[Figure], list[str]]:
    """Return the function from a figure to all that is written in it."""
    return lambda figure: [text.get_text() for text in texts_of(figure)]


@pytest.fixture
def legible() -> Callable[[Figure], None]:
    """Return the check that no text of a figure overlaps another, is cut off, or is too small."""

    def check(figure: Figure) -> None:
        texts = texts_of(figure)
        boxes = [(text, text.get_window_extent()) for text in texts]
        width, height = figure.canvas.get_width_height()
        for text, box in boxes:
            inside = box.x0 >= -0.5 and box.y0 >= -0.5 and box.x1 <= width + 0.5 and box.y1 <= height + 0.5
            assert inside, f"{text.get_text()!r} leaves the figure: {box}"
            assert text.get_fontsize() >= 5 or len(text.get_text()) > 3
        for (one, a), (other, b) in combinations(boxes, 2):
            across = min(a.x1, b.x1) - max(a.x0, b.x0)
            down = min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across <= 1 or down <= 1, f"{one.get_text()!r} overlaps {other.get_text()!r}"

    return check


def plain(kept: list[int], *, total: int = 512, classes: tuple[str, ...] = ("kangaroo", "banana")) -> ArchitectureView:
    """Return a network of layers one after the other."""
    dice = np.random.default_rng(len(kept))
    columns = [CHANNELS]
    for i, count in enumerate(kept):
        units = tuple(sorted(dice.choice(total, count, replace=False).tolist()))
        columns.append(
            Column(f"L{2 * i}", f"features.{2 * i}", total, units, tuple(dice.gamma(2, 0.4, count).tolist()))
        )
    columns.append(Column("logits", "classifier", 1000, tuple(range(len(classes))), None, classes))
    live = [at for at, column in enumerate(columns) if column.kept]
    edges = [
        Edge(a, s, b, t, float(dice.laplace()))
        for a, b in pairwise(live)
        for s in columns[a].kept
        for t in columns[b].kept
    ]
    return ArchitectureView(tuple(columns), tuple(edges), (), "kangaroo and banana")


def residual(blocks: int, kept: int, skipped: set[int]) -> ArchitectureView:
    """Return bottleneck blocks of three layers; each block reads the stem and all blocks before it."""
    dice = np.random.default_rng(blocks)
    columns, spans, edges = [CHANNELS], [], []
    streams = [0]
    for block in range(blocks):
        first = len(columns)
        for part, total in enumerate((256, 256, 1024), start=1):
            count = 0 if block in skipped else kept
            units = tuple(sorted(dice.choice(total, count, replace=False).tolist()))
            label = f"L{1 + block // 6}B{1 + block % 6}C{part}"
            columns.append(Column(label, label.lower(), total, units, (1.0,) * count))
        spans.append(Bypass(first, first + 2, columns[first].label[:4], block in skipped))
        if block not in skipped:
            sources = [(at, first) for at in streams] + [(first, first + 1), (first + 1, first + 2)]
            edges += [(a, b) for a, b in sources]
            streams.append(first + 2)
    columns.append(Column("logits", "fc", 1000, (217, 949), None, ("dalmatian", "strawberry")))
    edges += [(at, len(columns) - 1) for at in streams[1:]]
    kernels = tuple(
        Edge(a, s, b, t, float(dice.normal())) for a, b in edges for s in columns[a].kept for t in columns[b].kept
    )
    return ArchitectureView(tuple(columns), kernels, tuple(spans), "dalmatian and strawberry")


VIEWS: dict[str, Callable[[], ArchitectureView]] = {
    "one filter": lambda: plain([1]),
    "5 layers, 10 filters": lambda: plain([2, 3, 2, 2, 1]),
    "16 layers, 116 filters": lambda: plain([5, 4, 6, 5, 9, 8, 12, 7, 10, 14, 8, 12, 3, 6, 4, 3]),
    "empty layers": lambda: plain([5, 0, 6, 5, 0, 8, 12, 0, 0, 3]),
    "6 layers, 500 filters": lambda: plain(
        [60, 50, 120, 90, 100, 80], classes=tuple("a long name of a class" * 2 for _ in range(9))
    ),
    "70 layers": lambda: plain([7] * 70),
    "16 blocks": lambda: residual(16, 2, {2, 5, 6, 7, 15}),
    "all blocks": lambda: residual(16, 10, set()),
    "one block left": lambda: residual(24, 1, set(range(23))),
}


@pytest.fixture(params=list(VIEWS))
def view(request: pytest.FixtureRequest) -> ArchitectureView:
    """Return each of the sub-networks in turn."""
    return VIEWS[request.param]()


@pytest.fixture
def make_plain() -> Callable[..., ArchitectureView]:
    return plain


@pytest.fixture
def make_residual() -> Callable[..., ArchitectureView]:
    return residual
