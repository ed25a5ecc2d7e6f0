"""Where everything of an architecture figure goes: pure geometry, in points, y downwards.

1. `slots_of`: one slot for each layer with kept filters, a narrow one for a skipped block or an empty layer.
2. `wrap`: slots into rows of about equal width, none wider than the page.
3. `ordered`: the filters of each layer from top to bottom, so that kernels cross little (barycentres, two sweeps).
4. `Plan.make`: the place of every cell; the height of every row.
5. `routes`: the path of every kernel: straight across to the next layer, or, where it reaches over layers or rows,
   down into the row's lane, along it and up again; all kernels of one filter share one track of the lane.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from neurochains.pictures.view import ArchitectureView, Bypass, Edge

__all__ = ["Plan", "Point", "Route", "Row", "Slot"]

Point = tuple[float, float]
Unit = tuple[int, int]  # column, index of the filter
Route = tuple[tuple[Point, ...], ...]  # pieces; each a start followed by three points for every cubic curve

NUMBERED_STACK = 16  # with more filters in one layer, cells become dots without numbers
DOT_STACK = 34  # with more, a layer takes several columns of dots
TRACK, LANE = 1.9, 42.0  # points: room of one track, most of a lane
NARROW = 9.0  # width of a skipped block or an empty layer
NAME_STEP = 11.0  # distance of cells with names beside them
GAP = 17.0  # least room between two layers


@dataclass(frozen=True, slots=True)
class Slot:
    """The room of one layer, or of one skipped block."""

    kind: Literal["layer", "empty", "skipped"]
    first: int  # columns first..last of the view
    last: int
    width: float
    left: float = 0.0  # room for names of units
    right: float = 0.0
    block: Bypass | None = None
    x: float = 0.0  # centre of the cells
    pad: float = 0.0  # free room on each side

    @property
    def weight(self) -> float:
        """Its share of the free room."""
        return 1.0 if self.kind == "layer" else 0.3

    @property
    def needs(self) -> float:
        """The least room it takes, its padding included."""
        return self.left + self.width + self.right + GAP * self.weight


@dataclass(frozen=True, slots=True)
class Row:
    """One line of slots."""

    slots: tuple[Slot, ...]
    cells: float  # height of the cells
    tracks: tuple[Unit, ...]  # sources of kernels that run in its lane, the deepest first
    top: float = 0.0  # of the cells

    @property
    def lane(self) -> float:
        """Height of the lane."""
        return min(LANE, TRACK * len(self.tracks) + 4) if self.tracks else 0.0

    def track(self, source: Unit) -> float:
        """Return the y of the track of a source."""
        step = (self.lane - 4) / max(1, len(self.tracks))
        return self.top + self.cells + 8 + self.lane - 2 - step * (self.tracks.index(source) + 0.5)


@dataclass(frozen=True, slots=True)
class Plan:
    """The finished layout."""

    rows: tuple[Row, ...]
    places: dict[Unit, Point]  # centre of each cell
    cell: float  # diameter
    numbered: bool
    left: float
    right: float
    height: float

    @classmethod
    def make(
        cls,
        view: ArchitectureView,
        edges: Sequence[Edge],
        *,
        left: float,
        right: float,
        top: float,
        head: float,
        name_width: Callable[[str], float],
    ) -> Plan:
        """Return the layout of a view between ``left`` and ``right``, rows from ``top`` downwards.

        Args:
            view: what is shown.
            edges: the kernels to be drawn.
            left: x of the left margin.
            right: x of the right margin.
            top: y of the first row.
            head: room above the cells of each row for labels.
            name_width: of the name of a unit, in points.
        """
        numbered = max((len(column.kept) for column in view.columns), default=0) <= NUMBERED_STACK
        cell, step = (17.0, 20.0) if numbered else (6.0, 7.2)
        lines = [_spread(line, left, right) for line in wrap(slots_of(view, cell, name_width), right - left)]
        row_of = {slot.first: index for index, line in enumerate(lines) for slot in line if slot.kind == "layer"}
        rows, y = [], top
        for index, line in enumerate(lines):
            tallest = max(_stack(len(view.columns[s.first].kept), numbered)[0] * _step(s, step) for s in line)
            row = Row(line, max(22.0, tallest), _tracks(lines, row_of, edges, index), y + head)
            rows.append(row)
            y = row.top + row.cells + (8 + row.lane if row.lane else 0) + 16
        places: dict[Unit, Point] = {}
        order = ordered(view, edges)
        for row in rows:
            for slot in row.slots:
                if slot.kind == "layer":
                    places.update(_cells(slot, row, order[slot.first], numbered, cell, _step(slot, step)))
        return cls(tuple(rows), places, cell, numbered, left, right, y - 16)

    def routes(self, edges: Sequence[Edge]) -> list[Route]:
        """Return the path of each kernel."""
        home = {slot.first: (r, s) for r, row in enumerate(self.rows) for s, slot in enumerate(row.slots)}
        return [self._route(edge, home) for edge in edges]

    def _route(self, edge: Edge, home: dict[int, tuple[int, int]]) -> Route:
        source, target = (edge.source_column, edge.source), (edge.target_column, edge.target)
        (r0, s0), (r1, s1) = home[source[0]], home[target[0]]
        start = (self.places[source][0] + self.cell / 2, self.places[source][1])
        end = (self.places[target][0] - self.cell / 2, self.places[target][1])
        if r0 == r1 and _neighbours(self.rows[r0].slots, s0, s1):
            return (_bend(start, end),)
        leave = self.rows[r0].slots[s0]
        reach = self.rows[r1].slots[s1]
        down = (leave.x + leave.width / 2 + leave.right + leave.pad, self.rows[r0].track(source))
        up = (reach.x - reach.width / 2 - reach.left - reach.pad, self.rows[r1].track(source))
        if r0 == r1:
            return (_bend(start, down) + _line(down, up) + _bend(up, end)[1:],)
        first = _bend(start, down) + _line(down, (self.right, down[1]))
        entry = (self.left, up[1])
        last = (entry, *_line(entry, up), *_bend(up, end)[1:])
        between = (self._through(row, source) for row in self.rows[r0 + 1 : r1])
        return (first, *between, last)

    def _through(self, row: Row, source: Unit) -> tuple[Point, ...]:
        start, end = (self.left, row.track(source)), (self.right, row.track(source))
        return (start, *_line(start, end))


def slots_of(view: ArchitectureView, cell: float, name_width: Callable[[str], float]) -> list[Slot]:
    """Return the slots of a view in order; the columns of a skipped block share one."""
    skipped = {block.first: block for block in view.blocks if block.skipped}
    slots: list[Slot] = []
    at = 0
    while at < len(view.columns):
        column, block = view.columns[at], skipped.get(at)
        if block is not None:
            slots.append(Slot("skipped", block.first, block.last, NARROW, block=block))
            at = block.last + 1
            continue
        names = max((name_width(name) + 5 for name in column.unit_names), default=0.0)
        left, right = (names, 0.0) if at == 0 else (0.0, names)
        if column.kept:
            across = _stack(len(column.kept), cell > 10)[1]
            slots.append(Slot("layer", at, at, max(14.0, across * cell + (across - 1) * 1.5), left, right))
        else:
            slots.append(Slot("empty", at, at, NARROW))
        at += 1
    return slots


def wrap(slots: Sequence[Slot], room: float) -> list[list[Slot]]:
    """Return the slots in as few lines as fit into ``room``, the widest line as narrow as it can be."""
    lines = _fill(slots, room)
    low, high = max((slot.needs for slot in slots), default=0.0), room
    while high - low > 1:
        middle = (low + high) / 2
        low, high = (low, middle) if len(_fill(slots, middle)) <= len(lines) else (middle, high)
    return _fill(slots, high)


def _fill(slots: Sequence[Slot], room: float) -> list[list[Slot]]:
    """Return the slots in lines, each filled before the next is begun; every line has at least one."""
    lines: list[list[Slot]] = []
    used = math.inf
    for slot in slots:
        if used + slot.needs > room:
            lines.append([])
            used = 0.0
        lines[-1].append(slot)
        used += slot.needs
    return lines


def _spread(line: Sequence[Slot], left: float, right: float) -> tuple[Slot, ...]:
    """Return the slots of a line with their places, the free room shared out, at most six gaps to each."""
    solid = sum(slot.left + slot.width + slot.right for slot in line)
    pad = min((right - left - solid) / (2 * sum(slot.weight for slot in line)), 3 * GAP)
    placed, x = [], left
    for slot in line:
        own = pad * slot.weight
        placed.append(replace(slot, x=x + own + slot.left + slot.width / 2, pad=own))
        x += 2 * own + slot.left + slot.width + slot.right
    return tuple(placed)


def _step(slot: Slot, step: float) -> float:
    """Return the distance of a layer's cells, wider where names of units stand beside them."""
    return max(step, NAME_STEP) if slot.left or slot.right else step


def _stack(count: int, numbered: bool) -> tuple[int, int]:
    """Return how many cells down and across a layer of ``count`` filters takes."""
    if numbered or count <= DOT_STACK:
        return count, 1
    across = math.ceil(count / DOT_STACK)
    return math.ceil(count / across), across


def _cells(slot: Slot, row: Row, kept: Sequence[int], numbered: bool, cell: float, step: float) -> dict[Unit, Point]:
    """Return the places of a layer's filters: line by line, centred in the height of the row."""
    down, across = _stack(len(kept), numbered)
    top = row.top + row.cells / 2 - (down - 1) * step / 2
    start = slot.x - (across - 1) * (cell + 1.5) / 2
    return {
        (slot.first, unit): (start + (index % across) * (cell + 1.5), top + (index // across) * step)
        for index, unit in enumerate(kept)
    }


def ordered(view: ArchitectureView, edges: Sequence[Edge]) -> list[list[int]]:
    """Return the filters of each column from top to bottom.

    Columns without scores (input, logits) keep their order; the others follow the mean place of what they are
    connected to: first from the left, then from the right, then from the left again.
    """
    order = [list(column.kept) for column in view.columns]
    place = {(c, unit): _fraction(i, len(units)) for c, units in enumerate(order) for i, unit in enumerate(units)}
    into: dict[Unit, list[tuple[Unit, float]]] = {}
    out: dict[Unit, list[tuple[Unit, float]]] = {}
    for edge in edges:
        source, target = (edge.source_column, edge.source), (edge.target_column, edge.target)
        into.setdefault(target, []).append((source, abs(edge.weight)))
        out.setdefault(source, []).append((target, abs(edge.weight)))
    for links, columns in ((into, range(len(order))), (out, range(len(order) - 1, -1, -1)), (into, range(len(order)))):
        for c in columns:
            if view.columns[c].scores is None:
                continue
            order[c].sort(key=lambda unit: _barycentre(links.get((c, unit), []), place, place[c, unit]))
            place.update({(c, unit): _fraction(i, len(order[c])) for i, unit in enumerate(order[c])})
    return order


def _fraction(index: int, count: int) -> float:
    return (index + 0.5) / count


def _barycentre(links: Sequence[tuple[Unit, float]], place: dict[Unit, float], alone: float) -> float:
    """Return the weighted mean place of the linked filters; its own place when there is none."""
    total = sum(weight for _, weight in links)
    return sum(place[unit] * weight for unit, weight in links) / total if total else alone


def _tracks(
    lines: Sequence[Sequence[Slot]], row_of: dict[int, int], edges: Sequence[Edge], index: int
) -> tuple[Unit, ...]:
    """Return the sources whose kernels run in the lane of one row, those from farthest left first."""
    line = lines[index]
    seat = {slot.first: place for place, slot in enumerate(line)}
    sources = set()
    for edge in edges:
        first, last = row_of[edge.source_column], row_of[edge.target_column]
        if first == last == index:
            if not _neighbours(line, seat[edge.source_column], seat[edge.target_column]):
                sources.add((edge.source_column, edge.source))
        elif first <= index <= last:
            sources.add((edge.source_column, edge.source))
    return tuple(sorted(sources))


def _neighbours(line: Sequence[Slot], source: int, target: int) -> bool:
    """Return whether no layer stands between two slots of one line."""
    return all(slot.kind != "layer" for slot in line[source + 1 : target])


def _bend(start: Point, end: Point) -> tuple[Point, ...]:
    """Return an S-shaped curve that leaves and arrives horizontally."""
    middle = (start[0] + end[0]) / 2
    return (start, (middle, start[1]), (middle, end[1]), end)


def _line(start: Point, end: Point) -> tuple[Point, ...]:
    """Return a straight line as the three further points of a cubic curve."""
    return (start, end, end)
