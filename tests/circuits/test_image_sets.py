from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from neurochains.circuits.image_sets import image_sets
from neurochains.data import Task
from neurochains.errors import ClassNameError, DataError, ImageError
from neurochains.network.info import ModelInfo
from neurochains.preprocess import Preprocess

from .conftest import NAMES, SYNSETS

HOW = Preprocess((8, 8), (0.5,) * 3, (0.5,) * 3)


class Model:
    """Knows what the zoo knows of a model."""

    neurochains_info = ModelInfo("own", HOW, NAMES, SYNSETS)


@pytest.fixture
def folder(tmp_path):
    """Return images in folders called by a synonym, by a synset and by something else."""
    dice = np.random.default_rng(0)
    for name in ("tabby cat", "n00000002"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = dice.integers(0, 255, (9, 9, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return tmp_path


def test_a_folder_is_described_without_reading_it(folder, monkeypatch):
    monkeypatch.setattr("neurochains.data.reading.read_image", None)
    sets = image_sets(folder, model=Model(), per_class=2)
    assert [(s.name, s.label, s.synset) for s in sets] == [
        ("tiger", 1, "n00000002"),
        ("tabby, tabby cat", 0, "n00000001"),
    ]
    assert all(len(s.images) == 2 for s in sets)


def test_a_set_is_the_task_of_its_class(folder):
    (known,) = image_sets(folder, model=Model(), classes=["tabby"], per_class=2, seed=4)
    wanted = Task.from_folder(folder, model=Model(), classes=["tabby"], per_class=2, seed=4)
    task = known.load()
    assert torch.equal(task.images, wanted.images)
    assert torch.equal(task.labels, wanted.labels)
    assert (task.names, task.digests, task.class_names) == (wanted.names, wanted.digests, wanted.class_names)
    assert (known.images, known.digests()) == (wanted.names, wanted.digests)


def test_a_folder_that_is_no_class_is_a_set_without_label(folder, caplog):
    shutil.copytree(folder / "tabby cat", folder / "textures")
    sets = {s.name: s for s in image_sets(folder, model=Model())}
    assert {name: s.label for name, s in sets.items()} == {"tiger": 1, "tabby, tabby cat": 0, "textures": -1}
    assert sets["textures"].load().labels is None
    assert sets["tiger"].load().label_name(1) == "tiger"
    assert "textures: no classes of the network, so these are sets of images without a label" in caplog.text
    with pytest.raises(ClassNameError, match="No class is called 'textured'"):
        image_sets(folder, model=Model(), classes=["textured"])


def test_without_known_classes_folders_are_outputs(folder):
    sets = image_sets(folder, preprocess=HOW)
    assert [(s.name, s.label) for s in sets] == [("n00000002", 0), ("tabby cat", 1)]
    assert sets[1].load().class_names == ("n00000002", "tabby cat")


def test_a_flat_folder_without_names_is_one_set(folder, tmp_path):
    sets = image_sets(folder / "tabby cat", model=Model())
    assert [(s.name, s.label, len(s.images)) for s in sets] == [("images", -1, 3)]


def test_a_task_is_cut_by_label(task):
    sets = image_sets(task)
    assert [s.name for s in sets] == list(NAMES[:3])
    assert sets[0].images == tuple(name for name in task.names if name.startswith("set0/"))
    assert sets[1].digests() == sets[1].load().digests
    plain = image_sets(Task(task.images, None))
    assert [(s.name, s.label, len(s.images)) for s in plain] == [("images", -1, len(task))]
    assert [s.name for s in image_sets(Task(task.images, task.labels))] == ["class 0", "class 1", "class 2"]


def test_what_is_wrong_with_a_folder_is_said(folder, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        image_sets(tmp_path / "nothing", model=Model())
    (folder / "n00000002" / "0.png").write_bytes(b"")
    with pytest.raises(ImageError, match="is empty"):
        image_sets(folder, model=Model(), classes=["tiger"])[0].load()
