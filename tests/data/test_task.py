from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from neurochains.data import Task, shapes
from neurochains.errors import ClassNameError, DataError, ImageError, SettingsError
from neurochains.preprocess import Preprocess

SMALL = Preprocess(size=(4, 4), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), resize=None)
NAMES = ("cat, house cat", "dog", "fox")
SYNSETS = ("n00000000", "n00000001", "n00000002")
COLOURS = {"cat": (255, 0, 0), "dog": (0, 255, 0), "fox": (0, 0, 255)}
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def model(**info) -> SimpleNamespace:
    fields = {"preprocess": SMALL, "class_names": NAMES, "synsets": SYNSETS, **info}
    return SimpleNamespace(neurochains_info=SimpleNamespace(**fields))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return six pictures of each of three classes, in a colour for each class."""
    root = tmp_path_factory.mktemp("animals")
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for index in range(6):
            Image.new("RGB", (6 + index, 5), colour).save(root / name / f"{index}.png")
    return root


@pytest.fixture
def task():
    images = torch.randn(4, 3, 5, 6)
    return Task(images, [1, 0, -1, 1], NAMES, names=["p", "q", "r", "s"], synsets=SYNSETS)


def test_a_task_of_tensors_fills_in_the_rest():
    images = torch.randn(2, 3, 4, 5)
    task = Task(images)
    assert len(task) == 2
    assert torch.equal(task.images, images)
    assert (task.labels, task.class_names, task.synsets, task.held_out, task.classes) == (None, None, None, None, ())
    assert task.names == ("0000", "0001")
    assert (task.pixels.dtype, task.pixels.shape) == (torch.uint8, images.shape)
    assert (int(task.pixels.min()), int(task.pixels.max())) == (0, 255)
    assert task.digests == tuple(hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images)


def test_a_task_cannot_be_changed(task):
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.labels = None


def test_a_task_leaves_the_images_of_the_caller_alone():
    images = torch.randn(1, 3, 4, 4, requires_grad=True)
    task = Task(images)
    assert images.requires_grad
    assert not task.images.requires_grad


@pytest.mark.parametrize("field", ["names", "digests"])
def test_there_is_one_name_and_digest_for_each_image(field):
    with pytest.raises(DataError, match=f"one of {field} for each of the 2 images, but got 1"):
        Task(torch.zeros(2, 3, 4, 4), **{field: ["a"]})
    with pytest.raises(DataError, match="but got 0"):
        Task(torch.zeros(2, 3, 4, 4), **{field: []})


def test_images_that_are_not_finite_are_named():
    images = torch.zeros(2, 3, 4, 4)
    images[1, 2, 3, 3] = torch.nan
    with pytest.raises(DataError, match=r"NaN or infinity: 1 \(b\)"):
        Task(images, names=["a", "b"])


def test_labels_may_be_names():
    task = Task(torch.zeros(2, 3, 4, 4), ["fox", "house_cat"], NAMES)
    assert task.labels is not None
    assert task.labels.tolist() == [2, 0]


def test_held_out_images_have_the_same_shape(task):
    with pytest.raises(DataError, match=r"held-out images of \(3, 9, 9\), like the others, but got \(3, 5, 6\)"):
        Task(torch.zeros(1, 3, 9, 9), held_out=task)


def test_classes_come_in_order_of_appearance(task):
    assert task.classes == (1, 0)
    assert task.by_class() == {1: (0, 3), 0: (1,)}


def test_outputs_are_called_by_their_first_name(task):
    assert [task.label_name(index) for index in (0, 2, -1)] == ["cat", "fox", "unknown"]
    assert Task(task.images).label_name(7) == "class 7"
    assert Task(task.images, synsets=SYNSETS).label_name(1) == "n00000001"
    with pytest.raises(DataError, match="below 3, the number of class names, not 3"):
        task.label_name(3)


def test_the_representation_says_what_there_is(task):
    assert repr(task) == "Task(4 images of 3 x 5 x 6: 2 dog, 1 cat)"
    assert repr(Task(task.images, held_out=task)) == "Task(4 images of 3 x 5 x 6, 4 held out)"


def test_a_subset_keeps_what_belongs_together(task):
    part = Task(task.images, [1, 0, -1, 1], NAMES, names=task.names, held_out=task).subset([3, 1])
    assert torch.equal(part.images, task.images[[3, 1]])
    assert torch.equal(part.pixels, task.pixels[[3, 1]])
    assert part.labels is not None
    assert part.labels.tolist() == [1, 0]
    assert part.names == ("s", "q")
    assert part.digests == (task.digests[3], task.digests[1])
    assert part.held_out is task
    assert part.class_names == NAMES


def test_a_subset_of_one_image_without_label_has_none(task):
    assert task.subset(torch.tensor([2])).labels is None


def test_a_subset_of_nothing_is_refused(task):
    with pytest.raises(DataError, match="there are none"):
        task.subset([])


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_cuda)])
def test_moving_a_task_moves_images_labels_and_what_is_held_out(task, device):
    moved = Task(task.images, [0, 1, 1, 1], pixels=task.pixels, held_out=task).to(device)
    assert torch.equal(moved.images.cpu(), task.images)
    assert moved.labels is not None
    assert moved.held_out is not None
    tensors = (moved.images, moved.labels, moved.pixels, moved.held_out.images, moved.subset([1]).images)
    assert [tensor.device.type for tensor in tensors] == [device, device, "cpu", device, device]
    assert moved.digests == Task(moved.images).digests == task.digests
    assert Task(moved.images).pixels.device.type == "cpu"


def test_a_task_without_labels_and_names(task):
    plain = Task(task.images, [0, 1, 1, 1], NAMES, held_out=task).unlabelled()
    assert (plain.labels, plain.class_names, plain.synsets) == (None, None, None)
    assert plain.held_out is not None
    assert plain.held_out.labels is None
    assert plain.names == ("0000", "0001", "0002", "0003")


def test_outputs_are_checked_against_labels_and_names(task):
    task.check_outputs(3)
    Task(task.images).check_outputs(1)
    with pytest.raises(DataError, match=r"labels below 1, the number of outputs of the network, but 1 is among"):
        Task(task.images, [1, 0, 0, 0]).check_outputs(1)
    with pytest.raises(DataError, match=r"each of the 10 outputs of the network, but the task has 3\. .*unlabelled"):
        task.check_outputs(10)
    with pytest.raises(DataError, match="labels below 1"):
        Task(task.images, held_out=Task(task.images, [0, 1, 1, 1])).check_outputs(1)


def test_provenance_is_json_of_what_is_used(task):
    whole = Task(task.images, [1, 0, -1, 1], NAMES, names=task.names, synsets=SYNSETS, held_out=task)
    data = json.loads(json.dumps(whole.to_json()))
    assert data["shape"] == [4, 3, 5, 6]
    assert data["names"] == ["p", "q", "r", "s"]
    assert data["labels"] == [1, 0, -1, 1]
    assert data["class_names"] == {"1": "dog", "0": "cat, house cat"}
    assert data["synsets"] == {"1": "n00000001", "0": "n00000000"}
    assert data["held_out"]["digests"] == list(task.digests)
    assert Task(task.images).to_json()["labels"] is None


def test_a_folder_becomes_a_task(folder):
    task = Task.from_folder(folder, classes=["fox", "house cat"], per_class=2, held_out=1, model=model())
    assert task.labels is not None
    assert task.labels.tolist() == [2, 2, 0, 0]
    assert (task.class_names, task.synsets) == (NAMES, SYNSETS)
    assert task.pixels[:, :, 0, 0].tolist() == [[0, 0, 255]] * 2 + [[255, 0, 0]] * 2
    assert torch.equal(task.images, SMALL.normalise(task.pixels))
    assert all(name.startswith(("fox/", "cat/")) for name in task.names)
    digest = hashlib.sha256((folder / task.names[0]).read_bytes()).hexdigest()
    assert task.digests[0] == digest
    assert task.held_out is not None
    assert task.held_out.classes == (2, 0)
    assert not set(task.held_out.names) & set(task.names)


def test_the_same_seed_reads_the_same_folder_alike(folder):
    first, again = (Task.from_folder(folder, per_class=3, seed=4, model=model()) for _ in range(2))
    assert first.names == again.names
    assert torch.equal(first.images, again.images)


def test_nothing_is_held_out_unless_asked_for(folder):
    assert Task.from_folder(folder, model=model()).held_out is None


def test_a_folder_for_a_network_without_names(folder):
    task = Task.from_folder(folder, classes=["fox"], preprocess=SMALL)
    assert task.classes == (2,)
    assert task.class_names == ("cat", "dog", "fox")
    task.check_outputs(3)
    with pytest.raises(DataError, match=r"each of the 1000 outputs"):
        task.check_outputs(1000)


def test_names_of_outputs_can_be_given(folder):
    task = Task.from_folder(folder, classes=["dog"], preprocess=SMALL, class_names=["fox", "dog", "cat", "cow"])
    assert task.classes == (1,)


def test_a_flat_folder_without_names_has_no_labels(folder):
    task = Task.from_folder(folder / "cat", model=model(), per_class=2)
    assert (len(task), task.labels) == (2, None)


def test_one_image_is_a_task(folder):
    assert len(Task.from_folder(folder, classes="dog", per_class=1, model=model())) == 1


def test_a_folder_needs_preprocessing(folder):
    with pytest.raises(SettingsError, match=r"Pass preprocess=nc\.Preprocess"):
        Task.from_folder(folder, model=torch.nn.ReLU())


def test_a_class_that_the_folder_lacks_is_suggested(folder):
    with pytest.raises(ClassNameError, match="Did you mean dog"):
        Task.from_folder(folder, classes=["dogs"], model=model())


def test_a_corrupt_file_among_good_ones_is_named(tmp_path):
    Image.effect_noise((50, 50), 60).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:600])
    with pytest.raises(ImageError, match=r"b\.png is a corrupt or truncated image"):
        Task.from_folder(tmp_path, preprocess=SMALL)


def test_files_become_a_task_in_their_order(folder):
    paths = [folder / "fox" / "0.png", str(folder / "cat" / "1.png")]
    task = Task.from_files(paths, labels=["fox", 0], model=model())
    assert task.labels is not None
    assert task.labels.tolist() == [2, 0]
    assert task.names == ("fox/0.png", "cat/1.png")
    assert task.pixels[:, :, 0, 0].tolist() == [[0, 0, 255], [255, 0, 0]]


def test_one_file_may_be_a_path(folder):
    task = Task.from_files(folder / "fox" / "0.png", preprocess=SMALL)
    assert (task.names, task.labels) == (("0.png",), None)


def test_no_files_are_refused():
    with pytest.raises(DataError, match="at least one image file"):
        Task.from_files([], preprocess=SMALL)


def test_files_keep_what_is_held_out(folder, task):
    held = Task.from_files([folder / "fox" / "0.png"], preprocess=SMALL)
    assert Task.from_files([folder / "fox" / "1.png"], preprocess=SMALL, held_out=held).held_out is held


def test_arrays_become_a_task():
    arrays = np.zeros((2, 6, 5, 3), dtype=np.uint8)
    arrays[1] = 255
    task = Task.from_arrays(arrays, labels=["dog", "cat"], names=["x", "y"], model=model())
    assert task.images[:, 0, 0, 0].tolist() == [-1.0, 1.0]
    assert task.labels is not None
    assert task.labels.tolist() == [1, 0]
    assert task.names == ("x", "y")


def test_shapes_become_a_task():
    task = Task.shapes(5, seed=3, split="val", classes=[shapes.CLASSES[2], 7])
    drawn = shapes.batch(5, seed=3, split="val", classes=[2, 7])
    assert task.class_names == shapes.CLASSES
    assert task.labels is not None
    assert task.labels.tolist() == [2, 7, 2, 7, 2]
    assert np.array_equal(task.pixels.numpy(), drawn.pixels)
    assert torch.equal(task.images, shapes.PREPROCESS.normalise(task.pixels))
    assert len(set(task.names)) == 5
    assert Task.shapes(5, 3, "val", classes=[2, 7]).names == task.names


def test_what_is_a_task_already_stays_as_it_is(task):
    assert Task.of(task) is task


def test_float_images_get_the_names_and_true_pixels_of_their_model():
    pixels = torch.randint(50, 90, (2, 3, 4, 4), dtype=torch.uint8)
    task = Task.of(SMALL.normalise(pixels), model=model())
    assert torch.equal(task.pixels, pixels)
    assert (task.class_names, task.synsets, task.labels) == (NAMES, SYNSETS, None)
    assert torch.equal(Task.of(SMALL.normalise(pixels).numpy()).images, task.images)


def test_float_images_with_other_channels_than_the_model_prepares_keep_derived_pixels():
    task = Task.of(torch.rand(1, 2, 4, 4), model=model())
    assert int(task.pixels.max()) == 255


def test_an_array_of_pixels_is_prepared():
    assert torch.equal(Task.of(np.zeros((1, 9, 9, 3), np.uint8), model=model()).images, torch.full((1, 3, 4, 4), -1.0))


def test_other_things_are_no_task():
    with pytest.raises(DataError, match=r"but got PosixPath|but got str\. Make a task with nc\.Task\.from_folder"):
        Task.of("photos")  # type: ignore[arg-type]


@pytest.mark.parametrize("known", [True, False])
def test_real_photographs_are_labelled_from_their_file_names(shared_data, tmp_path, known):
    wanted = ("0134_n02012849_crane", "0517_n03126707_crane", "0251_n02110341_dalmatian", "0638_n03710637_maillot")
    with zipfile.ZipFile(shared_data / "imagenet-700.zip") as archive:
        members = [name for name in archive.namelist() if name.startswith(wanted)]
        archive.extractall(tmp_path, members)
    labels = (shared_data / "imagenet_labels.txt").read_text().splitlines()
    task = Task.from_folder(tmp_path, preprocess=SMALL, class_names=labels if known else None)
    if known:
        assert sorted(task.classes) == sorted(int(name[:4]) + 1 for name in members)
        assert all(
            task.label_name(label) in name for label, (row,) in task.by_class().items() for name in [task.names[row]]
        )
    else:
        assert task.labels is None


def test_cifar_folders_are_matched_in_any_order(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "cifar10.zip") as archive:
        archive.extractall(
            tmp_path, [f"test/{name}/{index:04d}.jpg" for name in ("cat", "airplane") for index in range(3)]
        )
    names = "airplane automobile bird cat deer dog frog horse ship truck".split()
    small = Preprocess(size=(32, 32), mean=(0.5,) * 3, std=(0.5,) * 3, resize=None)
    task = Task.from_folder(tmp_path / "test", preprocess=small, class_names=names, per_class=2, held_out=1)
    assert task.classes == (0, 3)
    assert task.images.shape == (4, 3, 32, 32)
    assert np.array_equal(
        task.pixels[0].permute(1, 2, 0).numpy(), np.asarray(Image.open(tmp_path / "test" / task.names[0]))
    )
