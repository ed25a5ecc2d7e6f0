"""Layers, their sites and roles, labels and blocks, in networks whose anatomy is published."""

from __future__ import annotations

import functools

import pytest
import torch
from tests.architectures import images, traced
from torch import nn
from torch.nn import functional as F

from neurochains.errors import LayerError
from neurochains.network import Filter, Network
from neurochains.network.libraries import import_torchvision


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.pad = (outputs - inputs) // 2

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad)) if self.pad else x))


class CifarResNet(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        for number in (1, 2, 3):
            before, width = widths[number - 1 : number + 1]
            stage = [
                BasicBlock(before if b == 0 else width, width, 2 if number > 1 and b == 0 else 1) for b in range(depth)
            ]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


@functools.lru_cache
def resnet50():
    torch.manual_seed(0)
    return Network.trace(import_torchvision().models.resnet50(weights=None).eval(), torch.randn(1, 3, 64, 64))


@functools.lru_cache
def vgg19():
    torch.manual_seed(0)
    model = import_torchvision().models.vgg19(weights=None, init_weights=False)
    model.classifier = nn.Linear(512 * 7 * 7, 4)
    return Network.trace(model.eval(), torch.randn(1, 3, 32, 32))


@functools.lru_cache
def resnet56():
    return Network.trace(CifarResNet(9).eval(), torch.randn(1, 3, 32, 32))


def units(network):
    return sum(layer.units for layer in network.scored())


def test_filters_are_counted_as_in_the_papers():
    assert (units(resnet50()), units(vgg19()), units(resnet56())) == (26_560, 5_504, 2_032)
    assert [len(network.scored()) for network in (resnet50(), vgg19(), resnet56())] == [53, 16, 55]


def test_skippable_blocks_are_those_of_equal_shape():
    assert [block.label for block in vgg19().blocks] == [
        f"L{n}" for n in (2, 7, 12, 14, 16, 21, 23, 25, 28, 30, 32, 34)
    ]
    assert [block.label for block in resnet50().blocks] == [
        f"L{stage}B{block}" for stage, count in ((1, 3), (2, 4), (3, 6), (4, 3)) for block in range(2, count + 1)
    ]
    assert resnet50().blocks[0].name == "layer1.1"
    assert resnet50().blocks[0].layers == ("layer1.1.conv1", "layer1.1.conv2", "layer1.1.conv3")
    assert len(resnet56().blocks) == 25


def test_blocks_of_transformers_and_reused_modules_have_names_of_their_own():
    names = [block.name for block in traced("tokens").blocks]
    assert names == ["attend", "mlp"] or len(names) == 2
    assert len({block.name for block in traced("reused").blocks}) == len(traced("reused").blocks) > 1


@pytest.mark.parametrize(
    ("network", "name", "label"),
    [
        (resnet50, "conv1", "L0"),
        (resnet50, "layer4.0.conv2", "L4B1C2"),
        (resnet50, "layer4.0.downsample.0", "L4B1SC"),
        (resnet50, "layer3.5.conv3", "L3B6C3"),
        (vgg19, "features.0", "L0"),
        (vgg19, "features.34", "L34"),
        (resnet56, "layer2.0.conv1", "L2B1C1"),
    ],
)
def test_layers_are_found_by_label_and_by_dotted_name(network, name, label):
    layer = network().layer(label)
    assert (layer.name, layer.label) == (name, label)
    assert network().layer(name) is layer
    assert network().layer(label.lower()) is layer
    assert network().filter(f"{label}_3") == network().filter(f"{name}[3]") == Filter(name, 3)
    assert network().label(Filter(name, 3)) == f"{label}_3"
    assert str(Filter(name, 3)) == f"{name}[3]"


def test_labels_are_unique():
    for network in (resnet50(), vgg19(), resnet56(), traced("reused"), traced("tokens")):
        assert len({layer.label for layer in network.layers}) == len(network.layers)


def test_other_families_are_numbered_in_order_of_execution():
    assert [layer.label for layer in traced("dense").layers] == ["L0", "L1", "L2", "L3"]
    assert [layer.name for layer in traced("dense").layers] == ["stem", "convs.0", "convs.1", "head"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L4B1C9", "No layer is called 'L4B1C9'. Did you mean .*L4B1C3"),
        ("layer4.0.cnv2", "Did you mean layer4.0.conv2"),
        ("quux", "There are: conv1, layer1.0.conv1"),
    ],
)
def test_unknown_layers_come_with_the_nearest(text, message):
    with pytest.raises(LayerError, match=message):
        resnet50().layer(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("L4B1C2", r"A filter is written L4B1C2_48 or layer4.0.conv2\[48\]; got 'L4B1C2'"),
        ("conv1[64]", r"conv1 \(L0\) has 64 filters, 0 to 63; got 64"),
        ("conv7_3", "No layer is called 'conv7'"),
    ],
)
def test_unknown_filters_are_explained(text, message):
    with pytest.raises(LayerError, match=message):
        resnet50().filter(text)


def roles(name):
    return {layer.name: layer.role for layer in traced(name).layers}


def test_roles_tell_filters_from_heads_modulations_and_hidden_units():
    assert roles("squeezed") == {
        **dict.fromkeys(("a.0", "b.0"), "filter"),
        **dict.fromkeys(("reduce", "expand", "linears.0", "linears.2"), "modulation"),
        "head": "head",
    }
    assert roles("flattened")["classifier.0"] == "hidden"
    assert roles("channels last") == {
        **dict.fromkeys(("stem", "depthwise", "up", "down"), "filter"),
        "head": "head",
    }


def test_two_heads_that_are_averaged_are_both_heads():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.one, self.two = nn.Conv2d(3, 4, 16), nn.Linear(4, 5), nn.Linear(4, 5)

        def forward(self, x):
            x = self.body(x).flatten(1)
            return (self.one(x) + self.two(x)) / 2

    network = Network.trace(TwoHeads().eval(), images().float())
    assert [layer.role for layer in network.layers] == ["filter", "head", "head"]


def test_calls_of_one_module_are_layers_of_their_own():
    layers = traced("reused").layers
    assert [layer.name for layer in layers[1:5]] == ["shared.0", "shared.0@1", "weight", "weight@1"]
    assert [layer.call for layer in layers[1:5]] == [0, 1, 0, 1]


def test_kinds_sizes_and_sites_are_read_off_the_operation():
    depthwise = traced("depthwise").layer("depthwise.0")
    assert (depthwise.kind, depthwise.groups, depthwise.inputs) == ("depthwise", 8, 8)
    assert (depthwise.stride, depthwise.kernel, depthwise.map_size) == ((2, 2), (3, 3), (8, 8))
    assert depthwise.site.target is torch.ops.aten.batch_norm.default
    up = traced("channels last").layer("up")
    assert (up.kind, up.axis, up.map_size, up.kernel, up.inputs) == ("linear", 3, (4, 4), (), 8)
    scaled = traced("channels last").layer("down")
    assert scaled.site is scaled.producer  # a permutation lies between it and the scale
    assert traced("tokens").layer("patches").site is traced("tokens").layer("patches").producer


def test_fixed_filters_are_no_layers():
    assert [layer.name for layer in traced("blurred").layers] == ["a.0", "b.0", "head"]


def test_what_is_scored_can_be_chosen():
    network = traced("flattened")
    assert [layer.name for layer in network.scored()] == ["features.0", "features.3"]
    assert [layer.name for layer in network.scored(("filters", "hidden"))][-1] == "classifier.0"
    assert [layer.role for layer in traced("mlp").scored()] == ["hidden", "hidden"]


def test_a_network_without_units_is_refused():
    network = Network.trace(nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval(), images().float())
    with pytest.raises(LayerError, match="no filters to score; its layers: 1"):
        network.scored()
