from __future__ import annotations

import pytest

from neurochains.circuits.bundle_document import BundleSet
from neurochains.circuits.set_names import SetNames
from neurochains.errors import ExpressionError

NAMES = SetNames(
    [
        BundleSet("great white shark, white shark", 2, "n01484850", ("shark/a.jpg", "shark/b.jpg")),
        BundleSet("Border Collie", 232, "n02106166", ("dogs/a.jpg", "dogs/c.PNG")),
        BundleSet("textures", -1, None, ("x y/d.png",)),
        BundleSet("crane", 134, None, ()),
        BundleSet("crane, lifting device", 517, None, ()),
    ]
)


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("great white shark, white shark", 0),
        ("White_Shark", 0),
        ("n02106166", 1),
        ("border-collie", 1),
        ("232", 1),
        ("textures", 2),
        ("crane", 3),
        ("517", 4),
    ],
)
def test_a_set_has_many_names(text, index):
    assert NAMES.find(text) == index


def test_an_unknown_name_comes_with_the_nearest():
    with pytest.raises(
        ExpressionError, match=r"No set of images is called 'border colly'. Did you mean Border Collie?"
    ):
        NAMES.find("border colly")
    with pytest.raises(
        ExpressionError, match="There are: great white shark, Border Collie, textures, crane, crane, ov"
    ):
        NAMES.find("zzzzz")
    with pytest.raises(ExpressionError, match=r"Did you mean overall?"):
        NAMES.find("ovrall")


def test_a_name_of_several_sets_lists_them():
    twice = SetNames([BundleSet("crane", 1, None, ()), BundleSet("Crane", 2, None, ())])
    with pytest.raises(ExpressionError, match="'CRANE' names 2 sets of images: 'crane', 'Crane'"):
        twice.find("CRANE")


def test_images_are_found_by_name_last_part_and_stem():
    assert NAMES.images("shark/b.jpg") == ((0, 1),)
    assert NAMES.images("a.jpg") == ((0, 0), (1, 0))
    assert NAMES.images("c") == ((1, 1),)
    assert NAMES.images("nothing") == ()
    with pytest.raises(
        ExpressionError, match=r"'d.png' is a single image, and the bundle holds the importance of sets"
    ):
        NAMES.find("d.png")


@pytest.mark.parametrize("text", ["", "  ", "-1", "999999999999"])
def test_odd_names_mean_nothing(text):
    assert NAMES.candidates(text) == ()
