from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from neurochains.chains.storage import FORMAT_VERSION, read_result, write_result
from neurochains.errors import ArtifactError

TENSORS = {"chain": {"score/a": torch.tensor([0.0, 1.5])}, "task": {"images": torch.rand(2, 3, 4, 4)}}
OTHER = {"chain": {"score/a": torch.tensor([2.0, 0.0])}, "task": {"images": torch.rand(1, 3, 4, 4)}}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_read_is_what_was_written(tmp_path):
    folder = write_result(tmp_path / "runs" / "a", {"settings": {"seed": 3}}, TENSORS)
    assert folder == tmp_path / "runs" / "a"
    assert names(folder) == ["chain.json", "chain.safetensors", "task.safetensors"]
    assert names(tmp_path / "runs") == ["a"]
    document, tensors = read_result(folder)
    assert document["settings"] == {"seed": 3}
    assert (document["format"], document["version"]) == ("neurochains.chain", FORMAT_VERSION)
    for name, values in TENSORS.items():
        for key, value in values.items():
            assert tensors[name][key].equal(value)


def test_numbers_that_are_not_finite_become_null(tmp_path):
    folder = write_result(tmp_path / "a", {"metrics": {"kl": float("nan"), "q": [float("inf"), 1.0]}}, {})
    assert '"kl": null' in (folder / "chain.json").read_text()
    assert read_result(folder)[0]["metrics"] == {"kl": None, "q": [None, 1.0]}


def test_tensors_that_share_memory_and_views_are_kept(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    folder = write_result(tmp_path / "a", {}, {"task": {"x": whole, "same": whole, "turned": whole.T}})
    assert read_result(folder)[1]["task"]["turned"].equal(whole.T)


def test_a_place_that_is_taken_needs_force(tmp_path):
    folder = write_result(tmp_path / "a", {"settings": 1}, TENSORS)
    with pytest.raises(ArtifactError, match=r"a exists already.*force=True \(--force\)"):
        write_result(folder, {"settings": 2}, OTHER)
    assert read_result(folder)[0]["settings"] == 1


def test_force_replaces_a_result_and_nothing_else(tmp_path):
    folder = write_result(tmp_path / "a", {"settings": 1}, TENSORS)
    (folder / "notes.txt").write_text("mine")
    (folder / "weights.safetensors").write_text("mine too")
    for settings, tensors in ((2, OTHER), (3, TENSORS)):
        write_result(folder, {"settings": settings}, tensors, force=True)
        document, read = read_result(folder)
        assert document["settings"] == settings
        assert read["chain"]["score/a"].equal(tensors["chain"]["score/a"])
        assert len(names(folder)) == 5
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "weights.safetensors").read_text() == "mine too"
    assert names(tmp_path) == ["a"]


def test_force_makes_a_new_result_too_and_fills_an_empty_folder(tmp_path):
    (tmp_path / "b").mkdir()
    for name in "ab":
        assert read_result(write_result(tmp_path / name, {"settings": 1}, TENSORS, force=True))[0]["settings"] == 1


def test_what_is_no_result_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("a cat")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    with pytest.raises(ArtifactError, match="photos holds something else than a chain"):
        write_result(tmp_path / "photos", {}, TENSORS, force=True)
    for name in ("file", "link"):
        with pytest.raises(ArtifactError, match=f"{name} is no folder"):
            write_result(tmp_path / name, {}, TENSORS, force=True)
    assert names(tmp_path) == ["file", "link", "photos"]
    assert names(tmp_path / "photos") == ["cat.jpg"]


@pytest.mark.parametrize("taken", [False, True], ids=["new", "replaced"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_without_space_left_nothing_changes(tmp_path, monkeypatch, call, taken):
    if taken:
        write_result(tmp_path / "a", {"settings": 1}, TENSORS)
    before = names(tmp_path)
    calls = iter(range(1, 100))

    def full(handle: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"No space left to save .*a: it takes about 0.0 MB"):
        write_result(tmp_path / "a", {"settings": 2}, OTHER, force=True)
    assert names(tmp_path) == before
    if taken:
        assert read_result(tmp_path / "a")[0]["settings"] == 1


def test_a_parent_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written: Not a directory"):
        write_result(tmp_path / "file" / "a", {}, TENSORS)


KILLED = """
    import itertools, os, signal, sys
    from pathlib import Path

    import torch
    from neurochains.chains.storage import write_result

    def kill_at(step):
        calls = itertools.count()

        def counted(real):
            def call(*args):
                if next(calls) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args)
            return call

        for name in ("fsync", "rename", "replace", "unlink"):
            setattr(os, name, counted(getattr(os, name)))

    OTHER = {"chain": {"x": torch.zeros(2)}, "task": {"y": torch.ones(3)}}

    for step in itertools.count():
        folder = Path(sys.argv[1], str(step))
        write_result(folder, {"settings": 1}, {"chain": {"x": torch.ones(2)}, "task": {"y": torch.ones(2)}})
        child = os.fork()
        if not child:
            kill_at(step)
            write_result(folder, {"settings": 2}, OTHER, force=True)
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
"""


@pytest.mark.skipif(os.name != "posix", reason="kill -9 is of POSIX")
def test_killed_at_any_moment_there_is_the_old_result_or_the_new_one(tmp_path):
    subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path)], check=True, timeout=120)
    folders = sorted((path for path in tmp_path.iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    settings = []
    for folder in folders:
        document, tensors = read_result(folder)
        settings.append(document["settings"])
        assert tensors["chain"]["x"].tolist() == ([1.0, 1.0] if document["settings"] == 1 else [0.0, 0.0])
    assert settings == sorted(settings)
    assert settings.count(1) > 4
    assert settings.count(2) > 1
    for folder in folders:
        write_result(folder, {"settings": 3}, OTHER, force=True)
        assert read_result(folder)[0]["settings"] == 3
        assert len(names(folder)) == 3
    assert not list(tmp_path.glob(".*"))


def test_what_a_dead_process_left_is_cleaned_up_and_what_a_live_one_has_is_not(tmp_path):
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True
    )
    dead, live, strange = (f".a.{name}.tmp" for name in (gone.stdout.strip(), os.getppid(), "mine"))
    for name in (dead, live, strange):
        (tmp_path / name).mkdir()
    write_result(tmp_path / "a", {}, TENSORS)
    assert names(tmp_path) == sorted([live, strange, "a"])


def test_ctrl_c_leaves_nothing_behind(tmp_path, monkeypatch):
    def stopped(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_result(tmp_path / "a", {}, TENSORS)
    assert names(tmp_path) == []


def test_a_place_without_a_result_says_so(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(ArtifactError, match=r"photos holds no chain: chain.json is missing"):
        read_result(tmp_path / "photos")
    with pytest.raises(ArtifactError, match=r"nowhere holds no chain: there is no such folder"):
        read_result(tmp_path / "nowhere")


@pytest.mark.parametrize("file", ["chain.json", "chain.safetensors", "task.safetensors"])
def test_a_truncated_file_is_named(tmp_path, file):
    folder = write_result(tmp_path / "a", {}, TENSORS)
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(ArtifactError, match=f"{file} is truncated or damaged"):
        read_result(folder)


def test_a_changed_bit_is_seen(tmp_path):
    folder = write_result(tmp_path / "a", {}, TENSORS)
    data = bytearray((folder / "task.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "task.safetensors").write_bytes(data)
    with pytest.raises(ArtifactError, match=r"task.safetensors is truncated or damaged: it is not what was saved"):
        read_result(folder)


def test_a_missing_file_is_named(tmp_path):
    folder = write_result(tmp_path / "a", {}, TENSORS)
    (folder / "task.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"task.safetensors is truncated or damaged: No such file"):
        read_result(folder)


def changed(folder: Path, **changes: object) -> Path:
    path = folder / "chain.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_a_newer_format_asks_for_an_update(tmp_path):
    folder = changed(write_result(tmp_path / "a", {}, TENSORS), version=FORMAT_VERSION + 1)
    with pytest.raises(
        ArtifactError, match=f"version {FORMAT_VERSION + 1}; this NeuroChains reads up to {FORMAT_VERSION}"
    ):
        read_result(folder)


@pytest.mark.parametrize("text", ["[]", '{"format": "another"}'])
def test_other_documents_are_no_results(tmp_path, text):
    (tmp_path / "chain.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"chain.json is no chain of NeuroChains"):
        read_result(tmp_path)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "chain.pt", "a/b.safetensors"])
def test_only_files_of_the_folder_itself_are_read(tmp_path, name):
    folder = write_result(tmp_path / "a", {}, TENSORS)
    changed(folder, files={"chain": {"name": name, "sha256": ""}})
    with pytest.raises(ArtifactError, match="it names no tensor files"):
        read_result(folder)
