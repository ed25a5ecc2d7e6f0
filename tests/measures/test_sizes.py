"""Sizes counted by hand, costs of the compact network, times and parity."""

from __future__ import annotations

import pytest
import torch

from neurochains.chains.scores import Scores
from neurochains.errors import ParityError, SettingsError
from neurochains.measures import measure_inference, measure_parity, measure_sizes
from neurochains.measures import sizes as module

ALIVE = {"stem.0": 3, "inner": 2, "outer": 4, "expand": 5, "depthwise": 5, "project": 6}


@pytest.fixture(scope="module")
def first(network) -> Scores:
    """The first filters of each layer, so that costs can be counted by hand."""
    return Scores.from_filters(network.scored(), {name: torch.arange(count) for name, count in ALIVE.items()})


def test_the_whole_network_is_its_own_size(network, task, whole):
    sizes = measure_sizes(network, task.images, whole).to_json()
    assert sizes["filters"] == sizes["of"] == 8 + 10 + 8 + 16 + 16 + 12
    assert sizes["layers"] == sizes["layers_of"] == 6
    assert sizes["macs"] == sizes["macs_of"]
    assert sizes["parameters"] == sizes["parameters_of"]
    assert (sizes["blocks_skipped"], sizes["blocks_of"]) == (0, len(network.blocks))


def test_kept_filters_and_their_costs_are_counted(network, task, first):
    sizes = measure_sizes(network, task.images, first)
    stream = 4  # of the stem's 3 channels and the block's 4, the first are the same
    macs = 64 * 9 * (3 * 3 + 3 * 2 + 2 * 4) + 64 * stream * 5 + 16 * (9 * 5 + 5 * 6) + 6 * 4
    assert sizes.macs == macs
    weights = 9 * (3 * 3 + 3 * 2 + 2 * 4) + stream * 5 + 9 * 5 + 5 * 6 + 6 * 4
    others = 2 * 3 + (2 + 4 + 5 + 5 + 6 + 4)  # batch norm, biases
    assert sizes.parameters == weights + others
    assert (sizes.filters, sizes.layers) == (sum(ALIVE.values()), 6)
    assert sizes.macs_of > sizes.macs
    assert sizes.parameters_of > sizes.parameters


def test_skipped_blocks_and_empty_layers_are_counted(network, task, first):
    (block,) = (block for block in network.blocks if "inner" in block.layers)
    units = {**first.units, "inner": torch.zeros(10), "outer": torch.zeros(8)}
    sizes = measure_sizes(network, task.images, Scores(units, {block.name: 0.0}))
    assert (sizes.layers, sizes.layers_of, sizes.blocks_skipped) == (4, 6, 1)


def test_all_three_forms_are_timed_on_the_same_batch(network, task, scores, monkeypatch):
    timed = []

    def seconds(form, images, *, repeats):
        timed.append((form(images), repeats))
        return float(len(timed))

    monkeypatch.setattr(module, "measure_seconds", seconds)
    found = measure_inference(network, task.images, scores, repeats=3)
    assert (found.original, found.scored, found.compact, found.images) == (1, 2, 3, 6)
    assert {repeats for _, repeats in timed} == {3}
    torch.testing.assert_close(timed[0][0], network(task.images))
    for outputs, _ in timed[1:]:
        torch.testing.assert_close(outputs, scores.run(network, task.images), rtol=1e-4, atol=1e-4)


def test_times_are_seconds(network, task, scores):
    found = measure_inference(network, task.images, scores, repeats=1).to_json()
    assert found.pop("seconds_images") == 6
    assert found.keys() == {"seconds_original", "seconds_scored", "seconds_compact"}
    assert all(0 < value < 60 for value in found.values())
    with pytest.raises(SettingsError, match="repeats must be at least 1"):
        measure_inference(network, task.images, scores, repeats=0)


def test_parity_is_small_and_relative_to_the_range(network, task, scores, monkeypatch):
    assert measure_parity(network, task.images, scores) < 1e-5
    outputs = scores.run(network, task.images)
    span = float(outputs.max() - outputs.min())

    class Wrong:
        def compact(self, _):
            return lambda images: scores.run(network, images) + 5e-5 * span

        def __getattr__(self, name):
            return getattr(scores, name)

    assert measure_parity(network, task.images, Wrong()) == pytest.approx(5e-5, rel=0.05)


def test_skipped_blocks_are_skipped_in_both_forms(network, task, whole):
    (block,) = (block for block in network.blocks if "inner" in block.layers)
    skipping = Scores(whole.units, {block.name: 0.0})
    assert not torch.allclose(skipping.run(network, task.images), network(task.images), atol=1e-3)
    assert measure_parity(network, task.images, skipping) < 1e-5


def test_a_wrong_compact_network_is_refused(network, task, scores, monkeypatch):
    compacted = Scores.compact
    monkeypatch.setattr(Scores, "compact", lambda self, net: lambda images: compacted(self, net)(images) * 1.01)
    with pytest.raises(ParityError, match="The compact sub-network differs"):
        measure_parity(network, task.images, scores)
