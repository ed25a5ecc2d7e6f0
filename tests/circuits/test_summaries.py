from __future__ import annotations

import numpy as np
import pytest
import torch

from neurochains.circuits.summaries import merge, summarise
from neurochains.edit import tap

from .conftest import small_network, small_task


def literal(network, task, layers, places):
    """Slow: every map of every filter, one after the other."""
    _, maps = tap(network, [layer.name for layer in layers])(task.images)
    rows = []
    for layer in layers:
        for unit in range(layer.units):
            unit_maps = maps[layer.name].select(layer.axis, unit).detach()
            tops = [(float(one.max()), index, int(one.argmax())) for index, one in enumerate(unit_maps)]
            tops.sort(key=lambda top: (-top[0], top[1]))
            width = unit_maps.shape[-1]
            rows.append(
                {
                    "mean": float(unit_maps.double().mean()),
                    "lowest": float(unit_maps.min()),
                    "highest": float(unit_maps.max()),
                    "active": float((unit_maps > 0).double().mean()),
                    "patch_value": [top[0] for top in tops[:places]],
                    "patch_place": [(top[1], *divmod(top[2], width)) for top in tops[:places]],
                }
            )
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


@pytest.mark.parametrize("kind", ["residual", "grouped", "depthwise"])
@pytest.mark.parametrize("batch_size", [None, 1, 5])
def test_summaries_are_those_of_the_maps(kind, batch_size):
    network, task = small_network(kind), small_task(7)
    layers = network.scored()
    found = summarise(network, task, layers, places=3, batch_size=batch_size)
    wanted = literal(network, task, layers, 3)
    for key, values in wanted.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-4, atol=1e-6)
    assert found["patch_place"].dtype == np.int32


def test_fewer_images_than_places_are_no_problem(network):
    found = summarise(network, small_task(2), network.scored(), places=9)
    assert found["patch_value"].shape[1] == 2


def test_sets_together_are_the_whole(network, task):
    layers = network.scored()
    rows = [task.by_class()[label] for label in range(3)]
    parts = [(len(own), summarise(network, task.subset(own), layers, places=4)) for own in rows]
    merged, whole = merge(parts, places=4), summarise(network, task, layers, places=4)
    for key in ("mean", "lowest", "highest", "active", "patch_value"):
        np.testing.assert_allclose(merged[key], whole[key], rtol=1e-5, atol=1e-6)
    images = np.array([[rows[place[0]][place[1]] for place in filters] for filters in merged["patch_place"]])
    assert (images == whole["patch_place"][..., 0]).mean() > 0.99
    assert np.array_equal(merged["patch_place"][..., 2:], whole["patch_place"][..., 1:])


def test_a_layer_without_a_map_has_one_position():
    network = small_network()
    head = [layer for layer in network.layers if layer.role == "head"]
    found = summarise(network, small_task(4), head, places=2)
    assert not found["patch_place"][..., 1:].any()
    assert torch.is_grad_enabled()
