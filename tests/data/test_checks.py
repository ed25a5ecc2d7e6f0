from __future__ import annotations

import numpy as np
import pytest
import torch

from neurochains.data.checks import as_images, as_indices, as_labels, as_pixels, check_length
from neurochains.data.classes import ClassTable
from neurochains.errors import ClassNameError, DataError

IMAGES = torch.zeros(3, 2, 4, 5)
TABLE = ClassTable(("a", "b, bee"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_become_float32_without_gradient(dtype):
    images = torch.ones(1, 3, 2, 2, dtype=dtype, requires_grad=True)
    values = as_images(images, ())
    assert (values.dtype, values.requires_grad) == (torch.float32, False)


def test_images_may_be_a_read_only_reversed_array():
    array = np.arange(8.0).reshape(1, 2, 2, 2)[:, ::-1]
    array.flags.writeable = False
    assert as_images(array, ())[0, :, 0, 0].tolist() == [4.0, 0.0]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 4, 4), r"float32 \(3, 4, 4\)\. A single image needs images\[None\]"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"uint8 \(1, 3, 4, 4\)\. Make pixels into a task"),
        (torch.zeros(3), r"float32 \(3,\)"),
        (torch.zeros(0, 3, 4, 4), r"at least one image with pixels, but got \(0, 3, 4, 4\)"),
        (torch.zeros(1, 3, 0, 4), r"\(1, 3, 0, 4\)"),
        ("photos", r"but got str\."),
        (np.zeros((1, 3, 4, 4), dtype=object), "an array of object"),
    ],
)
def test_other_images_are_refused(images, message):
    with pytest.raises(DataError, match=message):
        as_images(images, ())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_traced_to_their_images(value):
    images = IMAGES.clone()
    images[1, 0, 2, 3] = value
    with pytest.raises(DataError, match=r"1 of 3 images hold NaN or infinity: 1 \(two\)\. Remove"):
        as_images(images, ("one", "two", "three"))
    with pytest.raises(DataError, match=r"infinity: 1\. Remove"):
        as_images(images, ())


def test_many_images_that_are_not_finite_are_cut_short():
    with pytest.raises(DataError, match=r"9 of 9 images hold NaN or infinity: 0, 1, 2, 3, 4, \.\.\.\. Remove"):
        as_images(torch.full((9, 1, 1, 1), torch.nan), ())


def test_values_too_large_for_float32_are_not_finite():
    with pytest.raises(DataError, match="infinity"):
        as_images(torch.full((1, 1, 1, 1), 1e300, dtype=torch.float64), ())


@pytest.mark.parametrize(
    "labels",
    [[1, 0, -1], (1, 0, -1), ["bee", "a", -1], torch.tensor([1, 0, -1], dtype=torch.int8), np.array([1, 0, -1])],
)
def test_labels_become_one_tensor(labels):
    values = as_labels(labels, TABLE, IMAGES)
    assert values is not None
    assert (values.dtype, values.tolist()) == (torch.int64, [1, 0, -1])


@pytest.mark.parametrize("labels", [None, [-1, -1, -1]])
def test_labels_all_unknown_are_none(labels):
    assert as_labels(labels, TABLE, IMAGES) is None


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1], "one of labels for each of the 3 images, but got 2"),
        ([0, 1, 2], r"labels below 2, the number of class names, but 2 is among them.*must name all outputs"),
        ([0, 1, -2], "-1 for unknown, but -2"),
        ([0, 1, None], "Wanted class names or whole numbers as labels"),
        ([0.0, 1.0, 1.0], "whole numbers as labels"),
        (torch.tensor([0.0, 1.0, 1.0]), r"but got torch\.float32 \(3,\)"),
        (torch.tensor([True, False, True]), r"torch\.bool"),
        (torch.zeros(3, 2, dtype=torch.int64), r"torch\.int64 \(3, 2\)"),
    ],
)
def test_other_labels_are_refused(labels, message):
    with pytest.raises(DataError, match=message):
        as_labels(labels, TABLE, IMAGES)


def test_an_unknown_name_among_the_labels_is_suggested():
    with pytest.raises(ClassNameError, match="Did you mean bee"):
        as_labels(["bees", "a", "a"], TABLE, IMAGES)


def test_labels_have_no_upper_end_where_nothing_is_known():
    values = as_labels([0, 999, 5], ClassTable(), IMAGES)
    assert values is not None
    assert values.tolist() == [0, 999, 5]


def test_pixels_are_derived_from_the_smallest_to_the_largest_value():
    images = torch.tensor([-2.0, 0.0, 2.0]).reshape(3, 1, 1, 1)
    assert as_pixels(None, images).flatten().tolist() == [0, 128, 255]
    assert as_pixels(None, torch.ones(1, 1, 2, 2)).flatten().tolist() == [0] * 4


@pytest.mark.parametrize(
    "pixels",
    [torch.zeros(3, 2, 4, 5), torch.zeros(3, 3, 4, 6, dtype=torch.uint8), torch.zeros(2, 3, 4, 5, dtype=torch.uint8)],
)
def test_pixels_of_another_size_are_refused(pixels):
    with pytest.raises(DataError, match=r"Wanted uint8 pixels of the number and size of the images \(3, 2, 4, 5\)"):
        as_pixels(pixels, IMAGES)


def test_pixels_may_have_other_channels_than_the_images():
    assert as_pixels(torch.zeros(3, 3, 4, 5, dtype=torch.uint8), IMAGES).shape[1] == 3


@pytest.mark.parametrize("indices", [[2, 0], torch.tensor([2, 0]), np.array([2, 0])])
def test_indices_become_a_list(indices):
    assert as_indices(indices, 3) == [2, 0]


@pytest.mark.parametrize(("indices", "came"), [([3], "3 is among"), ([0, -1], "-1 is among"), ([], "there are none")])
def test_other_indices_are_refused(indices, came):
    with pytest.raises(DataError, match=f"from 0 to 2, but {came}"):
        as_indices(indices, 3)


def test_lengths_must_be_equal():
    with pytest.raises(DataError, match="one of names for each of the 2 images, but got 1"):
        check_length("names", ["a"], 2)
