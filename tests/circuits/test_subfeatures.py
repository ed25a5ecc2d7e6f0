"""Sub-features of filters of the bundled network, whose images say what they show; saved, loaded, and against steps."""

from __future__ import annotations

import json

import pytest
import torch

from neurochains.circuits import (
    LayerSubFeatures,
    SubFeatures,
    answers_kept,
    cluster_patches,
    importance,
    layer_subfeatures,
    load_layer_subfeatures,
    load_subfeatures,
    mixed_labels,
    purity,
    subfeature_circuit,
    subfeatures,
    top_patches,
)
from neurochains.data import Task, shapes
from neurochains.errors import ArtifactError, LayerError, ModelError, SettingsError
from neurochains.network import Network, load_model

FAST = {"patches": 90, "draws": 3}
UNITS = (8, 56)


@pytest.fixture(scope="module", autouse=True)
def sklearn() -> None:
    pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def task() -> Task:
    return Task.shapes(160)


@pytest.fixture(scope="module")
def network(task) -> Network:
    return Network.trace(load_model("shapes:vgg"), task.images[:1])


@pytest.fixture(scope="module")
def ranked(network, task) -> LayerSubFeatures:
    return layer_subfeatures(network, task, "L18", units=UNITS, **FAST)


def the_set(values: dict[str, torch.Tensor], keep: float) -> set[tuple[str, int]]:
    """The kernels that carry a share of each layer's importance, picked one by one."""
    chosen = set()
    for name, table in values.items():
        flat = table.double().flatten().tolist()
        carried = 0.0
        for index in sorted(range(len(flat)), key=lambda i: -flat[i]):
            if carried >= keep * sum(flat) or flat[index] <= 0:
                break
            chosen.add((name, index))
            carried += flat[index]
    return chosen


def test_the_steps_one_by_one(network, task, ranked):
    """Patches, clusters, one importance for each cluster, sets and their overlap: the same numbers."""
    found = next(one for one in ranked if one.clusters > 1)
    (patches,) = top_patches(network, task, "L18", [found.patches.filter.index], count=90)
    labels = cluster_patches(patches.vectors)
    assert torch.equal(labels, found.labels)
    target = f"{patches.filter}@max"
    for dealt, wanted in zip((labels, mixed_labels(labels, 3)[0]), (found.separability, float(found.mixed[0]))):
        sets = []
        for cluster in range(found.clusters):
            chosen = task.subset(patches.images[dealt == cluster])
            sets.append(the_set(dict(importance(network, chosen, target=target).kernels), 0.8))
        pairs = [(a, b) for i, a in enumerate(sets) for b in sets[i + 1 :]]
        shared = sorted(len(a & b) / len(a | b) for a, b in pairs)
        median = (shared[(len(shared) - 1) // 2] + shared[len(shared) // 2]) / 2
        assert wanted == pytest.approx(median, abs=0.01)  # a kernel on the edge of a set may fall either way


def test_clusters_are_what_the_images_show_and_share_few_kernels(task, ranked):
    """The data set's truth: within a cluster, one shape and texture; shuffled labels are far from it."""
    assert len(ranked.separable) == len(UNITS)
    names = sorted({attributes[:2] for attributes in shapes.ATTRIBUTES})
    kinds = torch.tensor([names.index(shapes.attributes(label)[:2]) for label in task.labels.tolist()])
    for found in ranked:
        truth = kinds[found.patches.images]
        by_chance = [purity(row, truth) for row in mixed_labels(found.labels, 5)]
        assert purity(found.labels, truth) > max(by_chance) + 0.15
        assert found.separability < 0.6 * float(found.mixed.min())


def test_the_most_separable_come_first_and_single_clusters_last(ranked, network, task):
    values = [one.separability for one in ranked.separable]
    assert values == sorted(values)
    assert [one.clusters > 1 for one in ranked] == sorted((one.clusters > 1 for one in ranked), reverse=True)
    assert {one.patches.filter.index for one in ranked} == set(UNITS)
    one = subfeatures(network, task, ranked[0].label, **FAST)
    assert one.separability == ranked[0].separability
    assert torch.equal(one.labels, ranked[0].labels)


def test_circuits_lead_to_the_filter_only(ranked):
    found = ranked[0]
    for circuit in found.circuits:
        rows = circuit[found.patches.filter.layer].any(1).nonzero().flatten().tolist()
        assert rows == [found.patches.filter.index]
        assert next(iter(circuit)) == "features.0"


def test_a_circuit_keeps_the_answers_to_its_own_cluster_and_loses_the_others(network, task, ranked):
    """Intervention: everything but one cluster's circuit is removed, and the network is run."""
    for found in ranked:
        kept = answers_kept(network, task, found)
        own = kept.diagonal()
        others = kept[~torch.eye(len(kept), dtype=torch.bool)]
        assert own.mean() > 0.4
        assert others.mean() < 0.3 * own.mean()


def test_what_is_kept_is_what_the_circuit_gives_at_the_patches(network, task, ranked):
    found = ranked[0]
    small = subfeature_circuit(network, task, found, 1)
    assert small.task.names == tuple(task.names[i] for i in found.patches.images[found.members(1)].tolist())
    maps = small.compact()(small.task.images)
    rows, columns = found.patches.rows[found.members(1)], found.patches.columns[found.members(1)]
    answers = [max(float(one[r, c]), 0.0) for one, r, c in zip(maps, rows.tolist(), columns.tolist())]
    wanted = sum(answers) / float(found.patches.values[found.members(1)].sum())
    assert float(answers_kept(network, task, found)[1, 1]) == pytest.approx(wanted, rel=1e-3)
    for name, mask in small.kernels.items():
        assert not (mask & ~found.circuits[1][name]).any()


def test_the_circuit_of_another_model_or_of_no_cluster(network, task, ranked):
    with pytest.raises(SettingsError, match="counted from 0; got -1"):
        subfeature_circuit(network, task, ranked[0], -1)
    other = Network.trace(load_model("shapes:resnet"), task.images[:1])
    with pytest.raises(ModelError, match="found in a model with other weights"):
        answers_kept(other, task, ranked[0])


def test_the_centre_is_the_mean_direction(ranked):
    found = ranked[0]
    vectors = found.patches.vectors[found.members(1)]
    wanted = sum(vector / vector.norm() for vector in vectors)
    torch.testing.assert_close(found.centre(1), wanted / wanted.norm())


def test_a_filter_without_clusters(network, task):
    found = subfeatures(network, task, "features.18[0]", smallest=60, **FAST)
    assert found.clusters == 0
    assert found.circuits == ()
    assert found.summary()["clusters"] == []
    assert torch.tensor([found.separability, found.mixed_separability]).isnan().all()
    assert found.overlaps.shape == (0, 0)
    assert repr(found) == "SubFeatures(L18_0: 0 clusters of 90 patches)"


def test_saved_and_loaded(ranked, tmp_path):
    found = ranked[0]
    loaded = load_subfeatures(found.save(tmp_path / "one"))
    assert isinstance(loaded, SubFeatures)
    assert loaded.summary() == found.summary()
    assert loaded.patches.filter == found.patches.filter
    for name in ("images", "rows", "columns", "boxes", "values", "vectors"):
        assert torch.equal(getattr(loaded.patches, name), getattr(found.patches, name))
    for one, other in zip(loaded.circuits, found.circuits, strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)
    document = json.loads((tmp_path / "one" / "subfeatures.json").read_text())
    assert document["settings"]["patches"] == 90
    assert len(document["provenance"]["images"]["digests"]) == 160


def test_a_layer_is_saved_and_loaded(ranked, tmp_path):
    loaded = load_layer_subfeatures(ranked.save(tmp_path / "layer"))
    assert [one.label for one in loaded] == [one.label for one in ranked]
    assert [one.separability for one in loaded] == [one.separability for one in ranked]
    assert repr(loaded) == "LayerSubFeatures(features.18: 2 of 2 filters have sub-features)"


def test_damaged_and_other_folders(ranked, tmp_path):
    ranked[0].save(tmp_path / "one")
    with pytest.raises(ArtifactError, match="holds no layer-subfeatures"):
        load_layer_subfeatures(tmp_path / "one")
    with pytest.raises(ArtifactError, match="exists already"):
        ranked[0].save(tmp_path / "one")
    ranked[0].save(tmp_path / "one", force=True)
    path = tmp_path / "one" / "subfeatures.json"
    document = json.loads(path.read_text())
    del document["filters"][0]["shapes"]
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match=r"subfeatures\.json is damaged: 'shapes' is missing"):
        load_subfeatures(tmp_path / "one")
    with pytest.raises(SettingsError, match="no sub-features of any filter to save"):
        LayerSubFeatures("features.18", ()).save(tmp_path / "none")


def test_the_model_is_as_it_was(task):
    model = load_model("shapes:vgg")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    subfeatures(model, task, "L18_0", patches=40, draws=1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training
    assert all(weight.grad is None and not weight.requires_grad for weight in model.parameters())


def test_progress_is_reported(network, task):
    seen: list[tuple[int, int]] = []
    layer_subfeatures(network, task, "L18", units=[3, 4], patches=20, draws=1, progress=lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]


def test_bad_input(network, task, ranked):
    with pytest.raises(SettingsError, match=r"those of a whole filter, such as L10_5 or L10_5@max; got 'logit:3'"):
        subfeatures(network, task, "logit:3")
    with pytest.raises(SettingsError, match="those of a whole filter"):
        subfeatures(network, task, "L18_0@0,1")
    with pytest.raises(LayerError, match="has 96 filters, 0 to 95; got 96"):
        subfeatures(network, task, "L18_96")
    with pytest.raises(SettingsError, match="above 0 and at most 1; got 0"):
        subfeatures(network, task, "L18_0", keep=0)
    with pytest.raises(SettingsError, match="at least one draw, got 0"):
        subfeatures(network, task, "L18_0", draws=0)
    with pytest.raises(SettingsError, match=r"has \d clusters, counted from 0; got 9"):
        ranked[0].members(9)
