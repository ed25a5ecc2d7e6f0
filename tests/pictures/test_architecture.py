from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import EllipseCollection, PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from neurochains.errors import SettingsError
from neurochains.pictures import ArchitectureView, Bypass, Column, Edge, architecture_figure, strongest_edges, svg
from neurochains.pictures.figures import BLUE, ORANGE, score_colors


def cells_of(figure: Figure) -> EllipseCollection:
    (cells,) = figure.findobj(EllipseCollection)
    return cells


def kernels_of(figure: Figure) -> PathCollection:
    (kernels,) = [found for found in figure.findobj(PathCollection) if found.get_gid() == "kernels"]
    return kernels


def test_every_size_is_legible(view: ArchitectureView, legible) -> None:
    figure = architecture_figure(view)
    legible(figure)
    assert figure.get_size_inches()[0] == 11
    assert figure.get_size_inches()[1] < 16


def test_every_layer_filter_and_class_is_there(view: ArchitectureView, words) -> None:
    figure = architecture_figure(view)
    written = words(figure)
    skipped = {at for block in view.blocks if block.skipped for at in range(block.first, block.last + 1)}
    for at, column in enumerate(view.columns):
        if at not in skipped:
            assert any(text == column.label or text.startswith(column.label + "  0/") for text in written)
        assert all(any(text.rstrip("…") in name for text in written) for name in column.unit_names)
    for block in view.blocks:
        assert (f"{block.name} skipped" if block.skipped else block.name) in written
    assert view.summary in written
    assert len(cells_of(figure).get_offsets()) == sum(len(column.kept) for column in view.columns)


def test_the_caption_states_the_cut(make_plain, words) -> None:
    view = make_plain([10, 10, 10])
    assert "30 of 250 kernels drawn, each filter's strongest first." in " ".join(
        words(architecture_figure(view, max_edges=30))
    )
    assert "250 of 250 kernels drawn." in " ".join(words(architecture_figure(view)))
    more = ArchitectureView(view.columns, view.edges, total_edges=2311)
    assert "250 of 2,311 kernels drawn" in " ".join(words(architecture_figure(more)))


def test_kernels_are_drawn_by_sign_and_size(make_plain) -> None:
    columns = make_plain([2]).columns
    a, b = columns[1].kept
    edges = (Edge(0, 0, 1, a, 4.0), Edge(0, 1, 1, a, -2.0), Edge(0, 2, 1, b, 0.0))
    kernels = kernels_of(architecture_figure(ArchitectureView(columns, edges)))
    widths, colors = kernels.get_linewidths(), kernels.get_edgecolors()
    assert list(widths) == sorted(widths)  # the strongest on top
    assert widths[2] - widths[0] == pytest.approx(2 * (widths[1] - widths[0]))
    assert tuple(colors[2][:3]) == to_rgb(BLUE)
    assert tuple(colors[1][:3]) == to_rgb(ORANGE)
    assert colors[2][3] > colors[1][3] > colors[0][3] > 0.1


def test_filters_are_colored_by_score() -> None:
    column = Column("L0", "l", 9, (0, 1, 2), (0.0, 1.0, 2.0))
    figure = architecture_figure(ArchitectureView((column,)))
    expected = score_colors()([0.0, 0.5, 1.0])[:, :3]
    np.testing.assert_allclose(cells_of(figure).get_facecolors()[:, :3], expected, atol=0.01)


def test_an_outlier_does_not_flatten_the_scores(words) -> None:
    column = Column("L0", "l", 99, tuple(range(40)), (1.0,) * 38 + (0.5, 60.0))
    figure = architecture_figure(ArchitectureView((column,)))
    colors = cells_of(figure).get_facecolors()
    assert np.abs(colors[0] - colors[38]).max() > 0.1
    assert np.allclose(colors[0], colors[39], atol=0.02)  # cut off at the top
    assert "1.00" in words(figure)


def test_numbers_are_written_while_there_is_room(make_plain, words) -> None:
    small, large = make_plain([3, 4]), make_plain([30, 4])
    numbers = [str(unit) for column in small.columns for unit in column.kept]
    assert not Counter(numbers) - Counter(words(architecture_figure(small)))
    written = words(architecture_figure(large))
    assert sum(text == str(large.columns[1].kept[0]) for text in written) == 0


def test_labels_are_turned_when_they_do_not_fit(make_plain) -> None:
    def rotations(count: int) -> set[float]:
        figure = architecture_figure(make_plain([2] * count))
        return {text.get_rotation() for text in figure.axes[0].texts if text.get_text().startswith("L")}

    assert rotations(5) == {0.0}
    assert rotations(40) == {90.0}


def test_the_figure_explains_only_what_it_shows(make_plain, make_residual, words) -> None:
    simple = " ".join(words(architecture_figure(make_plain([2, 2]))))
    assert not re.search("lane|Arc|Bracket", simple)
    full = " ".join(words(architecture_figure(make_residual(6, 2, {3}))))
    assert all(word in full for word in ("Grey lane", "Arc:", "Bracket:", "contribution above 0", "below 0"))
    columns = make_plain([1]).columns
    positive = ArchitectureView(columns, (Edge(0, 0, 1, columns[1].kept[0], 1.0),))
    assert "below 0" not in words(architecture_figure(positive))


def test_a_block_on_two_rows_has_two_brackets(make_residual, words) -> None:
    view = make_residual(16, 2, set())
    found = Counter(text for text in words(architecture_figure(view)) if re.fullmatch(r"L\dB\d", text))
    assert set(found) == {block.name for block in view.blocks}
    assert max(found.values()) == 2


def test_labels_carry_the_dotted_name(make_plain, make_residual) -> None:
    for view in (make_plain([2, 3]), make_residual(6, 2, set())):
        text = svg(architecture_figure(view), name="a")
        assert all(f'id="a-layer-{column.name}"' in text for column in view.columns)


def test_the_same_view_gives_the_same_figure(make_residual) -> None:
    view = make_residual(8, 4, {2})
    assert svg(architecture_figure(view)) == svg(architecture_figure(view))


def test_views_without_edges_or_scores_are_drawn(legible, words) -> None:
    figure = architecture_figure(ArchitectureView((Column("input", "input", 3, (0, 1)),), title="x" * 400))
    legible(figure)
    assert any(text.startswith("xxx") and text.endswith("…") for text in words(figure))


def test_options_are_checked(make_plain) -> None:
    with pytest.raises(SettingsError, match=r"max_edges >= 0 and a width of at least 4 inches, got -1 and 11.0"):
        architecture_figure(make_plain([1]), max_edges=-1)
    with pytest.raises(SettingsError, match="at least 4 inches, got 10 and 2"):
        architecture_figure(make_plain([1]), max_edges=10, width=2)


def test_a_narrow_figure_wraps_and_stays_legible(make_plain, legible) -> None:
    figure = architecture_figure(make_plain([4] * 12), width=5.0)
    legible(figure)
    assert figure.get_size_inches()[0] == 5


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 4), st.floats(-5, 5)), max_size=60),
    st.integers(0, 70),
)
def test_strongest_edges(raw: list[tuple[int, int, int, float]], most: int) -> None:
    edges = [Edge(a, s, a + 1, t, w) for a, s, t, w in {(a, s, t): (a, s, t, w) for a, s, t, w in raw}.values()]
    chosen = strongest_edges(edges, most)
    assert len(chosen) == min(most, len(edges))
    assert len(set(chosen)) == len(chosen)
    assert set(chosen) <= set(edges)
    if most >= 2 * len({(e.source_column, e.source) for e in edges} | {(e.target_column, e.target) for e in edges}):
        assert {(e.target_column, e.target) for e in chosen} == {(e.target_column, e.target) for e in edges}
        assert {(e.source_column, e.source) for e in chosen} == {(e.source_column, e.source) for e in edges}


def test_weak_filters_keep_their_strongest_edge() -> None:
    strong = [Edge(0, i, 1, 0, 1.0) for i in range(5)] + [Edge(1, 0, 2, i, 1.0) for i in range(5)]
    weak = [Edge(0, 0, 1, 1, 0.01), Edge(1, 1, 2, 0, 0.02), Edge(0, 1, 1, 1, 0.005)]
    kept = strongest_edges([*strong, *weak], 12)
    assert weak[0] in kept
    assert weak[1] in kept
    assert weak[2] not in kept


def test_edges_are_compared_within_their_target_layer() -> None:
    edges = [Edge(0, i, 1, 0, w) for i, w in enumerate((100.0, 60.0, 1.0))] + [
        Edge(1, 0, 2, i, w) for i, w in enumerate((-0.1, 0.09, 0.01))
    ]
    kept = strongest_edges(edges, 4)
    assert kept[-1] in (edges[0], edges[3])
    strength = [abs(e.weight) / (100.0 if e.target_column == 1 else 0.1) for e in kept]
    assert strength == sorted(strength)
    assert edges[3] in strongest_edges(edges, 1)  # the classes come first
    assert not math.isnan(strength[0])


def test_blocks_that_are_too_narrow_for_their_name_keep_their_bracket(make_plain, legible) -> None:
    columns = make_plain([1] * 22).columns
    blocks = tuple(Bypass(at, at, f"a block of a long name {at}", skipped=False) for at in range(1, 22))
    legible(architecture_figure(ArchitectureView(columns, (), blocks)))
