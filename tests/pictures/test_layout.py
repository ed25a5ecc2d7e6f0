from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurochains.pictures import ArchitectureView, Bypass, Column, Edge, strongest_edges
from neurochains.pictures.layout import GAP, Plan, Slot, ordered, slots_of, wrap

LEFT, RIGHT = 14.0, 778.0


def plan_of(view: ArchitectureView, *, most: int = 400) -> tuple[Plan, tuple[Edge, ...]]:
    edges = strongest_edges(view.edges, most)
    plan = Plan.make(view, edges, left=LEFT, right=RIGHT, top=40, head=30, name_width=lambda name: 4.5 * len(name))
    return plan, edges


def test_every_kept_filter_has_a_place_of_its_own(view: ArchitectureView) -> None:
    plan, _ = plan_of(view)
    assert set(plan.places) == {(at, unit) for at, column in enumerate(view.columns) for unit in column.kept}
    places = sorted(plan.places.values())
    for (x0, y0), (x1, y1) in pairwise(places):
        assert abs(x0 - x1) >= plan.cell or abs(y0 - y1) >= plan.cell
    for x, y in places:
        assert LEFT <= x <= RIGHT
        assert 70 <= y <= plan.height


def test_slots_stay_on_the_page_side_by_side_and_in_order(view: ArchitectureView) -> None:
    plan, _ = plan_of(view)
    columns = [at for row in plan.rows for slot in row.slots for at in range(slot.first, slot.last + 1)]
    assert columns == list(range(len(view.columns)))
    for row in plan.rows:
        edge = LEFT - 1e-6
        for slot in row.slots:
            assert slot.x - slot.width / 2 - slot.left >= edge
            edge = slot.x + slot.width / 2 + slot.right
        assert edge <= RIGHT + 1e-6


def test_rows_lie_one_below_the_other(view: ArchitectureView) -> None:
    rows = plan_of(view)[0].rows
    for above, below in pairwise(rows):
        assert above.top + above.cells + above.lane < below.top - 30


def test_routes_lead_from_cell_to_cell(view: ArchitectureView) -> None:
    plan, edges = plan_of(view)
    for edge, route in zip(edges, plan.routes(edges)):
        source, target = plan.places[edge.source_column, edge.source], plan.places[edge.target_column, edge.target]
        assert route[0][0] == (source[0] + plan.cell / 2, source[1])
        assert route[-1][-1] == (target[0] - plan.cell / 2, target[1])
        assert all(len(piece) % 3 == 1 for piece in route)
        for piece in route:
            assert all(LEFT - 1e-6 <= x <= RIGHT + 1e-6 for x, _ in piece)


def test_kernels_over_layers_run_in_the_lane_and_the_others_do_not(make_residual) -> None:
    view = make_residual(5, 2, {1})
    plan, edges = plan_of(view)
    (row,) = plan.rows
    lane = (row.top + row.cells + 8, row.top + row.cells + 8 + row.lane)
    for edge, route in zip(edges, plan.routes(edges)):
        lowest = max(y for piece in route for _, y in piece)
        between = [c for c in view.columns[edge.source_column + 1 : edge.target_column] if c.kept]
        assert (lane[0] < lowest < lane[1]) == bool(between)


def test_all_kernels_of_a_filter_share_a_track_and_different_filters_do_not(make_residual) -> None:
    plan, _ = plan_of(make_residual(6, 3, set()))
    row = plan.rows[0]
    heights = [row.track(source) for source in row.tracks]
    assert len(set(heights)) == len(heights)
    assert heights == sorted(heights, reverse=True)  # the earlier, the deeper


def test_routes_over_three_rows_pass_through_the_middle_one(make_plain) -> None:
    view = make_plain([2] * 60)
    last = len(view.columns) - 1
    edge = Edge(1, view.columns[1].kept[0], last, 0, 1.0)
    long = ArchitectureView(view.columns, (edge,))
    plan, edges = plan_of(long)
    assert len(plan.rows) == 3
    ((first, middle, final),) = plan.routes(edges)
    assert (first[-1][0], middle[0][0], middle[-1][0], final[0][0]) == (RIGHT, LEFT, RIGHT, LEFT)
    assert middle[0][1] == plan.rows[1].track((1, edge.source))


def test_many_filters_stand_in_several_columns_of_dots(make_plain) -> None:
    plan, _ = plan_of(make_plain([100, 3]))
    assert not plan.numbered
    assert len({x for (at, _), (x, _) in plan.places.items() if at == 1}) == 3
    assert len({x for (at, _), (x, _) in plan.places.items() if at == 2}) == 1
    assert plan_of(make_plain([16]))[0].numbered


def test_skipped_blocks_and_empty_layers_are_narrow() -> None:
    columns = (
        Column("input", "input", 1, (0,)),
        *[Column(f"L{i}", f"l{i}", 4, (), ()) for i in range(4)],
        Column("L9", "l9", 4, (2,), (1.0,)),
    )
    view = ArchitectureView(columns, blocks=(Bypass(1, 2, "B1"), Bypass(5, 5, "B2", skipped=False)))
    slots = slots_of(view, 17, lambda name: 0.0)
    assert [(slot.kind, slot.first, slot.last) for slot in slots] == [
        ("layer", 0, 0), ("skipped", 1, 2), ("empty", 3, 3), ("empty", 4, 4), ("layer", 5, 5),
    ]  # fmt: skip
    assert slots[1].needs < slots[0].needs / 2
    assert slots[1].block is view.blocks[0]


@given(st.lists(st.floats(5, 90), min_size=1, max_size=80), st.floats(120, 900))
def test_wrapping_keeps_order_fits_and_wastes_no_line(widths: list[float], room: float) -> None:
    slots = [Slot("layer", i, i, width) for i, width in enumerate(widths)]
    lines = wrap(slots, room)
    assert [slot for line in lines for slot in line] == slots
    assert all(sum(slot.needs for slot in line) <= room + 1e-6 for line in lines)
    greedy, used = 1, 0.0
    for slot in slots:
        if used + slot.needs > room:
            greedy, used = greedy + 1, 0.0
        used += slot.needs
    assert len(lines) == greedy


def test_lines_are_balanced() -> None:
    lines = wrap([Slot("layer", i, i, 33 - GAP) for i in range(25)], 33 * 24)
    assert sorted(map(len, lines)) == [12, 13]


def test_a_slot_wider_than_the_page_stands_alone() -> None:
    assert [len(line) for line in wrap([Slot("layer", i, i, 500.0) for i in range(3)], 100)] == [1, 1, 1]


def test_the_order_follows_the_kernels() -> None:
    columns = (
        Column("input", "input", 3, (0, 1, 2)),
        Column("L0", "l0", 9, (1, 4, 7), (1.0,) * 3),
        Column("logits", "fc", 3, (0, 1, 2)),
    )
    edges = [Edge(0, i, 1, unit, 1.0) for i, unit in enumerate((7, 1, 4))]
    edges += [Edge(1, unit, 2, i, -1.0) for i, unit in enumerate((7, 1, 4))]
    assert ordered(ArchitectureView(columns, tuple(edges)), edges) == [[0, 1, 2], [7, 1, 4], [0, 1, 2]]


def crossings(view: ArchitectureView, order: list[list[int]]) -> int:
    place = {(at, unit): i for at, units in enumerate(order) for i, unit in enumerate(units)}
    lines = [
        (e.source_column, place[e.source_column, e.source], place[e.target_column, e.target])
        for e in view.edges
        if e.target_column == e.source_column + 1
    ]
    return sum((a[1] - b[1]) * (a[2] - b[2]) < 0 for a, b in combinations(lines, 2) if a[0] == b[0])


def test_the_order_lets_fewer_kernels_cross(make_plain) -> None:
    view = make_plain([8, 9, 8, 9, 8])
    sparse = ArchitectureView(view.columns, strongest_edges(view.edges, 60))
    before = crossings(sparse, [list(column.kept) for column in sparse.columns])
    assert crossings(sparse, ordered(sparse, sparse.edges)) < 0.6 * before


@pytest.mark.parametrize("count", [1, 3])
def test_names_of_units_get_room(make_plain, count: int) -> None:
    view = make_plain([2], classes=("a very long name of a class",) * count)
    plan, _ = plan_of(view)
    last = plan.rows[-1].slots[-1]
    assert last.right == 4.5 * len("a very long name of a class") + 5
    assert last.x + last.width / 2 + last.right <= RIGHT
