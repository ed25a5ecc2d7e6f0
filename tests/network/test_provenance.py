"""Where channels come from: against interventions, and against shapes that are known."""

from __future__ import annotations

import pytest
import torch
from tests.architectures import ARCHITECTURES, images, traced

from neurochains.network import Filter

# factors of products and statistics of normalisations are no sources, by convention
MIXED = {"spatial attention", "gated", "one kernel each"}
NORMALISED = {"channels last", "standardised", "tokens first", "tokens"}


class Intervention(torch.fx.Interpreter):
    """Runs a traced network with some nodes' values given; keeps all values."""

    def __init__(self, network, given):
        super().__init__(network.module)
        self.given, self.values = given, {}

    def run_node(self, node):
        value = self.given[node] if node in self.given else super().run_node(node)
        self.values[node] = value
        return value


def channels(layer, values):
    """What a layer reads, one row a channel."""
    source = values[layer.producer.args[0]]
    return source.movedim(source.ndim - 1 if layer.kind == "linear" else 1, 0).flatten(1)


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - MIXED - NORMALISED))
def test_a_filter_changes_the_channels_that_come_from_it_and_no_others(name):
    network, x = traced(name), images(2)
    plain = Intervention(network, {})
    plain.run(x)
    sites = {layer.name: layer.site for layer in network.layers}
    for producer in network.layers:
        unit = producer.units // 2
        changed = plain.values[producer.site].clone()
        part = changed.select(producer.axis, unit)
        part.copy_(torch.linspace(-9, 9, part.numel()).view_as(part))
        others = {site: plain.values[site] for site in sites.values()}
        after = Intervention(network, {**others, producer.site: changed})
        after.run(x)
        for consumer in network.layers:
            rows = zip(channels(consumer, plain.values), channels(consumer, after.values), strict=True)
            moved = {channel for channel, (old, new) in enumerate(rows) if not torch.equal(old, new)}
            sources = network.sources(consumer.name)
            assert len(sources) == consumer.inputs
            named = {channel for channel, units in enumerate(sources) if Filter(producer.name, unit) in units}
            if producer.role != "modulation":
                assert moved <= named
                assert bool(moved) == bool(named)


def test_residual_streams_add_up_their_sources():
    network = traced("residual")
    assert network.sources("stem.0") == tuple((Filter("input", c),) for c in range(3))
    assert network.sources("a.0")[2] == (Filter("stem.0", 2),)
    assert network.sources("c.0")[2] == (Filter("stem.0", 2), Filter("b", 2))
    assert network.sources("head")[11] == (Filter("c.0", 11), Filter("shortcut", 11))


def test_padded_shortcuts_shift_channels():
    sources = traced("padded shortcut").sources("b.0")
    assert sources[0] == (Filter("a", 0),)
    assert sources[2] == (Filter("stem.0", 0), Filter("a", 2))


def test_concatenations_put_channels_side_by_side():
    sources = traced("dense").sources("convs.1")
    assert [units for (units,) in sources] == [Filter("stem", c) for c in range(6)] + [
        Filter("convs.0", c) for c in range(4)
    ]


def test_shuffles_are_followed():
    sources = [unit for (unit,) in traced("shuffled").sources("b.0")]
    assert sources[:4] == [Filter("stem.0", 0), Filter("a.0", 0), Filter("stem.0", 1), Filter("a.0", 1)]


def test_flattening_repeats_each_channel_for_its_positions():
    sources = traced("flattened").sources("classifier.0")
    assert [units[0].index for units in sources] == [c for c in range(4) for _ in range(25)]


def test_modulations_are_no_sources_of_what_they_rescale():
    assert traced("squeezed").sources("b.0")[1] == (Filter("a.0", 1),)
    assert traced("squeezed").sources("reduce")[1] == (Filter("a.0", 1),)


def test_an_index_map_is_followed():
    sources = [unit.index for (unit,) in traced("indices").sources("b.0")]
    assert sources == [5, 0, 3, 3, 3, 0]


def test_operations_without_a_rule_unite_everything_and_are_counted():
    network = traced("tokens")
    assert network.provenance.without_rule == {"aten.scaled_dot_product_attention.default": 1}
    assert len(network.sources("attend.out_proj")[0]) == 24


def test_kernels_are_the_weights_with_their_sources():
    kernels = traced("grouped").kernels("b.0")
    assert kernels.weight.shape == (12, 4, 3, 3)
    assert list(kernels.inputs_of(0)) == [0, 1, 2, 3]
    assert list(kernels.inputs_of(11)) == [4, 5, 6, 7]
    assert kernels.sources[7] == (Filter("a.0", 7),)
    assert kernels.layer.name == "b.0"
