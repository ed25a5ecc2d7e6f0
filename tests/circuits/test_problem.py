"""Agreement of maps against scipy-like formulas, and the choice of the most important kernels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from tests.circuits.conftest import small_network, small_task

from neurochains.circuits import Edges, Problem, agreement
from neurochains.circuits.problem import largest_within
from neurochains.edit import OUTPUT, Readout
from neurochains.errors import DataError, SettingsError

NETWORK = small_network("residual")
EDGES = Edges(NETWORK, Readout("c.0", (1,), (1.0,)))


def ranks(values):
    """Ranks from 1, equal values sharing their mean rank, by counting."""
    return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 12))
def test_agreement_is_what_its_formulas_say(seed, levels):
    dice = np.random.default_rng(seed)
    ours, theirs = dice.integers(0, levels, 40).astype(float), dice.normal(size=40)
    found = agreement(torch.tensor(ours).view(5, 2, 4), torch.tensor(theirs).view(5, 2, 4))
    if ours.std() > 0:
        assert found.pearson == pytest.approx(np.corrcoef(ours, theirs)[0, 1])
        assert found.spearman == pytest.approx(np.corrcoef(ranks(ours), ranks(theirs))[0, 1])
    assert found.error == pytest.approx(((ours - theirs) ** 2).mean() / theirs.var())


def test_a_constant_map_correlates_with_nothing():
    found = agreement(torch.ones(4, 1), torch.arange(4.0).view(4, 1))
    assert (found.pearson, found.spearman) == (0.0, 0.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.floats(0.05, 1.0))
def test_the_most_important_kernels_fill_the_size_without_dead_ends(seed, share):
    dice = torch.Generator().manual_seed(seed)
    values = {name: torch.rand(whole.shape, generator=dice) for name, whole in EDGES.leading.items()}
    size = max(30, round(share * EDGES.total))
    try:
        kept = largest_within(values, EDGES.leading, size, EDGES)
    except SettingsError:  # no path leads through what fits, and one kernel more is too much
        reject()
    assert kept.size <= size
    least = min(float(values[name][mask].min()) for name, mask in kept.masks.items() if mask.any())
    more = {name: whole & (values[name] >= least) for name, whole in EDGES.leading.items()}
    assert all(torch.equal(kept.masks[name], mask) for name, mask in EDGES.connect(more).items())
    rest = torch.cat([values[name][whole & ~more[name]] for name, whole in EDGES.leading.items()])
    for following in rest.sort(descending=True).values:  # those that are dead ends change nothing
        further = EDGES.size({name: whole & (values[name] >= following) for name, whole in EDGES.leading.items()})
        if further != kept.size:
            assert further > size
            break


def test_a_target_that_is_the_same_everywhere_is_refused():
    with pytest.raises(DataError, match="the same everywhere on these 2 images"):
        Problem(NETWORK, Readout(OUTPUT, (0,), (1.0,)), small_task(1).images.expand(2, -1, -1, -1))
