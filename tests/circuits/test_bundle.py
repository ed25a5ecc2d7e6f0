from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from neurochains.circuits import Bundle, importance
from neurochains.circuits.bundle import Visual
from neurochains.circuits.summaries import summarise
from neurochains.errors import ArtifactError, DataError, ExpressionError, LayerError, SettingsError
from neurochains.network import Filter

from .conftest import small_network


def rows_of(task, label):
    return list(task.by_class()[label])


def test_a_bundle_knows_the_network(bundle, network):
    assert [layer.name for layer in bundle.layers] == [layer.name for layer in network.layers]
    for kept, layer in zip(bundle.layers, network.layers):
        for name in ("label", "kind", "role", "units", "inputs", "groups", "map_size", "kernel", "stride"):
            assert getattr(kept, name) == getattr(layer, name)
        assert kept.scored == (layer in network.scored())
    for kept in bundle.spans.layers:
        kernels = network.kernels(kept.name)
        assert bundle.sources(kept.name) == kernels.sources
        np.testing.assert_allclose(bundle.weights(kept.label), kernels.weight.detach(), rtol=1e-3, atol=1e-6)
        assert kept.field == network.receptive_field(kept.name)
    assert [block.layers for block in bundle.blocks] == [block.layers for block in network.blocks]
    assert bundle.filter(f"{bundle.layers[0].label}_3") == Filter(bundle.layers[0].name, 3)


@pytest.mark.parametrize(("name", "label"), [("tiger", 1), ("n00000001", 0), ("wolf b", None), ("overall", None)])
def test_importances_are_those_of_the_images(bundle, network, task, name, label):
    if name == "wolf b":
        name, label = "<b>wolf</b>", 2
    part = task if label is None else task.subset(rows_of(task, label))
    wanted = importance(network, part, target="loss")
    for layer, values in bundle.filters(name).items():
        np.testing.assert_allclose(values, wanted.filters[layer], rtol=1e-5, atol=1e-9)
    for layer, values in bundle.kernels(name).items():
        largest = float(wanted.kernels[layer].max())
        np.testing.assert_allclose(values, wanted.kernels[layer], rtol=2e-3, atol=1e-6 * largest)


def test_one_filter_across_all_sets(bundle):
    unit = bundle.filter("stem.0[2]")
    wanted = [bundle.filters(known.name)["stem.0"][2] for known in bundle.sets]
    np.testing.assert_array_equal(bundle.by_set(unit), np.array(wanted))


def test_summaries_are_kept(bundle, network, task):
    found = bundle.summary("tiger")["c.0"]
    wanted = summarise(network, task.subset(rows_of(task, 1)), [network.layer("c.0")], places=1)
    for key, values in found.items():
        np.testing.assert_allclose(values, wanted[key], rtol=1e-5)


def test_patches_lead_to_pixels(bundle, network, task):
    unit = bundle.filter("a.0[1]")
    patches = bundle.patches(unit)
    assert [patch.value for patch in patches] == sorted((patch.value for patch in patches), reverse=True)
    best = patches[0]
    assert best.name == bundle.sets[best.set].images[best.image]
    assert best.box == network.receptive_field("a.0").box(best.row, best.column)
    assert task.names.index(best.name) in range(len(task))
    inside = bundle.patches(unit, name="tiger")
    assert {patch.set for patch in inside} == {1}
    assert len({patch.image for patch in inside}) == len(inside) == len(bundle.sets[1].images)


def test_pictures_are_kept_to_the_pixel(bundle, task):
    for index, known in enumerate(bundle.sets):
        for image, name in enumerate(known.images):
            assert np.array_equal(bundle.picture(index, image), task.pixels[task.names.index(name)])
    for index, image in ((-1, 0), (3, 0), (0, 99), (0, -1)):
        with pytest.raises(DataError, match=f"There is no image {image} of a set {index}"):
            bundle.picture(index, image)


def test_projections_are_there(bundle):
    for layer in bundle.spans.layers:
        for kind in ("classwise", "grid"):
            assert bundle.projection(layer.name, kind).shape == (layer.units, 2)
    with pytest.raises(SettingsError, match="A projection is one of classwise, grid, visual; got 'mds'"):
        bundle.projection("a.0", "mds")
    with pytest.raises(ArtifactError, match=r"visual\.safetensors is truncated or damaged: it is missing"):
        bundle.projection("a.0", "visual")


def test_feature_visualisations_are_added_and_kept(copied):
    bundle, unit = Bundle.open(copied), Filter("a.0", 3)
    assert bundle.visual(unit) is None
    pixels = np.full((3, 16, 16), 7, np.uint8)
    bundle.keep_visual(unit, Visual(pixels, 1.5, 2.5), negative=True)
    again = Bundle.open(copied)
    assert again.visual(unit) is None
    found = again.visual(unit, negative=True)
    assert (found.reached, found.peak) == (1.5, 2.5)
    assert np.array_equal(found.pixels, pixels)
    with pytest.raises(DataError, match=r"Wanted uint8 \(3, 16, 16\), but got uint8 \(3, 8, 8\)"):
        bundle.keep_visual(unit, Visual(pixels[:, :8, :8], 0, 0))
    with pytest.raises(SettingsError, match=r"The objective is one of channel, centre; got '../../x'"):
        bundle.visual(unit, objective="../../x")
    for wrong in (Filter("a.0", 8), Filter("a.0", -1)):
        with pytest.raises(LayerError, match=r"a\.0 has 8 filters"):
            bundle.visual(wrong)


def test_unknown_names_come_with_the_nearest(bundle):
    with pytest.raises(ExpressionError, match=r"No set of images is called 'tigre'. Did you mean tiger"):
        bundle.filters("tigre")
    with pytest.raises(LayerError, match=r"Did you mean stem.0"):
        bundle.layer("stem0")
    with pytest.raises(LayerError, match=r"The bundle holds no numbers of head, only of: stem.0"):
        bundle.weights("head")


def test_the_model_is_compared(bundle, network, prepared):
    bundle.check_model(network)
    torch.manual_seed(3)
    other = small_network("grouped")
    with pytest.raises(ArtifactError, match="was prepared from a model with other weights"):
        Bundle.open(prepared, model=other)


def test_an_older_format_is_named(copied):
    document = json.loads((copied / "bundle.json").read_text())
    (copied / "bundle.json").write_text(json.dumps({**document, "version": 0}))
    with pytest.raises(ArtifactError, match=f"{copied}: its format version is 0; this NeuroChains reads 1"):
        Bundle.open(copied)


def test_an_unfinished_bundle_says_how_to_go_on(copied):
    document = json.loads((copied / "bundle.json").read_text())
    (copied / "bundle.json").write_text(json.dumps({**document, "files": {}}))
    with pytest.raises(ArtifactError, match=r"is not finished: 3 of 3 sets are there\. Run the same command again"):
        Bundle.open(copied)


@pytest.mark.parametrize("name", ["graph", "overall", "classwise", "grid", "sets/00001"])
def test_a_truncated_file_is_found_at_once(copied, name):
    path = copied / f"{name}.safetensors"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(
        ArtifactError, match=rf"{name}\.safetensors is truncated or damaged: {size - 1} of {size} bytes"
    ):
        Bundle.open(copied)
    path.unlink()
    with pytest.raises(ArtifactError, match="it is missing"):
        Bundle.open(copied)


def test_a_flipped_bit_is_found_by_verifying(copied):
    path = copied / "overall.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    bundle = Bundle.open(copied)
    with pytest.raises(
        ArtifactError, match=r"overall\.safetensors is truncated or damaged: it is not what was written"
    ):
        bundle.verify()


def test_a_bundle_deleted_while_open_is_an_error_with_a_name(copied):
    bundle = Bundle.open(copied)
    for path in sorted(copied.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    with pytest.raises(ArtifactError, match=r"overall\.safetensors is truncated or damaged: it is missing"):
        bundle.filters()


def rewrite(bundle, name, wanted, **changes):
    """Write a file of a bundle again with other tensors, as somebody with ill intent would."""
    bundle.folder.write(name, {**bundle.folder.read(name, wanted), **changes})


def test_numbers_that_are_not_finite_are_refused(copied):
    bundle = Bundle.open(copied)
    wanted = bundle.spans.wanted(kernels=True)
    rewrite(bundle, "overall.safetensors", wanted, filters=np.full(bundle.spans.filters, np.nan, np.float32))
    with pytest.raises(ArtifactError, match="filters has values that are not finite"):
        bundle.filters()


@pytest.mark.parametrize("place", [[9, 0, 0, 0], [0, 99, 0, 0], [0, -1, 0, 0]])
def test_patches_in_images_that_are_not_there_are_refused(copied, place):
    bundle, shape = Bundle.open(copied), (Bundle.open(copied).spans.filters, 9)
    places = np.broadcast_to(np.array(place, np.int32), (*shape, 4))
    bundle.folder.write("overall.safetensors", {"patch_value": np.zeros(shape, np.float32), "patch_place": places})
    with pytest.raises(ArtifactError, match="a patch lies in an image that is not there"):
        bundle.patches(Filter("a.0", 0))


def test_sources_that_are_no_layers_are_refused(copied):
    bundle = Bundle.open(copied)
    ends, ids = np.arange(1, 4), np.zeros(3, np.int32)
    for layers, wrong_ends in ((ids + 99, ends), (ids - 2, ends), (ids, ends[::-1]), (ids, ends + 5)):
        tensors = {"source_ends/0": wrong_ends, "source_layers/0": layers, "source_units/0": ids}
        bundle.folder.write("graph.safetensors", tensors)
        with pytest.raises(ArtifactError, match=r"graph\.safetensors is truncated or damaged"):
            bundle.sources("stem.0")


def test_a_picture_of_another_size_is_refused_before_it_is_decoded(copied):
    from neurochains.circuits.bundle_pictures import encode

    bundle = Bundle.open(copied)
    count = len(bundle.sets[0].images)
    bundle.folder.write("sets/00000.safetensors", encode(np.zeros((count, 3, 999, 999), np.uint8), "png"))
    with pytest.raises(
        ArtifactError, match=r"picture 0 cannot be decoded \(it has \(999, 999\) pixels where \(16, 16\)"
    ):
        bundle.picture(0, 0)
    data = {"pictures": np.zeros(50, np.uint8), "picture_ends": np.arange(1, count + 1) * 5}
    bundle.folder.write("sets/00000.safetensors", data)
    with pytest.raises(ArtifactError, match="picture 1 cannot be decoded"):
        bundle.picture(0, 1)
