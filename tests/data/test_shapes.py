"""The shapes data set: the same everywhere, balanced, and its masks tell the truth."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.data import shapes
from neurochains.errors import ClassNameError, DataError, SettingsError
from neurochains.shapes_spec import ATTRIBUTES, CLASSES, COLOURS, PARTS, SHAPES, TEXTURES

BATCH = shapes.batch(96, seed=5, split="val")


def part(name: str) -> np.ndarray:
    return BATCH.part(name)


# -- classes ------------------------------------------------------------------------------------------


def test_sixteen_classes_share_every_attribute() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 16
    for kind, values in enumerate((SHAPES, TEXTURES, COLOURS)):
        assert Counter(attributes[kind] for attributes in ATTRIBUTES) == dict.fromkeys(values, 4)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_no_two_attributes_name_every_class(missing: int) -> None:
    seen = Counter(tuple(np.delete(attributes, missing)) for attributes in ATTRIBUTES)
    assert max(seen.values()) > 1


def test_names_are_made_of_attributes() -> None:
    assert CLASSES[0] == "red striped disc"
    assert shapes.attributes(0) == ("disc", "striped", "red")
    for label, name in enumerate(CLASSES):
        shape, texture, colour = shapes.attributes(label)
        assert name == f"{colour} {texture} {shape}"


# -- the same everywhere ------------------------------------------------------------------------------


def test_pinned_images() -> None:
    """Coarse statistics of three images, so that another library version or machine is noticed."""
    means = [shapes.draw(index, seed=seed, split=split).pixels.mean((1, 2)) for index, seed, split in PINNED]
    assert np.stack(means) == pytest.approx(np.array(list(PINNED.values())), abs=0.02)


def test_pinned_masks() -> None:
    sizes = shapes.draw(13, seed=2, split="test").parts.sum((1, 2))
    assert sizes == pytest.approx(PINNED_MASKS, abs=2)


@settings(max_examples=8, deadline=None)
@given(index=st.integers(0, 2**62), seed=st.integers(0, 2**62), split=st.sampled_from(shapes.SPLITS))
def test_an_image_is_a_function_of_its_place(index: int, seed: int, split: str) -> None:
    first, again = (shapes.draw(index, seed=seed, split=split) for _ in range(2))
    assert first.label == index % 16
    assert first.attributes == ATTRIBUTES[first.label]
    np.testing.assert_array_equal(first.pixels, again.pixels)
    np.testing.assert_array_equal(first.parts, again.parts)


def test_seeds_splits_and_indices_give_different_images() -> None:
    pixels = [
        shapes.draw(index, seed=seed, split=split, label=0).pixels
        for index in (0, 1, 2**40)
        for seed in (0, 1, 2**40)
        for split in shapes.SPLITS
    ]
    assert len({image.tobytes() for image in pixels}) == len(pixels) == 27


def test_neighbouring_streams_share_no_random_numbers() -> None:
    pixels = [shapes.draw(index, split=split).pixels for index in range(4) for split in shapes.SPLITS]
    noise = [np.diff(image.astype(float), n=2, axis=2).ravel() for image in pixels]
    correlations = np.corrcoef(noise) - np.eye(len(noise))
    assert np.abs(correlations).max() < 0.1


def test_another_label_is_another_object_in_the_same_scene() -> None:
    one, other = (shapes.draw(3, seed=1, split="test", label=label) for label in (0, 13))
    differs = (one.pixels != other.pixels).any(0)
    assert not (differs & ~grown(one.parts[0] | other.parts[0], 3)).any()
    assert differs[one.parts[0] & other.parts[0]].mean() > 0.5
    assert one.label == 0
    assert other.label == 13


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    steps = range(-pixels, pixels + 1)
    return np.logical_or.reduce([np.roll(mask, (down, right), (0, 1)) for down in steps for right in steps])


# -- masks --------------------------------------------------------------------------------------------


def test_the_body_is_outline_texture_and_fill() -> None:
    inside = np.stack([part("outline"), part("texture"), part("fill")])
    np.testing.assert_array_equal(inside.sum(0), part("body"))


def test_corners_lie_on_the_body_and_clutter_beside_it() -> None:
    assert not (part("corners") & ~part("body")).any()
    assert not (part("clutter") & part("body")).any()


def test_corners_are_missing_on_discs_alone() -> None:
    round_ones = np.array([shape == "disc" for shape, _, _ in BATCH.attributes])
    assert (part("corners").any((1, 2)) == ~round_ones).all()


def test_every_other_part_is_seen_in_every_image() -> None:
    for name in set(PARTS) - {"corners"}:
        assert (part(name).sum((1, 2)) >= 20).all(), name
    share = part("body").mean((1, 2))
    assert share.min() > 0.04
    assert share.max() < 0.45


def test_the_fill_has_the_colour_of_the_class() -> None:
    """Chromaticity averaged over the fill is nearest to the class's own palette colour."""
    palette = {"red": (1, 0, 0), "yellow": (1, 0.85, 0), "green": (0, 1, 0.3), "blue": (0, 0.3, 1)}
    for pixels, fill, (_, _, colour) in zip(BATCH.pixels, part("fill"), BATCH.attributes, strict=True):
        mean = pixels[:, fill].mean(1)
        hue = (mean - mean.min()) / np.ptp(mean)
        assert min(palette, key=lambda name: float(np.abs(hue - palette[name]).sum())) == colour


def test_marks_and_outline_stand_out_from_the_fill() -> None:
    grey = BATCH.pixels.mean(1)
    for image, texture, outline, fill in zip(grey, part("texture"), part("outline"), part("fill"), strict=True):
        assert abs(image[texture].mean() - image[fill].mean()) > 15
        assert image[outline].mean() < image[fill].mean()


def test_part_by_name() -> None:
    np.testing.assert_array_equal(BATCH.part("texture"), BATCH.parts[:, PARTS.index("texture")])
    with pytest.raises(ClassNameError, match=r"No part is called 'textur'.*Did you mean texture\?"):
        BATCH.part("textur")


# -- batches ------------------------------------------------------------------------------------------


def test_shapes_and_types_of_a_batch() -> None:
    assert BATCH.pixels.shape == (96, 3, 64, 64)
    assert BATCH.pixels.dtype == np.uint8
    assert BATCH.parts.shape == (96, len(PARTS), 64, 64)
    assert BATCH.parts.dtype == np.bool_
    assert BATCH.labels.dtype == np.int64
    assert len(BATCH) == 96
    assert dataclasses.is_dataclass(BATCH)
    assert BATCH.attributes[0] == ATTRIBUTES[BATCH.labels[0]]
    with pytest.raises(dataclasses.FrozenInstanceError):
        BATCH.labels = BATCH.labels  # type: ignore[misc]


def test_classes_are_balanced() -> None:
    assert Counter(BATCH.labels.tolist()) == dict.fromkeys(range(16), 6)


def test_a_batch_stacks_its_images() -> None:
    some = shapes.batch([7, 3], seed=5, split="val")
    np.testing.assert_array_equal(some.pixels, BATCH.pixels[[7, 3]])
    np.testing.assert_array_equal(some.parts, BATCH.parts[[7, 3]])
    assert some.labels.tolist() == [7, 3]


def test_chosen_classes_cycle() -> None:
    some = shapes.batch(5, classes=["Blue-ringed STAR", 2])
    assert some.labels.tolist() == [12, 2, 12, 2, 12]
    assert CLASSES[12] == "blue ringed star"
    np.testing.assert_array_equal(some.pixels[1], shapes.draw(1, label=2).pixels)


# -- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: shapes.draw(-1), SettingsError, "index must be 0 or above .* got -1"),
        (lambda: shapes.draw(2**63), SettingsError, r"index must be .* below 2\*\*63"),
        (lambda: shapes.draw(0, seed=-3), SettingsError, "seed must be 0 or above"),
        (lambda: shapes.draw(1.5), SettingsError, "index must be a whole number, got float"),  # type: ignore[arg-type]
        (lambda: shapes.draw(0, split="tset"), SettingsError, "train, val, test, got 'tset'"),
        (lambda: shapes.draw(0, label=16), ClassNameError, "from 0 to 15 or a class name, got 16"),
        (lambda: shapes.draw(0, label="red striped disk"), ClassNameError, "Did you mean red striped disc"),
        (lambda: shapes.attributes(-1), ClassNameError, "from 0 to 15"),
        (lambda: shapes.batch(0), SettingsError, "at least one image and one class, got 0 and 16"),
        (lambda: shapes.batch(3, classes=[]), SettingsError, "at least one image and one class, got 3 and 0"),
    ],
)
def test_bad_input_names_the_thing(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
    assert issubclass(ClassNameError, DataError)


PINNED = {
    (0, 0, "train"): (132.462, 119.634, 143.379),
    (7, 3, "val"): (118.162, 130.226, 120.393),
    (123_456, 0, "test"): (161.985, 147.644, 149.100),
}
PINNED_MASKS = [685, 186, 228, 271, 103, 844]
