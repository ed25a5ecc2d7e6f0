from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from neurochains.data.reading import known_classes, model_info, names_of, pictures_of, preprocess_for, read_files
from neurochains.errors import DataError, ImageError, SettingsError
from neurochains.preprocess import IMAGENET, Preprocess

SMALL = Preprocess(size=(4, 4), mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), resize=None)
GREY = Preprocess(size=(4, 4), mean=(0.5,), std=(0.5,), resize=None)


def model_saying(**info) -> SimpleNamespace:
    fields = {"preprocess": None, "class_names": None, "synsets": None, **info}
    return SimpleNamespace(neurochains_info=SimpleNamespace(**fields))


def test_what_is_given_goes_before_what_the_model_says():
    model = model_saying(preprocess=SMALL)
    assert preprocess_for(model, None) is SMALL
    assert preprocess_for(model, IMAGENET) is IMAGENET


def test_a_wrapped_model_is_asked_inside():
    wrapped = SimpleNamespace(module=model_saying(preprocess=SMALL))
    assert preprocess_for(wrapped, None) is SMALL


@pytest.mark.parametrize(
    ("model", "said"),
    [(None, "no model was given"), (torch.nn.ReLU(), "the model does not say"), (model_saying(), "does not say")],
)
def test_without_preprocessing_the_remedy_is_named(model, said):
    with pytest.raises(SettingsError, match=rf"{said}\. Pass preprocess=nc\.Preprocess\(size=\.\.\., mean"):
        preprocess_for(model, None)


def test_the_name_of_a_model_is_no_model():
    with pytest.raises(
        SettingsError, match=r"the name 'torchvision:vgg11'\. Pass nc\.load_model\('torchvision:vgg11'\)"
    ):
        model_info("torchvision:vgg11")


def test_names_and_synsets_come_from_the_model_or_the_caller():
    model = model_saying(class_names=("a", "b"), synsets=("n1", "n2"))
    assert known_classes(model, None, None).synsets == ("n1", "n2")
    assert known_classes(model, ["x", "y"], None).synsets is None
    assert known_classes(model, ["x", "y"], ["n3", "n4"]).names == ("x", "y")
    assert known_classes(model, None, ["n3", "n4"]).names == ("a", "b")
    assert not known_classes(None, None, None).known


def test_files_are_prepared_and_the_pixels_kept(tmp_path):
    Image.new("RGB", (8, 4), (255, 128, 0)).save(tmp_path / "a.png")
    read = read_files([tmp_path / "a.png", tmp_path / "a.png"], SMALL)
    assert (read.pixels.dtype, tuple(read.pixels.shape)) == (torch.uint8, (2, 3, 4, 4))
    assert read.pixels[0, :, 0, 0].tolist() == [255, 128, 0]
    expected = torch.tensor([(1 - 0.5) / 0.5, (128 / 255 - 0.25) / 0.25, 0.0])
    assert torch.allclose(read.images[1, :, 3, 3], expected)
    assert len(set(read.digests)) == 1


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    with pytest.raises(ImageError, match=r"a\.png"):
        read_files([tmp_path / "a.png"], SMALL)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 3), (4, 4, 4)])
def test_arrays_are_grey_rgb_or_rgba(shape):
    array = np.full(shape, 51, dtype=np.uint8)
    read = pictures_of([array], SMALL)
    expected = 51 if shape[-1] != 4 or len(shape) == 2 else round(51 * 0.2 + 255 * 0.8)
    assert (read.pixels == expected).all()
    assert tuple(read.pixels.shape) == (1, 3, 4, 4)


def test_arrays_of_several_sizes_become_one_size():
    arrays = [np.zeros((8, 5, 3), dtype=np.uint8), np.zeros((4, 9), dtype=np.uint8)]
    assert tuple(pictures_of(arrays, GREY).images.shape) == (2, 1, 4, 4)


def test_digests_tell_values_and_shapes_apart():
    arrays = [
        np.zeros((4, 4, 3), dtype=np.uint8),
        np.zeros((4, 12), dtype=np.uint8),
        np.ones((4, 4, 3), dtype=np.uint8),
    ]
    assert len(set(pictures_of(arrays, SMALL).digests)) == 3


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (np.zeros((1, 4, 4, 3)), r"array 0 is float64 \(4, 4, 3\)\. Scale them"),
        (np.zeros((2, 3, 9, 9), dtype=np.uint8), r"array 0 is uint8 \(3, 9, 9\)\. Put the channels last"),
        ([np.zeros((0, 4, 3), dtype=np.uint8)], r"uint8 \(0, 4, 3\)"),
        ([], r"at least one image, but got no array"),
    ],
)
def test_other_arrays_are_refused(arrays, message):
    with pytest.raises(DataError, match=message):
        pictures_of(arrays, SMALL)


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/x.jpg", "a/y.jpg"], ("x.jpg", "y.jpg")),
        (["a/x.jpg", "b/x.jpg"], ("a/x.jpg", "b/x.jpg")),
        (["a/b/x.jpg", "a/x.jpg"], ("b/x.jpg", "x.jpg")),
        (["x.jpg"], ("x.jpg",)),
    ],
)
def test_files_are_named_below_their_common_folder(paths, names):
    assert names_of([Path(path) for path in paths]) == names
