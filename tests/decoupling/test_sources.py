from __future__ import annotations

import pytest
import torch
from tests.cli.conftest import write_shapes

from neurochains.data import Task, shapes
from neurochains.decoupling.augment import CropFlip
from neurochains.decoupling.sources import FolderImages, TensorImages, as_source, check_apart, loader, split
from neurochains.errors import DataError, SettingsError
from neurochains.network import load_model


def pairs(count=10):
    return torch.randn(count, 3, 4, 4), torch.arange(count) % 3


def test_tensors_tasks_and_data_sets_give_the_same_images():
    images, labels = pairs()
    items = list(zip(images, labels, strict=True))
    for value in ((images, labels), Task(images, labels), items):
        source = as_source(value)
        found, classes = source.read([3, 1])
        assert len(source) == 10
        assert torch.equal(found, images[[3, 1]])
        assert classes.tolist() == [0, 1]


def test_pixels_are_prepared():
    drawn = shapes.batch(3)
    source = as_source((torch.from_numpy(drawn.pixels), torch.from_numpy(drawn.labels)), model=load_model("shapes:vgg"))
    assert torch.equal(source.read([0])[0], shapes.PREPROCESS.normalise(torch.from_numpy(drawn.pixels[:1])))


def test_a_folder_is_read_as_a_task_reads_it(tmp_path):
    model, folder = load_model("shapes:vgg"), write_shapes(tmp_path / "photos")
    source, task = as_source(folder, model=model), Task.from_folder(folder, model=model)
    images, labels = source.read(range(len(source)))
    assert isinstance(source, FolderImages)
    assert torch.equal(images, task.images)
    assert torch.equal(labels, task.labels)


def test_a_split_parts_the_images():
    source = as_source(pairs(20))
    rest, part = split(source, 0.25, seed=1)
    assert (len(rest), len(part)) == (15, 5)
    both = torch.cat([rest.read(range(15))[0], part.read(range(5))[0]]).flatten(1)
    assert len(both.unique(dim=0)) == 20
    assert torch.equal(split(source, 0.25, seed=1)[1].read([0])[0], part.read([0])[0])


def test_batches_are_shuffled_by_epoch_and_shared_among_processes():
    source = as_source(pairs(11))

    def rows(epoch, rank=0, ranks=1, seed=0):
        made = loader(source, 4, seed=seed, epoch=epoch, rank=rank, ranks=ranks)
        return [index for part in made.sampler for index in part]

    assert sorted(rows(0)) == list(range(11))
    assert rows(0) != rows(1)
    assert rows(1) == rows(1)
    halves = rows(0, 0, 2), rows(0, 1, 2)
    assert len(halves[0]) == len(halves[1]) == 5
    assert not set(halves[0]) & set(halves[1])
    assert rows(0, seed=None) == list(range(11))
    unshuffled = [len(loader(source, 4, seed=None, rank=rank, ranks=2)) for rank in (0, 1)]
    assert unshuffled == [2, 2]


def test_crops_and_mirrors_keep_the_pixels():
    images = torch.arange(1.0, 2 * 3 * 6 * 6 + 1).view(2, 3, 6, 6).repeat(20, 1, 1, 1)
    changed = CropFlip(padding=1)(images)
    assert changed.shape == images.shape
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    for before, after in zip(padded, changed, strict=True):
        crops = [before[:, top : top + 6, left : left + 6] for top in range(3) for left in range(3)]
        assert any(torch.equal(after, crop) or torch.equal(after, crop.flip(-1)) for crop in crops)
    assert len(changed.flatten(1).unique(dim=0)) > 10
    assert torch.equal(CropFlip(padding=0, flip=False)(images), images)


def test_messages():
    images, labels = pairs()
    with pytest.raises(DataError, match="3 of the images for validation are among the training images"):
        check_apart(TensorImages(images, labels), TensorImages(images[:3], labels[:3]))
    with pytest.raises(DataError, match="Training needs a label for each image, and the task has none"):
        as_source(Task(images))
    with pytest.raises(DataError, match=r"needs labels .* beside the images; got NoneType"):
        as_source((images, None))
    with pytest.raises(DataError, match="but got int"):
        as_source(3)
    with pytest.raises(DataError, match="with a label each"):
        as_source((images, labels[:4]))
    with pytest.raises(DataError, match="must be prepared for the network"):
        TensorImages((images * 10).to(torch.uint8), labels)
    with pytest.raises(SettingsError, match=r"leave images on both sides of 10; got 1\.5"):
        split(as_source((images, labels)), 1.5, seed=0)
    with pytest.raises(SettingsError, match="padding must be 0"):
        CropFlip(padding=-1)
