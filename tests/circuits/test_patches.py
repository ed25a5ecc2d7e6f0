"""Top patches against a search through all maps of all filters."""

from __future__ import annotations

import pytest
import torch

from neurochains.circuits import top_patches
from neurochains.data import Task
from neurochains.edit import tap
from neurochains.errors import LayerError, SettingsError
from neurochains.network import Network

from ..architectures import SHAPE, build, images, traced


def literal(network: Network, task: Task, layer: str, unit: int, count: int) -> list[tuple]:
    """Image, row, column, value and the other filters there, found by looking at every number."""
    axis = network.layer(layer).axis
    found = []
    for index in range(len(task)):
        maps = tap(network, [layer])(task.images[index : index + 1].double())[1][network.layer(layer).name].movedim(
            axis, 1
        )[0]
        best = max(
            ((maps[unit, r, c].item(), r, c) for r in range(maps.shape[1]) for c in range(maps.shape[2])),
            key=lambda place: place[0],
        )
        if best[0] > 0:
            others = [max(maps[o, best[1], best[2]].item(), 0.0) for o in range(len(maps)) if o != unit]
            found.append((index, best[1], best[2], best[0], others))
    return sorted(found, key=lambda place: -place[3])[:count]


@pytest.mark.parametrize(("name", "layer"), [("residual", "c.0"), ("channels last", None), ("dense", "convs.1")])
def test_they_are_those_of_a_full_search(name, layer):
    network, task = traced(name), Task(images(9))
    layer = layer or next(found.name for found in network.layers if found.role == "filter" and found.map_size)
    for unit, found in enumerate(top_patches(network, task, layer, [0, 3], count=5, batch_size=4)):
        wanted = literal(network, task, layer, (0, 3)[unit], 5)
        assert found.images.tolist() == [place[0] for place in wanted]
        assert list(zip(found.rows.tolist(), found.columns.tolist())) == [place[1:3] for place in wanted]
        torch.testing.assert_close(found.values, torch.tensor([place[3] for place in wanted]))
        torch.testing.assert_close(found.vectors, torch.tensor([place[4] for place in wanted]))


def test_the_batch_size_changes_nothing():
    network, task = traced("residual"), Task(images(9))
    for one, other in zip(
        top_patches(network, task, "c.0", batch_size=2), top_patches(network, task, "c.0", batch_size=64), strict=True
    ):
        assert torch.equal(one.images, other.images)
        torch.testing.assert_close(one.vectors, other.vectors)


def test_boxes_are_what_the_positions_see():
    network, task = traced("residual"), Task(images(6))
    (found,) = top_patches(network, task, "c.0", [1])
    field = network.receptive_field("c.0")
    boxes = [field.box(row, column) for row, column in zip(found.rows.tolist(), found.columns.tolist())]
    assert found.boxes.tolist() == [list(box) for box in boxes]
    assert str(found.filter) == "c.0[1]"


def test_an_image_that_does_not_excite_the_filter_has_no_patch():
    network, task = traced("residual"), Task(images(6))
    layer = network.layer("c.0")
    with torch.no_grad():
        peaks = tap(network, ["c.0"])(task.images.double())[1][layer.name].flatten(2).amax(2)
    counts = [len(found) for found in top_patches(network, task, "c.0")]
    assert counts == (peaks > 0).sum(0).tolist()


def test_a_layer_without_positions():
    network = Network.trace(build("mlp"), images(2))
    task = Task(images(7))
    layer = network.scored()[0]
    (found,) = top_patches(network, task, layer.name, [2])
    values = tap(network, [layer.name])(task.images.double())[1][layer.name].detach()
    assert found.values.tolist() == pytest.approx(sorted((values[:, 2][values[:, 2] > 0]).tolist(), reverse=True))
    assert not found.rows.any()
    assert found.vectors.shape == (len(found), layer.units - 1)


def test_bad_input():
    network, task = traced("residual"), Task(images(3))
    assert task.images.shape[1:] == SHAPE
    with pytest.raises(LayerError, match=r"c\.0 .* has 12 filters, 0 to 11; got 12"):
        top_patches(network, task, "c.0", [12])
    with pytest.raises(LayerError, match=r"No layer is called 'c\.9'"):
        top_patches(network, task, "c.9")
    with pytest.raises(SettingsError, match="at least one patch and one image in a batch, got 0 and 64"):
        top_patches(network, task, "c.0", count=0)
