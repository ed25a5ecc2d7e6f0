"""Comparison against set arithmetic written out, SciPy's tree, and chance."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from neurochains.chains import Chain, Scores
from neurochains.data import Task
from neurochains.errors import ArtifactError, DataError
from neurochains.measures import compare
from neurochains.measures import overlap as overlaps
from neurochains.network import Network

CLASSES = ("cat", "dog", "owl", "elk")
PAIRS = ((0, 1), (0, 2), (1, 2), (2, 3), (0, 1))


def units_of(network, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        layer.name: (torch.rand(layer.units, generator=generator) < 0.5) * torch.rand(layer.units, generator=generator)
        for layer in network.scored()
    }


@pytest.fixture(scope="module")
def chains(network) -> list[Chain]:
    found = []
    for seed, pair in enumerate(PAIRS):
        units = units_of(network, seed)
        units["stem.0"][0], units["stem.0"][1 + seed] = 0.5, 0.7
        units["stem.0"][7] = 1.0 if 0 in pair else 0.0
        task = Task(torch.randn(4, 3, 8, 8), list(pair) * 2, CLASSES)
        found.append(Chain(network, task, Scores(units), metrics={"kl": 0.01 * seed}))
    return found


def kept(chain: Chain) -> set[tuple[str, int]]:
    return {(unit.layer, unit.index) for unit in chain.subnetwork.list_filters()}


def test_overlaps_are_those_of_the_sets(chains):
    found = compare(chains)
    for a, one in enumerate(chains):
        for b, other in enumerate(chains):
            A, B = kept(one), kept(other)
            assert found.overlap[a, b] == pytest.approx(len(A & B) / len(A | B))
            for place, layer in enumerate(found.layers):
                own, others = ({unit for unit in some if unit[0] == layer} for some in (A, B))
                assert found.by_layer[place, a, b] == pytest.approx(len(own & others) / len(own | others))
            s, t = (torch.cat(list(chain.scores.values())).double() for chain in (one, other))
            s, t = s / s.sum(), t / t.sum()
            wanted = torch.minimum(s, t).sum() / torch.maximum(s, t).sum()
            assert found.weighted[a, b] == pytest.approx(float(wanted))
    assert found.sizes == tuple(len(kept(chain)) for chain in chains)


def test_shared_own_and_class_filters_are_those_of_the_sets(chains):
    found = compare(chains)
    sets = [kept(chain) for chain in chains]
    plain = lambda units: {(unit.layer, unit.index) for unit in units}  # noqa: E731
    assert plain(found.shared) == set.intersection(*sets) >= {("stem.0", 0)}
    for place, own in enumerate(found.own):
        assert plain(own) == sets[place] - set().union(*(s for other, s in enumerate(sets) if other != place))
    for label, name in enumerate(CLASSES):
        inside = [s for s, pair in zip(sets, PAIRS) if label in pair]
        outside = [s for s, pair in zip(sets, PAIRS) if label not in pair]
        assert plain(found.of_class[name]) == set.intersection(*inside) - set().union(*outside)
    assert ("stem.0", 7) in plain(found.of_class["cat"])
    assert all(many == sum((u.layer, u.index) in s for s in sets) for u, many in found.uses.items())


def test_means_by_kind_of_pair(chains):
    found = compare(chains)
    pairs = [(a, b) for a in range(5) for b in range(a)]
    alike = [bool(set(PAIRS[a]) & set(PAIRS[b])) for a, b in pairs]
    for kind, chosen in ((None, [True] * 10), (True, alike), (False, [not same for same in alike])):
        values = [found.overlap[pair] for pair, taken in zip(pairs, chosen) if taken]
        interval = found.mean_overlap(alike=kind)
        assert interval.value == pytest.approx(np.mean(values))
        assert interval.low <= interval.value <= interval.high
    means = found.layer_means()
    wanted = np.mean([found.by_layer[0][pair] for pair, same in zip(pairs, alike) if same])
    assert means["a class in common"][0] == pytest.approx(wanted)


def test_chance_is_what_random_sets_have_on_average():
    dice = np.random.default_rng(0)
    sizes, widths, found = ((4, 20), (9, 6)), (16, 40), []
    draw = lambda many, width: torch.zeros(width).index_fill(0, torch.from_numpy(dice.permutation(width)[:many]), 1.0)  # noqa: E731
    for _ in range(400):
        units = [{str(layer): draw(many, widths[layer]) for layer, many in enumerate(own)} for own in sizes]
        found.append(overlaps.overlap(units)[0, 1])
    assert overlaps.by_chance(units)[0, 1] == pytest.approx(np.mean(found), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10**6))
def test_the_tree_is_that_of_scipy(count, seed):
    distance = np.random.default_rng(seed).random((count, count))
    distance = (distance + distance.T) / 2
    np.fill_diagonal(distance, 0)
    np.testing.assert_allclose(overlaps.join(distance), hierarchy.average(squareform(distance)), atol=1e-9)


def test_empty_chains_overlap_wholly():
    nothing = [{"a": torch.zeros(3)}, {"a": torch.zeros(3)}]
    assert overlaps.overlap(nothing)[0, 1] == overlaps.weighted(nothing)[0, 1] == overlaps.by_chance(nothing)[0, 1] == 1
    assert np.isnan(overlaps.by_layer(nothing)).all()
    assert np.isnan(overlaps.chance_by_layer(nothing)).all()


def test_folders_are_compared_like_chains_without_their_model(chains, tmp_path, monkeypatch):
    folders = [chain.save(tmp_path / f"run{number}") for number, chain in enumerate(chains)]
    monkeypatch.setattr(Network, "trace", None)
    found, wanted = compare(folders), compare(chains, names=[folder.name for folder in folders])
    assert found.layers == wanted.layers
    assert found.to_json() == wanted.to_json()
    assert json.loads(json.dumps(found.to_json(), allow_nan=False)) == found.to_json()


def test_names_are_the_classes_and_told_apart(chains):
    assert compare(chains).names == ("cat / dog", "cat / owl", "dog / owl", "owl / elk", "cat / dog (2)")


def test_what_cannot_be_compared_is_refused(chains, tmp_path):
    with pytest.raises(DataError, match="two chains or more to compare, but got 1"):
        compare(chains[:1])
    with pytest.raises(DataError, match="one name for each of 5 chains, but got 2"):
        compare(chains, names=["a", "b"])
    other = replace(chains[1], subnetwork=Scores({"stem.0": torch.ones(8)}))
    with pytest.raises(DataError, match=r"score different units \(1 and \d layers\)"):
        compare([chains[0], other])
    with pytest.raises(ArtifactError, match="holds no chain"):
        compare([chains[0], tmp_path])
