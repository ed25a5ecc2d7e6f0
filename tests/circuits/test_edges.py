"""Edges and dead ends against a slow walk from kernel to kernel, and against interventions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.circuits.conftest import small_network, small_task

from neurochains.circuits import Edges, Problem
from neurochains.circuits.problem import Kept
from neurochains.edit import OUTPUT, Readout
from neurochains.errors import SettingsError
from neurochains.network import Filter

FEW = ("residual", "depthwise", "reused")
MORE = ("dense", "grouped", "squeezed", "shuffled", "padded shortcut")
KINDS = (*FEW, *(pytest.param(kind, marks=pytest.mark.slow) for kind in MORE))
NETWORKS = {kind: small_network(kind) for kind in ("residual", "dense")}
LOGIT = Readout(OUTPUT, (2,), (1.0,))


def drawn(edges, seed, share):
    dice = torch.Generator().manual_seed(seed)
    return {name: (torch.rand(whole.shape, generator=dice) < share) & whole for name, whole in edges.leading.items()}


def walked(network, masks, roots):
    """The kernels on a path from the image to the roots, found edge by edge: sets of (layer, unit, column)."""
    edges = []
    for name, mask in masks.items():
        kernels = network.kernels(name)
        for unit, column in mask.nonzero().tolist():
            edges.append(((name, unit, column), kernels.sources[kernels.inputs_of(unit)[column]]))
    alive: set[Filter] = set()
    for (name, unit, _), sources in edges:  # in the order of execution
        if any(source.layer == "input" or source in alive for source in sources):
            alive.add(Filter(name, unit))
    needed, found = set(roots) & alive, set()
    for (name, unit, column), sources in reversed(edges):
        reached = [source for source in sources if source.layer == "input" or source in alive]
        if Filter(name, unit) in needed and reached:
            found.add((name, unit, column))
            needed |= set(sources)
    return found


def as_set(masks):
    return {(name, *place) for name, mask in masks.items() for place in mask.nonzero().tolist()}


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 999), st.floats(0.05, 0.9))
def test_dead_ends_are_what_a_walk_does_not_reach(kind, seed, share):
    network = NETWORKS[kind]
    name = [layer.name for layer in network.layers if layer.role == "filter"][-1]
    edges = Edges(network, Readout(name, (1,), (1.0,)))
    masks = drawn(edges, seed, share)
    wanted = walked(network, masks, [Filter(name, 1)])
    assert edges.size(masks) == len(wanted)
    if wanted:
        assert as_set(edges.connect(masks)) == wanted
    else:
        with pytest.raises(SettingsError, match="Total collapse"):
            edges.connect(masks)


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_that_do_not_lead_to_the_target_change_nothing(kind):
    network = small_network(kind)
    last = [layer for layer in network.layers if layer.role == "filter"][-1]
    for readout in (Readout(last.name, (1,), (1.0,)), LOGIT):
        problem = Problem(network, readout, small_task(4).images)
        edges = problem.edges
        assert edges.total == sum(int(mask.sum()) for mask in edges.leading.values())
        assert torch.allclose(problem.maps(problem.everything()), problem.original, atol=1e-5)
        scores = {name: mask.float() * 2 for name, mask in edges.leading.items()}
        assert not torch.allclose(problem.maps(Kept(edges.leading, scores)), problem.original, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_removing_dead_ends_changes_nothing_but_what_they_leave_behind(kind):
    """Kernels of filters that nobody reads can be scaled at will."""
    network = small_network(kind)
    last = [layer for layer in network.layers if layer.role == "filter"][-1]
    problem = Problem(network, Readout(last.name, (0,), (1.0,)), small_task(4).images)
    masks = drawn(problem.edges, 0, 0.7)
    kept = Kept.of(problem.edges.connect(masks))
    wild = {name: torch.where(mask, 1.0, 0.0) for name, mask in kept.masks.items()}
    for name, mask in masks.items():
        idle = mask & ~kept.masks[name].any(1, keepdim=True)
        wild[name] = wild[name] + 7.0 * idle
    assert torch.allclose(problem.maps(Kept(kept.masks, wild)), problem.maps(kept), atol=1e-4)


def test_a_residual_stream_keeps_a_filter_alive_through_either_branch():
    network = small_network("residual")
    edges = Edges(network, Readout("c.0", (0,), (1.0,)))
    masks = {name: torch.zeros_like(whole) for name, whole in edges.leading.items()}
    masks["stem.0"][3, 0] = True
    masks["c.0"][0, 3] = True
    assert as_set(edges.connect(masks)) == {("stem.0", 3, 0), ("c.0", 0, 3)}
    assert "b" in {layer.name for layer in edges.silenced()}


def test_a_target_in_front_of_every_kernel_is_refused():
    network = small_network("mlp")
    with pytest.raises(SettingsError, match="No kernel leads into"):
        Edges(network, LOGIT)
