"""The pass that is watched computes what the network and the edits of `edit` compute."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from neurochains.chains import Scores
from neurochains.edit import scale_kernels, tap
from neurochains.errors import DataError, LayerError
from neurochains.explorer.live import Off, kernel_map, run
from neurochains.network import Filter


@pytest.fixture
def image(task):
    return task.images[0]


def test_a_whole_pass_is_the_networks_own(network, image):
    names = [layer.name for layer in network.layers]
    logits, maps = tap(network, names)(image[None])
    seen = run(network, image)
    torch.testing.assert_close(seen.logits, logits[0])
    for name in names:
        torch.testing.assert_close(seen.maps[name], maps[name][0])


def test_filters_and_blocks_off_are_scores_and_gates_of_0(network, image):
    layer, block = network.scored()[1], network.blocks[0]
    units = {x.name: torch.ones(x.units) for x in network.scored()}
    units[layer.name][2] = 0
    wanted = Scores(units, {block.name: 0.0}).run(network, image[None])[0]
    seen = run(network, image, Off.parse([f"{layer.name}[2]", f"block:{block.name}"], network))
    torch.testing.assert_close(seen.logits, wanted)
    assert not torch.equal(seen.logits, run(network, image).logits)


def test_kernels_off_are_weights_of_0(network, image):
    layer = network.scored()[1]
    scores = torch.ones(network.kernels(layer.name).weight.shape[:2])
    scores[1, 0] = 0
    wanted = scale_kernels(network, {layer.name: scores})(image[None])[0]
    torch.testing.assert_close(run(network, image, Off.parse([f"{layer.name}[1]<0"], network)).logits, wanted)


def test_the_maps_of_all_kernels_add_up_to_what_the_layer_computes(network, image):
    layer = network.layers[0]
    seen = run(network, image)
    weight = network.kernels(layer.name).weight
    whole = F.conv2d(seen.inputs[layer.name][None], weight, None, layer.stride, [side // 2 for side in layer.kernel])
    parts = [kernel_map(network, seen, Filter(layer.name, 1), column) for column in range(weight.shape[1])]
    torch.testing.assert_close(sum(parts), whole[0, 1].detach(), rtol=1e-4, atol=1e-5)


def test_the_network_is_left_as_it_was(network, image):
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    layer = network.scored()[0].name
    run(network, image, Off.parse([f"{layer}[0]", f"{layer}[1]<0"], network))
    assert all(torch.equal(value, before[name]) for name, value in network.module.state_dict().items())


def test_what_is_not_there_cannot_be_switched_off(network):
    layer = network.scored()[0].name
    with pytest.raises(LayerError, match="nowhere"):
        Off.parse(["nowhere[0]"], network)
    with pytest.raises(DataError, match="no block 'nowhere'"):
        Off.parse(["block:nowhere"], network)
    with pytest.raises(DataError, match="kernels, 0 to"):
        Off.parse([f"{layer}[0]<99"], network)
