from __future__ import annotations

import json

import numpy as np
import pytest

from neurochains.explorer import graph
from neurochains.explorer.asking import answer
from neurochains.explorer.graph import draw
from neurochains.explorer.graph_panel import clicked, counted, figure, selected_patch
from neurochains.explorer.neighbours import incoming, link, outgoing, parse_kernel
from neurochains.explorer.view import View
from neurochains.network import Filter


def test_only_shown_filters_have_kernels_and_each_comes_from_its_source(desk):
    drawn = draw(desk, View(filters=0.5))
    for (source, target), (unit, column) in zip(drawn.view.edges.tolist(), drawn.kernels):
        assert drawn.units[target] == unit
        layer = desk.bundle.layer(unit.layer)
        channel = unit.index // (layer.units // layer.groups) * layer.shape[1] + column
        assert drawn.units[source] in desk.bundle.sources(unit.layer)[channel]
        assert drawn.view.shown[source]
        assert drawn.view.shown[target]


def test_thresholds_of_1_show_all_that_have_a_score(desk):
    drawn = draw(desk, View(filters=1.0, kernels=1.0))
    found = answer(desk, View())
    assert drawn.filters[0] == sum(int((values > 0).sum()) for values in found.filters.values())
    assert drawn.total == sum(int((values > 0).sum()) for values in found.kernels.values())


def test_never_more_kernels_than_the_limit_and_the_cut_is_said(desk, monkeypatch):
    view = View(filters=1.0, kernels=1.0, normalise="layer-sum")
    monkeypatch.setattr(graph, "MOST_EDGES", 20)
    drawn = draw(desk, view)
    assert len(drawn.kernels) == 20 < drawn.total
    assert counted(drawn).endswith(f"20 of {drawn.total:,} kernels")


def test_balance_is_of_signs():
    kernels = np.array([[1.0, 1.0], [-2.0, -1.0], [1.0, -1.0], [0.0, 0.0]])
    assert graph.balance(kernels).tolist() == [1.0, -1.0, 0.0, 0.0]


@pytest.mark.parametrize("kind", ["3d", "2d"])
def test_figures_are_json_of_few_traces(desk, kind):
    view = View(graph=kind, filters=1.0, kernels=1.0)
    made = figure(desk, view, draw(desk, view))
    assert 2 <= len(made["data"]) <= 6
    assert len(json.dumps(made, allow_nan=False)) < 3_000_000


def test_a_click_on_a_point_selects_its_filter_and_one_on_the_input_nothing(desk):
    drawn = draw(desk, View())
    last = len(drawn.units) - 1
    point = {"points": [{"curveNumber": 1, "pointNumber": 5, "customdata": last}]}
    assert clicked(View(panel="image"), drawn, point) == View(unit=str(drawn.units[last]))
    assert clicked(View(), drawn, {"points": [{"curveNumber": 0, "pointNumber": 7, "customdata": 0}]}) == View()
    assert clicked(View(), drawn, {"points": [{"curveNumber": 1, "pointNumber": 5}]}) == View()
    assert clicked(View(), drawn, None) == View()


def test_a_click_on_a_kernel_of_the_plan_opens_it(desk):
    drawn = draw(desk, View())
    unit, column = drawn.kernels[2]
    after = clicked(View(graph="2d"), drawn, {"points": [{"curveNumber": 1, "customdata": -3}]})
    assert (after.panel, after.kernel) == ("kernel", f"{unit}<{column}")


def test_selecting_changes_the_pointer_and_what_is_off_only(desk):
    drawn = draw(desk, View())
    patch = json.loads(json.dumps(selected_patch(desk, View(unit=str(drawn.units[-1])), drawn).to_plotly_json()))
    places = [operation["location"] for operation in patch["operations"]]
    symbols = [["data", place, "marker", "symbol"] for place in (0, 1)]
    assert places == [*symbols, ["layout", "scene", "annotations"]]
    assert [operation["params"]["value"] for operation in patch["operations"][:2]] == ["circle", "square"]
    assert patch["operations"][2]["params"]["value"][0]["text"] == drawn.view.labels[-1]
    assert len(json.dumps(patch)) < 1000


def test_neighbours_are_sorted_and_lead_to_each_other(desk):
    found = answer(desk, View())
    unit = Filter(desk.bundle.spans.layers[0].name, 1)
    into, out = incoming(desk, found, unit), outgoing(desk, found, unit)
    assert [one.score for one in into] == sorted((one.score for one in into), reverse=True)
    assert all(one.target == unit for one in into)
    assert all(unit in one.sources for one in out)
    assert sum(
        incoming(desk, found, unit, 99)[n].share for n in range(len(incoming(desk, found, unit, 99)))
    ) == pytest.approx(1)


def test_kernels_are_parsed_as_they_are_written(desk):
    unit = Filter(desk.bundle.spans.layers[1].name, 0)
    one = link(desk, answer(desk, View()), unit, 2)
    assert parse_kernel(desk, one.text) == (unit, 2)
    for wrong in ("", "nowhere[0]<1", f"{unit}<999", f"{unit}<", f"{unit}"):
        assert parse_kernel(desk, wrong) is None
