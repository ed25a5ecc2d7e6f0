from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from neurochains.pictures.explorer_figures import network_figure, node_groups, node_symbols
from neurochains.pictures.explorer_figures_circuit import circuit_plan_figure
from neurochains.pictures.explorer_figures_clusters import clusters_figure
from neurochains.pictures.explorer_figures_maps import kernel_figure, map_figure, predictions_figure
from neurochains.pictures.explorer_view import Arc, CircuitView, NetworkView


def network(filters: int = 6, layers: int = 3, edges: int = 12, hidden: tuple[int, ...] = (4, 9)) -> NetworkView:
    dice = np.random.default_rng(0)
    count = 3 + filters * layers
    column = np.repeat(np.arange(layers + 1), [3, *[filters] * layers])
    source = dice.integers(0, 3 + filters * (layers - 1), edges)
    return NetworkView(
        layers=("input", *(f"L{n}" for n in range(layers))),
        column=column,
        places=dice.normal(size=(count, 2)),
        scores=np.concatenate([[np.nan] * 3, dice.random(filters * layers)]),
        relative=np.ones(count),
        shown=~np.isin(np.arange(count), hidden),
        labels=tuple(f"n{n}" for n in range(count)),
        edges=np.stack([source, source + filters], 1),
        strength=dice.random(edges),
        balance=dice.uniform(-1, 1, edges),
        arcs=(Arc(1, 3, "stream"), Arc(1, 2, "block b", "b")),
    )


def numbers(packed: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["bdata"]), f"<{packed['dtype']}")


def test_six_traces_at_most_and_every_kernel_in_one():
    view = network()
    made = network_figure(view)
    assert len(made["data"]) == 6
    lines = [trace for trace in made["data"] if "kernels" in trace["name"]]
    assert sum(len(numbers(trace["x"])) for trace in lines) == 3 * len(view.edges)
    assert all(np.isnan(numbers(trace["x"])[2::3]).all() for trace in lines)


def test_layers_lie_along_x_and_grey_is_at_zero():
    view = network()
    made = network_figure(view)
    assert np.array_equal(numbers(made["data"][0]["x"]), np.delete(view.column, [4, 9]))
    assert np.array_equal(numbers(made["data"][1]["x"]), view.column[[4, 9]])
    assert made["data"][2]["line"]["colorscale"][1] == [0.5, "#9a9a9a"]
    assert (made["data"][2]["line"]["cmin"], made["data"][2]["line"]["cmax"]) == (-1, 1)


def test_each_filter_is_one_point_that_knows_its_number_and_marked_ones_are_seen():
    for hidden, marked, rest in (((4, 9), [], [4, 9]), ((4, 9), [[9, 10]], [4]), ((), [], [])):
        view = network(hidden=hidden)
        points = [trace for trace in network_figure(view, marked=marked)["data"] if trace["mode"] == "markers"]
        nodes = [numbers(trace["customdata"]).tolist() for trace in points]
        assert nodes == [group.tolist() for group in node_groups(view, marked)]
        assert sorted(np.concatenate(nodes).tolist()) == list(range(len(view.labels)))
        assert [node for group in nodes[1:] for node in group] == rest
        assert all(
            text.startswith(f"n{n}") for trace, ns in zip(points, nodes) for n, text in zip(ns, trace["hovertext"])
        )


def test_the_camera_is_kept():
    assert (
        network_figure(network())["layout"]["uirevision"]
        == network_figure(network(), selected=4)["layout"]["uirevision"]
    )


@pytest.mark.parametrize("edges", [0, 2000])
def test_a_network_as_large_as_resnet_50_stays_under_3_megabytes(edges):
    view = network(filters=502, layers=53, edges=edges)
    assert len(json.dumps(network_figure(view, selected=9), allow_nan=False)) < 3_000_000


def test_symbols_tell_what_is_switched_off():
    nodes = np.array([0, 2, 5])
    assert node_symbols(nodes, 0, [2]) == ["circle", "x", "circle"]
    assert node_symbols(nodes, 1, [0, 1]) == ["x", "square", "square"]
    assert [node_symbols(nodes, place) for place in (0, 1)] == ["circle", "square"]


def test_the_plan_fades_what_is_no_neighbour():
    view = network()
    plan = CircuitView(view, list(range(21)), list(range(12)), {5: "data:,"}, {0: "data:,"})
    whole = circuit_plan_figure(plan)
    assert {shape["opacity"] for shape in whole["layout"]["shapes"]} == {0.75}
    chosen = int(view.edges[0, 0])
    touching = int((view.edges == chosen).any(1).sum())
    faint = [shape["opacity"] for shape in circuit_plan_figure(plan, selected=chosen)["layout"]["shapes"]]
    assert faint.count(0.75) == touching
    assert json.dumps(whole, allow_nan=False)


def test_the_picture_of_what_is_off_fades_so_that_its_cross_is_seen():
    plan = CircuitView(network(), list(range(21)), list(range(12)), {5: "data:,", 6: "data:,"}, {})
    assert [image["opacity"] for image in circuit_plan_figure(plan, off=[6])["layout"]["images"]] == [1.0, 0.15]


def test_maps_have_0_in_the_middle_also_with_relu():
    values = np.array([[-3.0, 1.0], [0.5, 2.0]])
    for relu in (False, True):
        heat = map_figure(values, relu=relu, cell=(1, 0))["data"][0]
        assert (heat["zmin"], heat["zmax"]) == (-3.0, 3.0)
        assert numbers(heat["z"]).min() == (0 if relu else -3)


def test_weights_are_written_in_small_kernels_only():
    assert kernel_figure(np.eye(3))["data"][0]["text"][0] == ["1", "0", "0"]
    assert kernel_figure(np.eye(11))["data"][0]["text"] is None
    assert kernel_figure(np.float32(2))["data"][0]["z"] == [[2.0]]


def test_names_of_classes_are_escaped():
    made = json.dumps(predictions_figure(["<a href=x>wolf</a>"], [("<i>", [0.5])], right=0))
    assert "<a href" not in made
    assert "<i>" not in made


def test_each_cluster_is_one_trace_and_none_comes_last():
    made = clusters_figure(np.zeros((5, 2)), np.array([1, 0, -1, 0, 1]))
    assert [trace["name"] for trace in made["data"]] == ["cluster 1", "cluster 2", "in none"]
