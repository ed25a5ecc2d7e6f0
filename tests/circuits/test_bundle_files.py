from __future__ import annotations

import errno
import os
import subprocess
import sys

import numpy as np
import pytest

from neurochains.circuits.bundle_files import BundleFolder
from neurochains.errors import ArtifactError

NUMBERS = {"filters": np.arange(6, dtype=np.float32), "places": np.zeros((2, 3), np.int32)}
WANTED = {"filters": ("F32", (6,)), "places": ("I32", (2, None))}


@pytest.fixture
def folder(tmp_path):
    folder = BundleFolder(tmp_path)
    folder.write("sets/00000.safetensors", NUMBERS, {"name": "tiger"})
    return folder


def test_tensors_come_back(folder):
    found = folder.read("sets/00000.safetensors", WANTED)
    assert all(np.array_equal(found[key], value) for key, value in NUMBERS.items())
    assert folder.about("sets/00000.safetensors") == {"name": "tiger"}
    assert [path.name for path in folder.place.rglob("*") if path.is_file()] == ["00000.safetensors"]


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"filters": ("F32", (7,))}, r"filters is F32 \(6,\) where F32 \(7,\) was wanted"),
        ({"filters": ("F16", (6,))}, "filters is F32"),
        ({"filters": ("F32", (6, 1))}, "filters is F32"),
        ({"kernels": ("F16", (6,))}, "kernels is missing"),
    ],
)
def test_other_tensors_than_wanted_are_refused(folder, wanted, reason):
    with pytest.raises(ArtifactError, match=reason):
        folder.read("sets/00000.safetensors", wanted)


def test_a_truncated_file_is_refused(folder):
    path = folder.place / "sets/00000.safetensors"
    whole = path.read_bytes()
    for length in (0, 7, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ArtifactError, match="is truncated or damaged"):
            folder.read("sets/00000.safetensors", WANTED)
        assert folder.about("sets/00000.safetensors") == {}


def test_an_array_larger_than_its_file_is_refused(folder):
    path = folder.place / "sets/00000.safetensors"
    header = b'{"filters":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 24)
    with pytest.raises(ArtifactError, match="is truncated or damaged"):
        folder.read("sets/00000.safetensors", {"filters": ("F32", (10**12,))})


def test_links_are_not_followed(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    os.replace(folder.place / "sets", outside / "sets")
    (folder.place / "sets").symlink_to(outside / "sets")
    with pytest.raises(ArtifactError, match="it is missing"):
        folder.read("sets/00000.safetensors", WANTED)
    (folder.place / "graph.safetensors").symlink_to(outside / "sets/00000.safetensors")
    assert (folder.has("graph.safetensors"), folder.size("graph.safetensors")) == (False, -1)


def test_bytes_are_read_in_part(folder):
    folder.write("a.safetensors", {"pictures": np.arange(9, dtype=np.uint8), "numbers": np.zeros(9)})
    assert folder.read_part("a.safetensors", "pictures", 2, 5) == bytes([2, 3, 4])
    for key, start, end in (
        ("pictures", 5, 5),
        ("pictures", -1, 3),
        ("pictures", 3, 10),
        ("numbers", 0, 1),
        ("x", 0, 1),
    ):
        with pytest.raises(ArtifactError, match="is truncated or damaged"):
            folder.read_part("a.safetensors", key, start, end)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x80"])
def test_a_document_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ArtifactError, match=r"bundle\.json is truncated or damaged"):
        BundleFolder(tmp_path).document()


def test_a_folder_without_a_document_is_no_bundle(tmp_path):
    with pytest.raises(ArtifactError, match=r"holds no bundle: bundle.json is missing"):
        BundleFolder(tmp_path).document()
    with pytest.raises(ArtifactError, match="holds no bundle: there is no such folder"):
        BundleFolder(tmp_path / "nothing").document()


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "No space left to write .*goes on where it was"), (errno.EACCES, "cannot be")],
)
def test_what_was_there_survives_a_failed_write(folder, monkeypatch, number, message):
    def fail(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ArtifactError, match=message):
        folder.write("sets/00000.safetensors", {"filters": np.zeros(1)})
    monkeypatch.undo()
    assert np.array_equal(folder.read("sets/00000.safetensors", WANTED)["filters"], NUMBERS["filters"])
    assert len(list((folder.place / "sets").iterdir())) == 1


def test_what_the_dead_left_is_removed(folder):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    dead = folder.place / "sets" / f".00001.safetensors.ab12.{int(gone.stdout)}.tmp"
    alive = folder.place / f".graph.safetensors.ab12.{os.getppid()}.tmp"
    for path in (dead, alive):
        path.write_bytes(b"half")
    folder.clean()
    assert (dead.exists(), alive.exists()) == (False, True)
