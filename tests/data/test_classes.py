from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurochains.data.classes import ClassTable, as_index, bare_name, fold, synset_in
from neurochains.errors import ClassNameError, DataError

NAMES = (
    "dalmatian, coach dog, carriage dog",
    "crane",
    "crane",
    "cougar, puma, panther",
    "jaguar, panther",
    "missile",
    "projectile, missile",
    "jack-o'-lantern",
)
SYNSETS = tuple(f"n0000000{index}" for index in range(8))
TABLE = ClassTable(NAMES, SYNSETS)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ("dalmatian, coach dog, carriage dog", 0),
        ("Dalmatian", 0),
        ("coach_dog", 0),
        ("CARRIAGE-dog", 0),
        ("n00000003", 3),
        ("N00000003", 3),
        ("missile", 5),  # the whole name goes before a synonym
        ("jack o lantern", 7),
        ("Jack-O'-Lantern", 7),
        ("4", 4),
        (4, 4),
        (np.int64(4), 4),
    ],
)
def test_a_class_is_found_by_name_synonym_synset_or_index(wanted, index):
    assert TABLE.find(wanted) == index


def test_the_first_synonym_goes_before_the_others():
    assert ClassTable(("big cat, lion", "lion, king")).find("lion") == 1


def test_a_name_of_digits_goes_before_an_index():
    assert ClassTable(("2", "1", "0")).find("2") == 0
    assert ClassTable(("2", "1", "0")).find(2) == 2


def test_the_exact_spelling_goes_before_the_folded_one():
    assert [ClassTable(("C", "C++", "c")).find(name) for name in ("C", "C++", "c")] == [0, 1, 2]


@pytest.mark.parametrize(("wanted", "listed"), [("crane", r"1 \(n00000001 crane\), 2 \(n0"), ("panther", "3 .*, 4 ")])
def test_several_meanings_are_listed(wanted, listed):
    with pytest.raises(ClassNameError, match=f"names 2 classes: {listed}.*by synset or index"):
        TABLE.find(wanted)


def test_a_synonym_told_twice_is_one_meaning():
    assert ClassTable(("feline, cat, Cat", "dog")).find("CAT") == 0


def test_many_meanings_are_cut_short():
    with pytest.raises(ClassNameError, match=r"names 30 classes: 0 \(a\), .*9 \(a\), \.\.\.\. Ask"):
        ClassTable(("a",) * 30).find("a")


@pytest.mark.parametrize("wanted", ["dalmation", "Dalmatien", "carriage_dogs"])
def test_a_miss_suggests_the_nearest(wanted):
    with pytest.raises(ClassNameError, match=r"No class is called .*among the 8 outputs.*Did you mean (dalm|carr)"):
        TABLE.find(wanted)


@pytest.mark.parametrize("wanted", ["xyzzy", "8", 8, "n12345678", "9999999999999"])
def test_a_miss_with_nothing_near_says_how_to_ask(wanted):
    with pytest.raises(ClassNameError, match=r"Ask by name, synset or index \(0 to 7\)"):
        TABLE.find(wanted)


def test_a_negative_index_is_no_class():
    with pytest.raises(ClassNameError, match="'-1'"):
        TABLE.find(-1)


def test_without_names_only_an_index_can_be_found():
    assert ClassTable().find("12") == 12
    with pytest.raises(ClassNameError, match=r"names of the network's outputs are not known\. Pass class_names="):
        ClassTable().find("cat")


def test_synsets_alone_are_enough():
    table = ClassTable(synsets=SYNSETS)
    assert (table.find("n00000002"), table.name(2), table.count, table.known) == (2, "n00000002", 8, True)


def test_names_and_synsets_must_be_as_many():
    with pytest.raises(DataError, match=r"2 names and 1 synsets"):
        ClassTable(("a", "b"), ("n00000001",))


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("0000_n00000003_whatever", 3),  # a synset decides
        ("n00000003_1234", 3),
        ("n00000003-cougar", 3),
        ("dalmatian", 0),
        ("dalmatian_12", 0),
        ("dalmatian (2)", 0),
        ("coach_dog-3", 0),
        ("0002_crane", 2),  # the index chooses among equal names
        ("0001_n99999999_crane", 1),
        ("crane_2", None),
        ("0007_crane", None),
        ("0003", None),
        ("3", None),
        ("IMG_0003", None),
        ("", None),
    ],
)
def test_file_names_are_read(text, index):
    assert TABLE.read(text) == index


def test_the_index_counts_from_one_where_output_0_is_the_background():
    table = ClassTable(("background", "maillot", "maillot, tank suit"))
    assert [table.read(name) for name in ("0000_maillot", "0001_maillot_tank_suit")] == [1, 2]
    table = ClassTable(("background", "x", "maillot", "maillot"))
    assert [table.read(name) for name in ("0001_maillot", "0002_maillot")] == [2, 3]


def test_parts_of_file_names():
    assert (bare_name("0251_n02110341_coach_dog_3"), bare_name("3"), bare_name("dog.4001")) == ("coach_dog", "3", "dog")
    assert (synset_in("a_n02110341_b"), synset_in("an02110341"), synset_in("n021103411")) == ("n02110341", "", "")
    assert (as_index("007"), as_index("٣"), as_index("-1"), as_index("1" * 5000)) == (7, None, None, None)


def test_a_name_of_signs_only_stays_as_it_is():
    assert (fold(" + "), fold("A+")) == ("+", "a")


@given(st.text(min_size=1))
def test_folding_twice_changes_nothing(name):
    assert fold(fold(name)) == fold(name)


@given(st.text(min_size=1, max_size=12))
def test_any_name_finds_itself(name):
    assert ClassTable(("something else", name)).find(name) == 1 or name == "something else"
