from __future__ import annotations

import pytest
import torch
from tests import architectures
from tests.decoupling.conftest import CONTROLLED, gated, moody
from torch.utils.flop_counter import FlopCounterMode

from neurochains.decoupling import decouple, path_costs
from neurochains.decoupling.active import ActiveConv, ActiveLinear, Maps
from neurochains.errors import DataError


@pytest.mark.parametrize("name", CONTROLLED)
def test_it_computes_what_the_gated_network_computes(name):
    decoupled, images = gated(name), architectures.images(7)
    wanted = decoupled(images)
    together = decoupled.dynamic()(images)
    torch.testing.assert_close(together, wanted, rtol=0, atol=1e-9)
    one_by_one = torch.cat([decoupled.dynamic()(image) for image in images.split(1)])
    torch.testing.assert_close(one_by_one, wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CONTROLLED)
def test_settled_filters_are_cut_out_and_nothing_changes(name):
    decoupled, images = gated(name), architectures.images(7)
    states = decoupled.states(images)
    small = decoupled.dynamic(states)
    torch.testing.assert_close(small(images), decoupled(images), rtol=0, atol=1e-9)
    counts = [
        sum(part.filters for part in network.modules() if isinstance(part, ActiveConv) and part.groups == 1)
        for network in (decoupled.dynamic(), small)
    ]
    masks = [mask for layer, mask in states.silent.items() if decoupled.network.layer(layer).groups == 1]
    assert counts[1] == counts[0] - sum(int(mask.sum()) for mask in masks)


@pytest.mark.parametrize("name", CONTROLLED)
def test_the_cost_of_a_path_is_what_the_run_multiplies(name):
    decoupled, images = gated(name), architectures.images(3)
    costs, dynamic = path_costs(decoupled, decoupled.codes(images)), decoupled.dynamic()
    for macs, image in zip(costs.macs.tolist(), images.split(1), strict=True):
        with FlopCounterMode(display=False) as counter:
            dynamic(image.repeat(2, 1, 1, 1))  # of one image, linear layers read rows in place, uncounted
        assert counter.get_total_flops() // 4 == macs
    assert costs.original == decoupled.network.costs().macs


def test_the_mean_cost_is_that_of_the_products():
    decoupled, images = gated("residual"), architectures.images(6)
    codes = decoupled.codes(images)
    costs = path_costs(decoupled, codes)
    single = [path_costs(decoupled, {name: code[[row]] for name, code in codes.items()}) for row in range(6)]
    assert costs.macs.tolist() == [int(one.macs[0]) for one in single]
    assert costs.mean == pytest.approx(sum(one.mean for one in single) / 6)
    assert costs.saved == pytest.approx(1 - costs.mean / costs.original)


def test_open_gates_cost_the_controllers_and_settled_ones_nothing():
    images = architectures.images(4)
    decoupled = decouple(architectures.build("residual"), images)
    costs = path_costs(decoupled, decoupled.codes(images))
    assert costs.mean == costs.original + costs.controllers
    settled = decoupled.settle(decoupled.states(images))
    assert path_costs(settled, settled.codes(images)).mean == costs.original


def test_images_are_grouped_and_come_back_in_their_order():
    decoupled, images = gated("residual"), architectures.images(4)
    shuffled = images[[2, 0, 2, 3, 1, 0]]
    torch.testing.assert_close(decoupled.dynamic()(shuffled), decoupled(shuffled), rtol=0, atol=1e-9)
    sizes = []
    dynamic = decoupled.dynamic()
    for part in dynamic.modules():
        if isinstance(part, ActiveConv):
            part.register_forward_hook(lambda _, given, __: sizes.append(len(given[0].value)))
    dynamic(images[[0, 0, 0, 0]])
    assert set(sizes) == {4}


def test_keep_one_is_kept():
    images = architectures.images(5)
    decoupled = moody(decouple(architectures.build("residual"), images, keep_one=True))
    for controller in decoupled.controllers.values():
        torch.nn.init.constant_(controller.expand.bias, -40.0)
    assert all((code.sum(1) >= 1).all() for code in decoupled.codes(images).values())
    torch.testing.assert_close(decoupled.dynamic()(images), decoupled(images), rtol=0, atol=1e-9)
    states = decoupled.states(images)
    torch.testing.assert_close(decoupled.dynamic(states)(images), decoupled(images), rtol=0, atol=1e-9)


def test_a_network_without_any_filter_left_still_answers():
    decoupled, images = gated("residual"), architectures.images(3)
    for controller in decoupled.controllers.values():
        controller.expand.weight.data.zero_()
        controller.expand.bias.data.fill_(-1)
    torch.testing.assert_close(decoupled.dynamic()(images), decoupled(images), rtol=0, atol=1e-12)


@pytest.mark.parametrize("inputs", [None, [0, 3, 4]])
@pytest.mark.parametrize("on", [None, [1, 2]])
def test_an_active_convolution_is_a_part_of_the_whole(inputs, on):
    weight, bias = torch.randn(5, 6, 3, 3), torch.randn(5)
    options = {"stride": 2, "padding": 1, "dilation": 1}
    maps = torch.randn(2, 6, 8, 8)
    if inputs is not None:
        maps[:, [channel for channel in range(6) if channel not in inputs]] = 0
    given = Maps(maps if inputs is None else maps[:, inputs], None if inputs is None else torch.tensor(inputs), 6)
    found = ActiveConv(weight, bias, options, groups=1)(given, None if on is None else torch.tensor(on))
    wanted = torch.nn.functional.conv2d(maps, weight, bias, **options)
    torch.testing.assert_close(found, wanted if on is None else wanted[:, on])


@pytest.mark.parametrize("images", [1, 3])
def test_an_active_linear_layer_is_a_part_of_the_whole(images):
    weight, bias, on = torch.randn(4, 9), torch.randn(4), torch.tensor([0, 2, 8])
    values = torch.relu(torch.randn(images, 3))
    given = Maps(values, on, 9)
    torch.testing.assert_close(ActiveLinear(weight, bias)(given), torch.nn.functional.linear(given.dense, weight, bias))


def test_it_does_not_follow_later_training():
    decoupled, images = gated("residual"), architectures.images(2)
    dynamic = decoupled.dynamic()
    before = dynamic(images)
    for parameter in decoupled.parameters():
        parameter.data.mul_(0.5)
    decoupled.train()(images)
    assert torch.equal(dynamic(images), before)


def test_messages():
    with pytest.raises(
        DataError, match=r"takes images \(B, 3, 16, 16\), B at least 1; got \(0, 3, 16, 16\)|traced for"
    ):
        gated("residual").dynamic()(architectures.images(2)[:0])
