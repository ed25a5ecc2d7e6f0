"""Scores without what is off are those of a network that was edited by hand."""

from __future__ import annotations

import pytest
import torch

from neurochains.circuits import importance
from neurochains.data import Task
from neurochains.errors import LayerError
from neurochains.explorer.ablation_panel import scores
from neurochains.explorer.live import Off, run
from neurochains.explorer.rescoring import find, rescore, without
from neurochains.explorer.view import View
from neurochains.network import Filter

from .test_panels import text


def nothing(_text):
    return None


def test_the_network_without_what_is_off_gives_what_a_watched_pass_gives(network, task):
    layer, other = network.scored()[0], network.scored()[1]
    for texts in (
        [f"{layer.name}[1]"],
        [f"{other.name}[0]<1"],
        [f"block:{network.blocks[0].name}"],
        [f"{layer.name}[1]", f"{other.name}[0]<1", f"block:{network.blocks[-1].name}"],
    ):
        off = Off.parse(texts, network)
        torch.testing.assert_close(without(network, off)(task.images[:1])[0], run(network, task.images[0], off).logits)


def test_scores_are_measured_again_and_what_is_off_has_none(desk, network, task):
    unit = Filter(network.scored()[1].name, 1)
    view = View(image="1.0", off=(str(unit),))
    assert scores(desk, view, None) is None
    rescore(desk, view, None, nothing)
    found = find(desk, view, None)
    image = desk.task([(1, 0)]).images
    settings = {key: desk.bundle.settings[key] for key in ("target", "criterion", "reduce")}
    label = [int(network(image).argmax())]
    wanted = importance(network, Task(image, label), **settings).filters
    for name, values in found.before.items():
        torch.testing.assert_close(values, wanted[name])
    assert found.after[unit.layer][unit.index] == 0
    assert found.before[unit.layer][unit.index] > 0
    assert found.images == len(desk.bundle.sets[1].images)
    assert found.most(3)[0][1] != found.most(3)[0][2]
    assert "keep their answer" in text(scores(desk, view, None))


def test_layers_of_a_block_that_is_off_lead_nowhere_and_score_nothing(desk, network):
    block = network.blocks[0]
    view = View(off=(f"block:{block.name}",))
    rescore(desk, view, None, nothing)
    found = find(desk, view, None)
    inside = [name for name in block.layers if name in found.after]
    assert inside
    assert all(not found.after[name].any() for name in inside)
    assert any(found.before[name].any() for name in inside)


def test_an_unknown_block_cannot_be_skipped(network):
    from neurochains.edit import scale_kernels

    with pytest.raises(LayerError, match="No block is called 'nowhere'"):
        scale_kernels(network, {}, skipped=["nowhere"])
