from __future__ import annotations

import errno
import os

import pytest

from neurochains.cli.places import check_file, check_folder
from neurochains.errors import ArtifactError


def test_a_new_place_is_free_and_left_untouched(tmp_path):
    check_folder(tmp_path / "a" / "b", force=False)
    check_file(tmp_path / "a" / "b.html", force=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_needs_force(tmp_path, saved):
    with pytest.raises(ArtifactError, match=r"saved exists already\. Choose another --out, or replace it with --force"):
        check_folder(saved, force=False)
    check_folder(saved, force=True)


def test_force_replaces_chains_and_empty_folders_only(tmp_path):
    (tmp_path / "empty").mkdir()
    check_folder(tmp_path / "empty", force=True)
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ArtifactError, match="holds something else than a chain and is left alone"):
        check_folder(tmp_path, force=True)
    with pytest.raises(ArtifactError, match=r"thesis\.tex is no folder, so even --force does not replace it"):
        check_folder(tmp_path / "thesis.tex", force=True)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    with pytest.raises(ArtifactError, match="link is no folder"):
        check_folder(tmp_path / "link", force=True)


def test_a_file_that_exists_needs_force(tmp_path):
    file = tmp_path / "small.onnx"
    file.touch()
    with pytest.raises(ArtifactError, match=r"small\.onnx exists already\. Choose another name, or replace it"):
        check_file(file, force=False)
    check_file(file, force=True)
    with pytest.raises(ArtifactError, match=r"is a folder; the name of a file is wanted, such as .*result"):
        check_file(tmp_path, force=True)


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArtifactError, match=r"file/run cannot be made: .*file is no folder"):
        check_folder(tmp_path / "file" / "run", force=False)


def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    with pytest.raises(ArtifactError, match=r"run cannot be written: .*: Permission denied\. Choose another place"):
        check_folder(tmp_path / "run", force=False)
