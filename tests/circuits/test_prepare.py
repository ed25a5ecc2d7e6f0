from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import numpy as np
import pytest
import torch

from neurochains.circuits import Bundle, plan, prepare
from neurochains.circuits.bundle_sets import SetWriter
from neurochains.data import Task
from neurochains.errors import ArtifactError, DataError, LayerError, SettingsError
from neurochains.network import load_model

from ..architectures import ARCHITECTURES
from .conftest import NAMES, small_network, small_task


@pytest.fixture
def written(monkeypatch):
    """Return the list of sets that are measured from now on."""
    done, write = [], SetWriter.write

    def watched(self, index, known):
        write(self, index, known)
        done.append(index)

    monkeypatch.setattr(SetWriter, "write", watched)
    return done


class Killed(BaseException):
    """The process is no more."""


def kill_after(monkeypatch, sets: int) -> None:
    """Let a preparation stop dead in the middle of the set after so many."""
    write, measure, done = SetWriter.write, SetWriter.measure, []

    def counted(self, index, known):
        done.append(index)
        if len(done) > sets:
            monkeypatch.setattr(SetWriter, "measure", fail)
        write(self, index, known)

    def fail(self, task):
        raise Killed

    monkeypatch.setattr(SetWriter, "write", counted)
    monkeypatch.setattr(SetWriter, "measure", measure)


def files(place):
    return {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}


def without_time(place):
    return {name: path.read_bytes() for name, path in files(place).items() if name != "bundle.json"}


def test_a_killed_run_goes_on_where_it_was(network, task, prepared, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        kill_after(patch, 2)
        with pytest.raises(Killed):
            prepare(network, task, tmp_path / "b", projection="pca")
    with pytest.raises(ArtifactError, match="is not finished: 2 of 3 sets are there"):
        Bundle.open(tmp_path / "b")
    again, write = [], SetWriter.write
    monkeypatch.setattr(SetWriter, "write", lambda self, i, known: (again.append(i), write(self, i, known)))
    seen = []
    prepare(network, task, tmp_path / "b", projection="pca", announce=seen.append)
    assert (again, seen[0].done) == ([2], 2)
    assert without_time(tmp_path / "b") == without_time(prepared)


def test_a_finished_bundle_is_not_made_again(network, task, copied, written):
    before = {name: path.stat().st_mtime_ns for name, path in files(copied).items()}
    assert len(prepare(network, task, copied, projection="pca").sets) == 3
    assert (written, before) == ([], {name: path.stat().st_mtime_ns for name, path in files(copied).items()})


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_what_is_damaged_is_made_again(network, task, copied, written, prepared, damage):
    path = copied / "sets/00001.safetensors"
    path.write_bytes(path.read_bytes()[:-1]) if damage == "truncated" else path.unlink()
    prepare(network, task, copied, projection="pca").verify()
    assert written == [1]
    assert without_time(copied) == without_time(prepared)


def test_images_that_changed_are_measured_again(network, task, copied, written):
    images = task.images.clone()
    images[task.by_class()[2][0]] += 1
    changed = Task(images, task.labels, NAMES, names=task.names, synsets=task.synsets)
    prepare(network, changed, copied, projection="pca").verify()
    assert written == [2]


def test_nothing_depends_on_the_batch_size(network, task, prepared, tmp_path):
    bundle, wanted = prepare(network, task, tmp_path / "b", projection="pca", batch_size=2), Bundle.open(prepared)
    np.testing.assert_allclose(bundle.values("overall"), wanted.values("overall"), rtol=1e-4)


def test_the_size_is_foreseen(network, task, prepared, tmp_path):
    estimate = plan(network, task, tmp_path / "b", projection="pca").estimate
    assert (estimate.sets, estimate.images, estimate.filters, estimate.kernels, estimate.done) == (3, 12, 48, 344, 0)
    size = sum(path.stat().st_size for path in files(prepared).values())
    assert 0.9 * size < estimate.bytes < 1.25 * size
    assert 0 < estimate.seconds < 60
    assert not (tmp_path / "b").exists()


def test_steps_are_reported(network, task, tmp_path):
    steps = []
    prepare(network, task, tmp_path / "b", projection="pca", progress=steps.append)
    assert [(step.step, step.steps) for step in steps if step.stage == "sets"] == [(0, 3), (1, 3), (2, 3)]
    assert steps[0].seconds_left > 0
    assert {step.stage for step in steps} == {"sets", "overall", "classwise projection", "grid projection"}


def test_without_kernels_a_bundle_is_small(network, task, tmp_path, prepared):
    bundle = prepare(network, task, tmp_path / "b", projection="pca", kernels=False)
    assert not bundle.has_kernels
    assert bundle.filters("tiger").keys() == Bundle.open(prepared).filters().keys()
    with pytest.raises(SettingsError, match="holds no importance of kernels: it was prepared with --no-kernels"):
        bundle.kernels()


def test_options_are_kept_and_change_the_numbers(network, task, tmp_path):
    options = {"target": "logit:2", "criterion": "snip", "reduce": "signed", "patches": 2, "projection": "pca"}
    bundle = prepare(network, task, tmp_path / "b", **options)
    assert {key: bundle.settings[key] for key in options} == options
    assert len(bundle.patches(bundle.filter("a.0[0]"))) == 2
    assert min(values.min() for values in bundle.filters().values()) < 0


def test_a_target_inside_leaves_out_what_lies_behind(network, task, tmp_path):
    bundle = prepare(network, task, tmp_path / "b", target="a.0[3]", projection="pca")
    assert [layer.name for layer in bundle.spans.layers] == ["stem.0", "a.0"]
    assert np.flatnonzero(bundle.filters()["a.0"]).tolist() == [3]
    with pytest.raises(LayerError, match=r"The bundle holds no numbers of c\.0"):
        bundle.weights("c.0")


def test_without_labels_the_networks_answers_count(network, task, tmp_path):
    with torch.no_grad():
        answers = network(task.images).argmax(-1)
    bundle = prepare(network, Task(task.images), tmp_path / "a", projection="pca")
    wanted = prepare(network, Task(task.images, answers), tmp_path / "b", projection="pca")
    assert [known.name for known in bundle.sets] == ["images"]
    np.testing.assert_allclose(bundle.values("overall"), wanted.values("overall"), rtol=1e-4)


@pytest.mark.parametrize("kind", ["grouped", "depthwise", "dense", "shuffled", "squeezed"])
def test_any_network_can_be_prepared(kind, tmp_path):
    network = small_network(kind)
    bundle = prepare(network, small_task(4), tmp_path / "b", projection="pca")
    assert all(np.isfinite(bundle.projection(layer.name)).all() for layer in bundle.spans.layers)
    assert all(bundle.sources(layer.name) == network.sources(layer.name) for layer in bundle.spans.layers)


def test_the_model_is_left_as_it_was(task, tmp_path):
    torch.manual_seed(0)
    model = ARCHITECTURES["residual"]().eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    prepare(model, task, tmp_path / "b", projection="pca")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(value.grad is None and value.requires_grad for value in model.parameters())
    assert not model.training


def test_pixels_become_inputs_again(tmp_path):
    bundle = prepare("shapes:vgg", Task.shapes(2, classes=[0, 5]), tmp_path / "b", projection="pca")
    task = Task.shapes(2, classes=[0, 5])
    mean, std = (np.array(values)[:, None, None] for values in (bundle.document.mean, bundle.document.std))
    np.testing.assert_allclose((bundle.picture(1, 0) / 255 - mean) / std, task.images[1], atol=1e-5)


def test_a_place_that_is_taken_is_left_alone(network, task, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds something else than a bundle and is left alone"):
        prepare(network, task, tmp_path, force=True)
    with pytest.raises(ArtifactError, match="is no folder of its own"):
        prepare(network, task, tmp_path / "notes.txt")


def test_other_settings_and_models_need_force(network, task, copied, tmp_path):
    with pytest.raises(
        ArtifactError, match=r"was made with another criterion, patches. Choose another folder, or replac"
    ):
        prepare(network, task, copied, projection="pca", criterion="snip", patches=3)
    with pytest.raises(ArtifactError, match="holds a bundle of a model with other weights"):
        prepare(small_network("dilated"), task, copied, projection="pca")
    bundle = prepare(network, task, copied, projection="pca", criterion="snip", force=True)
    assert bundle.settings["criterion"] == "snip"
    bundle.verify()


def test_a_full_disk_is_seen_beforehand(network, task, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(ArtifactError, match=r"takes about 0 MB more, but .* has only 0 MB left. Make room"):
        prepare(network, task, tmp_path / "b")
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patches": 0}, "patches must be 1 or more; got 0"),
        ({"projection": "mds"}, "A projection is one of auto, umap, pca"),
        ({"criterion": "snap"}, "There is no criterion 'snap'. Did you mean snip"),
        ({"target": "logit:99"}, "99"),
    ],
)
def test_wrong_options_write_nothing(network, task, tmp_path, options, message):
    with pytest.raises(SettingsError, match=message):
        prepare(network, task, tmp_path / "b", **options)
    assert not (tmp_path / "b").exists()


def test_images_of_another_size_are_refused(network, tmp_path):
    with pytest.raises(DataError, match=r"traced for inputs \(B, 3, 16, 16\)"):
        prepare(network, Task(torch.zeros(2, 3, 8, 8), [0, 1]), tmp_path / "b")


SCRIPT = """
import sys, torch
from neurochains.circuits import prepare
from neurochains.data import Task
prepare("shapes:vgg", Task.shapes(64), sys.argv[1], projection="pca")
"""


@pytest.mark.slow
def test_a_run_killed_without_warning_goes_on(tmp_path, written):
    place = tmp_path / "b"
    run = subprocess.Popen([sys.executable, "-c", SCRIPT, str(place)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while run.poll() is None and len(list(place.glob("sets/*.safetensors"))) < 3:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    there = len(list(place.glob("sets/*.safetensors")))
    bundle = prepare(load_model("shapes:vgg"), Task.shapes(64), place, projection="pca")
    assert 3 <= there < 16
    assert len(written) == 16 - there
    bundle.verify()
    assert list(place.rglob("*.tmp")) == []
