"""The figure of a sub-network: its layers from left to right, the kept filters, the kernels between them.

A filter is a cell coloured by its score, with its index where there is room. A kernel is a line, as wide as its
contribution. Layers continue on the next row where the page ends. See `layout` for where things go.
In SVG the label of a layer carries its dotted name as id, "layer-features.0".
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import EllipseCollection, PathCollection
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Arc, Rectangle
from matplotlib.path import Path

from neurochains.errors import SettingsError
from neurochains.pictures.figures import (
    BLUE,
    BODY,
    FAINT,
    INK,
    LANE,
    MARGIN,
    ORANGE,
    PAGE,
    QUIET,
    SMALL,
    TITLE,
    canvas_axes,
    figure,
    ink_on,
    score_colors,
    shorten,
    text_width,
)
from neurochains.pictures.layout import Plan, Route, Row, Slot
from neurochains.pictures.view import ArchitectureView, Bypass, Column, Edge

__all__ = ["architecture_figure", "strongest_edges"]

TOP = 44.0  # title and colour bar
UNSCORED = "#e8eaed"


def architecture_figure(view: ArchitectureView, *, max_edges: int = 400, width: float = PAGE) -> Figure:
    """Return the figure of a sub-network.

    Args:
        view: what to show.
        max_edges: most kernels to draw; the figure says how many there are. See `strongest_edges`.
        width: of the figure in inches; the height follows.

    Raises:
        SettingsError: ``max_edges`` is negative or the figure too narrow.
    """
    if max_edges < 0 or width < 4:
        raise SettingsError(f"expected max_edges >= 0 and a width of at least 4 inches, got {max_edges} and {width}")
    edges = strongest_edges(view.edges, max_edges)
    upright = _labels_upright(view, width * 72 - 2 * MARGIN)
    head = _head(view, upright)
    plan = Plan.make(
        view,
        edges,
        left=MARGIN,
        right=width * 72 - MARGIN,
        top=TOP,
        head=head,
        name_width=lambda name: text_width(shorten(name, BODY, 150), BODY),
    )
    notes = _notes(view, len(edges), plan, width * 72 - 2 * MARGIN)
    made = figure((plan.height + 26 + 10 * len(notes)) / 72, width=width)
    axes = canvas_axes(made)
    colors = _score_scale(view)
    _draw_lanes(axes, plan)
    _draw_edges(axes, plan, edges)
    _draw_cells(axes, view, plan, colors)
    for row in plan.rows:
        _draw_blocks(axes, view, row, head)
        for slot in row.slots:
            _draw_label(axes, view, slot, row, upright)
    _draw_title(made, axes, view, colors, width * 72)
    _draw_notes(axes, notes, edges, plan.height + 18)
    return made


def strongest_edges(edges: Sequence[Edge], most: int) -> tuple[Edge, ...]:
    """Return at most ``most`` edges, the weakest first, chosen so that no filter loses its last one early.

    Weights are compared within a target layer, since layers differ in scale. First the strongest edge into and out of
    each filter, beginning with the last column (the classes), then the strongest of all.
    """
    strength = _relative(edges)
    last = max((edge.target_column for edge in edges), default=0)
    order = sorted(range(len(edges)), key=lambda i: (-strength[i], i))
    seen: set[tuple[str, int, int]] = set()
    first, then = [], []
    for i in order:
        ends = {("out", edges[i].source_column, edges[i].source), ("in", edges[i].target_column, edges[i].target)}
        (then if ends <= seen else first).append(i)
        seen |= ends
    first.sort(key=lambda i: edges[i].target_column != last)
    chosen = (first + then)[:most]
    return tuple(edges[i] for i in sorted(chosen, key=lambda i: (strength[i], i)))


def _relative(edges: Sequence[Edge]) -> list[float]:
    """Return the size of each weight as a share of the largest into the same column."""
    largest: dict[int, float] = {}
    for edge in edges:
        largest[edge.target_column] = max(largest.get(edge.target_column, 0.0), abs(edge.weight))
    return [abs(edge.weight) / largest[edge.target_column] if edge.weight else 0.0 for edge in edges]


def _score_scale(view: ArchitectureView) -> ScalarMappable:
    """Return the colours of the scores: from 0 (or the least) to the largest, far outliers cut off."""
    scores = np.array([score for column in view.columns for score in column.scores or ()] or [0.0, 1.0])
    usual = float(np.percentile(scores, 95))
    top = usual if scores.max() > 2.5 * usual > 0 else float(scores.max())
    low = min(0.0, float(scores.min()))
    return ScalarMappable(Normalize(low, top if top > low else low + 1), score_colors())


def _color(colors: ScalarMappable, score: float) -> tuple[float, float, float]:
    """Return the colour of a score."""
    red, green, blue, _ = np.asarray(colors.to_rgba(np.array([score])))[0].tolist()
    return red, green, blue


def _labels_upright(view: ArchitectureView, room: float) -> bool:
    """Return whether the labels of all layers fit side by side; else they are turned."""
    columns = [column for column in view.columns if column.kept]
    texts = [text for column in columns for text in (column.label, _count(column))]
    widest = max((text_width(text, SMALL) for text in texts), default=0.0)
    narrow = len(view.columns) - len(columns)
    return len(columns) * (widest + 9) + narrow * 16 + 120 <= room


def _count(column: Column) -> str:
    """Return "3/512", or "3" where all units are there."""
    return f"{len(column.kept)}" if len(column.kept) == column.total else f"{len(column.kept)}/{column.total}"


def _narrow_label(view: ArchitectureView, slot: Slot) -> str:
    """Return the label of an empty layer or a skipped block."""
    column = view.columns[slot.first]
    return f"{slot.block.name} skipped" if slot.block is not None else f"{column.label}  0/{column.total}"


def _head(view: ArchitectureView, upright: bool) -> float:
    """Return the room above the cells for blocks and labels."""
    skipped = {at for block in view.blocks if block.skipped for at in range(block.first, block.last + 1)}
    turned = [f"{block.name} skipped" for block in view.blocks if block.skipped]
    for at, column in enumerate(view.columns):
        if at not in skipped and not column.kept:
            turned.append(f"{column.label}  0/{column.total}")
        elif at not in skipped and not upright:
            turned += [column.label, _count(column)]
    longest = max((text_width(text, SMALL) for text in turned), default=0.0)
    return max(longest, 20.0) + 14 + (14 if any(not block.skipped for block in view.blocks) else 0)


def _draw_label(axes: Axes, view: ArchitectureView, slot: Slot, row: Row, upright: bool) -> None:
    """Write the label of a slot above its cells."""
    base = row.top - 9
    if slot.kind != "layer":
        _ghost(axes, slot, row)
        text = _narrow_label(view, slot)
        axes.text(slot.x, base - 3, text, size=SMALL, color=QUIET, rotation=90, ha="center", va="bottom")
        return
    column = view.columns[slot.first]
    name = f"layer-{column.name}"
    if upright:
        axes.text(slot.x, base - 9, column.label, size=SMALL, color=INK, ha="center", va="baseline", gid=name)
        axes.text(slot.x, base, _count(column), size=SMALL, color=QUIET, ha="center", va="baseline")
        return
    axes.text(slot.x, base, column.label, size=SMALL, color=INK, rotation=90, ha="right", va="bottom", gid=name)
    axes.text(slot.x + 1.5, base, _count(column), size=SMALL, color=QUIET, rotation=90, ha="left", va="bottom")


def _ghost(axes: Axes, slot: Slot, row: Row) -> None:
    """Draw where a block or a layer is left out: a pale band, with an arc over it when a shortcut goes round."""
    x = slot.x - slot.width / 2
    axes.add_patch(Rectangle((x, row.top), slot.width, row.cells, facecolor=LANE, edgecolor="none", zorder=0))
    if slot.kind == "skipped":
        arc = Arc((slot.x, row.top), slot.width + 4, 16, theta1=180, theta2=360, color=QUIET, linewidth=1.0)
        axes.add_patch(arc)


def _draw_blocks(axes: Axes, view: ArchitectureView, row: Row, head: float) -> None:
    """Draw a bracket over the layers of each block that is still there, in this row."""
    y = row.top - head + 10
    for block in view.blocks:
        if not block.skipped:
            inside = [slot for slot in row.slots if block.first <= slot.first and slot.last <= block.last]
            if inside:
                _bracket(axes, block, inside, y)


def _bracket(axes: Axes, block: Bypass, inside: Sequence[Slot], y: float) -> None:
    """Draw one bracket with the block's name."""
    left = inside[0].x - inside[0].width / 2 - min(inside[0].pad * 0.6, 8)
    right = inside[-1].x + inside[-1].width / 2 + min(inside[-1].pad * 0.6, 8)
    axes.plot([left, left, right, right], [y + 3, y, y, y + 3], color=FAINT, linewidth=0.8, solid_joinstyle="miter")
    name = shorten(_shortest_path(block.name, right - left), SMALL, right - left)
    if len(name) > 1:
        axes.text((left + right) / 2, y - 2.5, name, size=SMALL, color=QUIET, ha="center", va="baseline")


def _shortest_path(name: str, room: float) -> str:
    """Return a dotted name without as many of its first parts as it takes to fit, the last one excepted."""
    while "." in name and text_width(name, SMALL) > room:
        name = name.partition(".")[2]
    return name


def _draw_lanes(axes: Axes, plan: Plan) -> None:
    """Draw the lanes for kernels that reach over layers."""
    for row in plan.rows:
        if row.lane:
            corner = (plan.left, row.top + row.cells + 8)
            box = Rectangle(corner, plan.right - plan.left, row.lane, facecolor=LANE, edgecolor="none", zorder=0)
            axes.add_patch(box)


def _draw_edges(axes: Axes, plan: Plan, edges: Sequence[Edge]) -> None:
    """Draw the kernels, the strongest on top."""
    paths, colors, widths = [], [], []
    for edge, strength, route in zip(edges, _relative(edges), plan.routes(edges)):
        for piece in route:
            paths.append(_path(piece))
            colors.append((*to_rgb(BLUE if edge.weight >= 0 else ORANGE), 0.22 + 0.58 * strength))
            widths.append(0.45 + 1.65 * strength)
    axes.add_collection(
        PathCollection(paths, facecolors="none", edgecolors=colors, linewidths=widths, zorder=1, gid="kernels"),
        autolim=False,
    )


def _path(piece: Route | tuple) -> Path:
    """Return a chain of cubic curves as a path."""
    return Path(piece, [Path.MOVETO] + [Path.CURVE4] * (len(piece) - 1))


def _draw_cells(axes: Axes, view: ArchitectureView, plan: Plan, colors: ScalarMappable) -> None:
    """Draw the filters with their numbers, and the names of inputs and classes."""
    shown, fills = [], []
    for at, column in enumerate(view.columns):
        for i, unit in enumerate(column.kept):
            fill = to_rgb(UNSCORED) if column.scores is None else _color(colors, column.scores[i])
            shown.append(plan.places[at, unit])
            fills.append(fill)
            _write_unit(axes, plan, at, column, i, fill)
    size = [plan.cell] * len(shown)
    cells = EllipseCollection(
        size,
        size,
        [0] * len(shown),
        units="xy",
        offsets=shown,
        offset_transform=axes.transData,
        facecolors=fills,
        edgecolors=INK,
        linewidths=0.5 if plan.numbered else 0.3,
        zorder=3,
        gid="filters",
    )
    axes.add_collection(cells, autolim=False)


def _write_unit(axes: Axes, plan: Plan, at: int, column: Column, i: int, fill: Sequence[float]) -> None:
    """Write the index of a filter into its cell, and its name beside it."""
    x, y = plan.places[at, column.kept[i]]
    if plan.numbered:
        text = str(column.kept[i])
        size = min(6.5, 6.5 * (plan.cell - 3) / max(text_width(text, 6.5), 1))
        axes.text(x, y, text, size=size, color=ink_on(fill), ha="center", va="center_baseline", zorder=4)
    if column.unit_names:
        gap = plan.cell / 2 + 3
        name = shorten(column.unit_names[i], BODY, 150)
        side = {"x": x - gap, "ha": "right"} if at == 0 else {"x": x + gap, "ha": "left"}
        axes.text(y=y, s=name, size=BODY, color=INK, va="center_baseline", zorder=4, **side)


def _draw_title(made: Figure, axes: Axes, view: ArchitectureView, colors: ScalarMappable, width: float) -> None:
    """Write title and size, and draw the colour bar of the scores."""
    room = width - 2 * MARGIN - 170
    title = shorten(view.title, TITLE, room, bold=True)
    axes.text(MARGIN, 16, title, size=TITLE, weight="bold", color=INK, va="baseline")
    axes.text(MARGIN, 30, shorten(view.summary, BODY, room), size=BODY, color=QUIET, va="baseline")
    height = made.get_size_inches()[1] * 72
    bar = made.add_axes(((width - MARGIN - 122) / width, (height - 17) / height, 110 / width, 7 / height))
    most = max((score for column in view.columns for score in column.scores or ()), default=0.0)
    beyond = most > (colors.get_clim()[1] or most)
    shown = made.colorbar(colors, cax=bar, orientation="horizontal", extend="max" if beyond else "neither")
    shown.outline.set_linewidth(0.4)  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
    bar.locator_params(nbins=4)
    bar.tick_params(labelsize=SMALL, length=2, width=0.5, colors=QUIET, pad=1)
    bar.text(-0.06, 0.5, "score", size=BODY, color=INK, ha="right", va="center", transform=bar.transAxes)


def _notes(view: ArchitectureView, drawn: int, plan: Plan, room: float) -> list[str]:
    """Return the lines of the caption below the figure."""
    parts = []
    if view.kernels:
        chosen = "" if drawn == view.kernels else ", each filter's strongest first"
        parts.append(f"{drawn:,} of {view.kernels:,} kernels drawn{chosen}.")
        parts.append("Line width: contribution, relative to the largest into the same layer.")
    if any(row.tracks for row in plan.rows):
        parts.append("Grey lane: kernels that reach over layers, by shortcuts or concatenation, or to the next row.")
    if any(block.skipped for block in view.blocks):
        parts.append("Arc: a block of which only the shortcut is left.")
    if any(not block.skipped for block in view.blocks):
        parts.append("Bracket: a block with a shortcut around it.")
    return textwrap.wrap(" ".join(parts), width=max(20, int(room / (0.58 * SMALL))))


def _draw_notes(axes: Axes, notes: Sequence[str], edges: Sequence[Edge], y: float) -> None:
    """Draw the key of the kernels and the caption."""
    x = MARGIN
    keys = (("contribution above 0", BLUE, 1), ("below 0", ORANGE, -1))
    for text, color, sign in keys:
        if any(edge.weight * sign > 0 for edge in edges):
            axes.plot([x, x + 16], [y - 2.5, y - 2.5], color=color, linewidth=1.6, alpha=0.8)
            axes.text(x + 20, y, text, size=SMALL, color=INK, va="baseline")
            x += 20 + text_width(text, SMALL) + 14
    for i, line in enumerate(notes):
        axes.text(MARGIN, y + 12 + 10 * i, line, size=SMALL, color=QUIET, va="baseline")
