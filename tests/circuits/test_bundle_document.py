from __future__ import annotations

import copy
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.circuits.bundle_document import Document
from neurochains.errors import ArtifactError


def test_a_document_comes_back_as_it_was(bundle):
    values = json.loads(json.dumps(bundle.document.to_json(), allow_nan=False))
    assert Document.from_json(values) == bundle.document


def test_an_endless_receptive_field_is_kept(bundle):
    values = bundle.document.to_json()
    values["layers"][0]["field"] = [[0.0, None, None]] * 2
    field = Document.from_json(values).layers[0].field
    assert field is not None
    assert (field.rows.low, field.rows.high) == (-math.inf, math.inf)
    assert field.box(0, 0) == (0, 0, 16, 16)


def changed(values, path, value):
    values = copy.deepcopy(values)
    inner = values
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return values


HOSTILE = {
    "html in a layer": (("layers", 0, "name"), "<script>alert(1)</script>"),
    "html in a label": (("layers", 0, "label"), "<img>"),
    "html in a block": (("blocks", 0, "name"), "<b>"),
    "a layer twice": (("layers", 1, "name"), "stem.0"),
    "no units": (("layers", 0, "units"), 0),
    "countless units": (("layers", 0, "units"), 2**40),
    "units that are true": (("layers", 0, "units"), True),
    "kernels without end": (("layers", 0, "inputs"), 2**31),
    "groups that do not fit": (("layers", 0, "groups"), 7),
    "a field of text": (("layers", 0, "field"), [["a", 0, 0], [1, 0, 0]]),
    "a map without width": (("layers", 0, "map_size"), [3]),
    "a path": (("files", "../../etc/passwd"), {"bytes": 1, "sha256": "0" * 64}),
    "an absolute path": (("files", "/etc/passwd"), {"bytes": 1, "sha256": "0" * 64}),
    "a negative length": (("files", "graph.safetensors", "bytes"), -1),
    "no digest": (("files", "graph.safetensors", "sha256"), "x"),
    "a label of text": (("sets", 0, "label"), "0"),
    "a name without end": (("sets", 0, "name"), "a" * 10_000),
    "names of images that are none": (("sets", 0, "images"), [1, 2]),
    "digests of other images": (("sets", 0, "digests"), ["0" * 64]),
    "no sets": (("sets",), []),
    "a table of layers": (("layers",), {}),
    "an input without height": (("input",), [3]),
    "a mean too many": (("mean",), [0.0] * 9),
    "settings that are none": (("settings",), None),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_document_is_refused(bundle, what):
    path, value = HOSTILE[what]
    with pytest.raises(
        ArtifactError, match=r"its document is damaged: .*Prepare the bundle again, or take a whole copy"
    ):
        Document.from_json(changed(bundle.document.to_json(), path, value))


@pytest.mark.parametrize("key", ["provenance", "settings", "input", "layers", "sets", "files"])
def test_what_is_missing_is_named(bundle, key):
    values = bundle.document.to_json()
    del values[key]
    with pytest.raises(ArtifactError, match=f"'{key}' is missing"):
        Document.from_json(values)


@pytest.mark.parametrize(
    ("version", "remedy"), [(2, "Update NeuroChains"), (0, "Prepare the bundle again"), ("1", "Prepare the bundle")]
)
def test_another_version_is_refused(bundle, version, remedy):
    with pytest.raises(ArtifactError, match=f"its format version is {version!r}; this NeuroChains reads 1. {remedy}"):
        Document.from_json({**bundle.document.to_json(), "version": version})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
places = st.sampled_from(
    [("layers", 0, "kernel"), ("layers", 0, "field"), ("layers", 0), ("sets", 0), ("files",), ("mean",), ("input",)]
)


@given(json_values)
@settings(max_examples=100, deadline=None)
def test_any_json_is_a_document_or_an_artifact_error(value):
    with pytest.raises(ArtifactError):
        Document.from_json(value)


@given(places, json_values)
@settings(max_examples=200, deadline=None)
def test_any_entry_is_read_or_an_artifact_error(prepared_json, place, value):
    try:
        document = Document.from_json(changed(prepared_json, place, value))
    except ArtifactError:
        return
    json.dumps(document.to_json(), allow_nan=False)


@pytest.fixture(scope="session")
def prepared_json(prepared):
    return json.loads((prepared / "bundle.json").read_text())
