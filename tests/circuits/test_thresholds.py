"""Hierarchical thresholds against a loop over filters."""

from __future__ import annotations

import pytest
import torch
from tests.circuits.conftest import small_network, small_task

from neurochains.circuits import Edges, hierarchical, importance
from neurochains.circuits.thresholds import hierarchical_within
from neurochains.edit import Readout
from neurochains.errors import SettingsError
from neurochains.network import Filter

TARGET = {"residual": "c.0", "grouped": "c.0", "dense": "convs.1"}


def reached(values, threshold):
    """The places of the largest values whose sum just reaches a share of all."""
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))
    total, sum_, kept = sum(values), 0.0, set()
    for place in order:
        if sum_ >= threshold * total or values[place] <= 0:
            break
        kept.add(place)
        sum_ += values[place]
    return kept


def by_hand(network, found, edges, filters, kernels):
    kept = {name: reached(found.filters[name].double().tolist(), filters) for name in edges.leading}
    alive = {Filter(name, unit) for name, units in kept.items() for unit in units}
    masks = {}
    for name, whole in edges.leading.items():
        described = network.kernels(name)
        between = torch.zeros_like(whole)
        for unit, column in whole.nonzero().tolist():
            sources = described.sources[described.inputs_of(unit)[column]]
            fed = any(source.layer == "input" or source in alive for source in sources)
            between[unit, column] = unit in kept[name] and fed
        values = found.kernels[name].double() * between
        mask = torch.zeros_like(whole)
        for unit in range(len(whole)):
            for column in reached(values[unit].tolist(), kernels):
                mask[unit, column] = True
        channels = {}
        for unit, column in whole.nonzero().tolist():
            channels.setdefault(described.inputs_of(unit)[column], []).append((unit, column))
        for places in channels.values():
            for chosen in reached([float(values[place]) for place in places], kernels):
                mask[places[chosen]] = True
        masks[name] = mask
    return edges.connect(masks)


@pytest.mark.parametrize("kind", TARGET)
def test_both_thresholds_are_cumulative(kind):
    network = small_network(kind)
    edges = Edges(network, Readout(TARGET[kind], (1,), (1.0,)))
    found = importance(network, small_task(4), target=f"{TARGET[kind]}[1]")
    for filters, kernels in ((0.9, 0.8), (0.6, 0.5)):
        chosen = hierarchical(found, edges, filters=filters, kernels=kernels)
        wanted = by_hand(network, found, edges, filters, kernels)
        assert all(torch.equal(chosen[name], wanted[name]) for name in edges.leading)


def test_a_size_is_not_exceeded_and_grows_with_what_is_allowed():
    network = small_network("residual")
    edges = Edges(network, Readout("c.0", (1,), (1.0,)))
    found = importance(network, small_task(4), target="c.0[1]")
    sizes = [edges.size(hierarchical_within(found, edges, round(share * edges.total))) for share in (0.2, 0.5, 0.9)]
    assert sizes == sorted(sizes)
    assert all(0 < size <= share * edges.total + 1 for size, share in zip(sizes, (0.2, 0.5, 0.9), strict=True))


@pytest.mark.parametrize("wrong", [{"filters": 0.0}, {"kernels": 1.5}])
def test_a_threshold_is_a_share(wrong):
    network = small_network("residual")
    edges = Edges(network, Readout("c.0", (1,), (1.0,)))
    found = importance(network, small_task(4), target="c.0[1]")
    with pytest.raises(SettingsError, match="a share above 0, at most 1"):
        hierarchical(found, edges, **wrong)
