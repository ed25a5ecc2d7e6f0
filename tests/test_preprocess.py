from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neurochains.errors import ImageError, SettingsError
from neurochains.network.libraries import import_torchvision
from neurochains.preprocess import IMAGENET, Preprocess

needs_torchvision = pytest.mark.skipif(
    importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"
)
GREY = Preprocess(size=(8, 8), mean=(0.5,), std=(0.25,), resize=8)


def picture(height: int, width: int, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    shape = (height, width) if mode == "L" else (height, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def reference(image: Image.Image, preprocess: Preprocess) -> torch.Tensor:
    """What torchvision's transforms make of the image: uint8 pixels."""
    functional = import_torchvision().transforms.functional
    resize = preprocess.resize if preprocess.resize is not None else max(preprocess.size)
    mode = functional.InterpolationMode(preprocess.interpolation)
    resized = functional.resize(image, list(np.atleast_1d(resize).tolist()), interpolation=mode)
    return functional.pil_to_tensor(functional.center_crop(resized, list(preprocess.size)))


@needs_torchvision
@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    height=st.integers(5, 70),
    width=st.integers(5, 70),
    size=st.tuples(st.integers(4, 24), st.integers(4, 24)),
    resize=st.one_of(st.none(), st.integers(4, 30), st.tuples(st.integers(4, 30), st.integers(4, 30))),
    interpolation=st.sampled_from(["bilinear", "bicubic", "lanczos", "nearest"]),
)
def test_pixels_are_torchvisions(height, width, size, resize, interpolation):
    preprocess = Preprocess(size, IMAGENET.mean, IMAGENET.std, resize, interpolation)
    image = picture(height, width, seed=height * 100 + width)
    assert torch.equal(preprocess.pixels(image), reference(image, preprocess))


@needs_torchvision
def test_the_whole_way_is_torchvisions_classification_preset():
    image = picture(301, 420)
    images = IMAGENET.normalise(IMAGENET.pixels(image))
    assert torch.equal(images, import_torchvision().models.AlexNet_Weights.IMAGENET1K_V1.transforms()(image))


def test_normalise_is_the_literal_formula_and_denormalise_undoes_it():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 1).reshape(1, 3, 16, 16)
    images = IMAGENET.normalise(pixels)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (IMAGENET.mean, IMAGENET.std))
    expected = (pixels.double() / 255 - mean[:, None, None]) / std[:, None, None]
    torch.testing.assert_close(images.double(), expected, atol=1e-6, rtol=0)
    assert images.dtype == torch.float32
    assert torch.equal(IMAGENET.denormalise(images), pixels)


def test_denormalise_clips():
    assert GREY.denormalise(torch.tensor([-9.0, 9.0]).reshape(1, 1, 2)).flatten().tolist() == [0, 255]


def test_the_number_of_channels_decides_between_grey_and_colour():
    grey, colour = picture(9, 9, mode="L"), picture(9, 9)
    assert GREY.pixels(colour).shape == (1, 8, 8)
    assert torch.equal(GREY.pixels(colour), GREY.pixels(colour.convert("L")))
    three = IMAGENET.pixels(grey)
    assert three.shape == (3, 224, 224)
    assert torch.equal(three[0], three[2])


def test_the_image_stays_as_it_is():
    image = picture(20, 30)
    before = image.tobytes()
    GREY.pixels(image)
    assert image.tobytes() == before


@pytest.mark.parametrize("mode", ["RGBA", "P", "I;16", "CMYK"])
def test_other_modes_are_refused(mode):
    with pytest.raises(ImageError, match=rf"RGB or 8-bit grey \(L\); got mode {mode}"):
        IMAGENET.pixels(Image.new(mode, (8, 8)))


@pytest.mark.parametrize(
    "preprocess",
    [
        IMAGENET,
        GREY,
        Preprocess((8, 9), (0.5,), (1.0,), (10, 12), "bicubic"),
        Preprocess((4, 4), (0.0,) * 3, (1.0,) * 3),
    ],
)
def test_json_round_trip(preprocess):
    assert Preprocess.from_json(json.loads(json.dumps(preprocess.to_json()))) == preprocess


def test_from_json_names_what_is_missing():
    with pytest.raises(SettingsError, match=r"needs size, mean, std.*got \['size'\]"):
        Preprocess.from_json({"size": [8, 8]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"interpolation": "bicubik"}, "interpolation must be one of .*got 'bicubik'. Did you mean bicubic?"),
        ({"size": (0, 8)}, "size must be positive whole numbers"),
        ({"size": (8, 8, 8)}, "size must be positive whole numbers"),
        ({"resize": 0}, "resize must be positive whole numbers"),
        ({"resize": (8, 2.5)}, "resize must be positive whole numbers"),
        ({"mean": (0.5, 0.5)}, "for 1 or 3 channels; got 2 and 1"),
        ({"std": (0.0,)}, "std must be positive"),
    ],
)
def test_settings_that_cannot_be(change, message):
    with pytest.raises(SettingsError, match=message.replace("?", re.escape("?"))):
        Preprocess(**{"size": (8, 8), "mean": (0.5,), "std": (1.0,), **change})


@pytest.mark.parametrize(
    "pixels", [torch.zeros(3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)]
)
def test_normalise_wants_uint8_pixels_of_its_channels(pixels):
    with pytest.raises(SettingsError, match=r"uint8 of shape \(\.\.\., 3, H, W\); got"):
        IMAGENET.normalise(pixels)
