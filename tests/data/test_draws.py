from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.data.classes import ClassTable
from neurochains.data.draws import draw
from neurochains.errors import ClassNameError, DataError, SettingsError

KNOWN = ClassTable(("a", "b", "c, see", "crane", "crane"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Return three classes of 12, 10 and 8 (empty) files."""
    root = tmp_path_factory.mktemp("images")
    for name, count in (("a", 12), ("b", 10), ("c", 8)):
        (root / name).mkdir()
        for index in range(count):
            (root / name / f"{index}.jpg").touch()
    return root


def names(entries):
    return [entry.name for entry in entries]


def test_everything_is_drawn_unless_told_otherwise(folder):
    drawn = draw(folder, table=KNOWN)
    assert [entry.label for entry in drawn.given] == [0] * 12 + [1] * 10 + [2] * 8
    assert names(drawn.given)[:3] == ["a/0.jpg", "a/1.jpg", "a/10.jpg"]
    assert drawn.given[0].path == folder / "a" / "0.jpg"
    assert drawn.held_out == ()


def test_classes_come_as_asked_and_files_sorted(folder):
    drawn = draw(folder, table=KNOWN, classes=["see", "a"], per_class=5)
    assert [entry.label for entry in drawn.given] == [2] * 5 + [0] * 5
    assert names(drawn.given)[:5] == sorted(names(drawn.given)[:5])


@pytest.mark.parametrize("wanted", ["b", 1])
def test_one_class_needs_no_list(folder, wanted):
    assert {entry.label for entry in draw(folder, table=KNOWN, classes=wanted).given} == {1}


@settings(max_examples=30)
@given(seed=st.integers(0, 2**70), per_class=st.integers(1, 4), held_out=st.integers(1, 4))
def test_what_is_held_out_is_disjoint_and_of_the_size_asked_for(folder, seed, per_class, held_out):
    drawn = draw(folder, table=KNOWN, per_class=per_class, held_out=held_out, seed=seed)
    assert (len(drawn.given), len(drawn.held_out)) == (3 * per_class, 3 * held_out)
    assert len({*names(drawn.given), *names(drawn.held_out)}) == 3 * (per_class + held_out)
    assert [entry.label for entry in drawn.held_out] == [0] * held_out + [1] * held_out + [2] * held_out


def test_without_a_number_all_but_the_held_out_are_given(folder):
    drawn = draw(folder, table=KNOWN, classes=["c"], held_out=3)
    assert (len(drawn.given), len(drawn.held_out)) == (5, 3)
    assert not set(names(drawn.given)) & set(names(drawn.held_out))


def test_the_draw_is_that_of_the_seed(folder):
    drawn = [names(draw(folder, table=KNOWN, per_class=4, seed=seed).given) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_the_draw_is_the_same_on_every_machine(folder):
    ranked = sorted(range(12), key=lambda index: hashlib.sha256(f"5\0a\0{index}.jpg".encode()).hexdigest())
    drawn = draw(folder, table=KNOWN, classes="a", per_class=3, held_out=4, seed=5)
    assert names(drawn.given) == sorted(f"a/{index}.jpg" for index in ranked[:3])
    assert names(drawn.held_out) == sorted(f"a/{index}.jpg" for index in ranked[3:7])


def test_the_draw_does_not_depend_on_the_order_of_the_file_system(folder, monkeypatch):
    before = draw(folder, table=KNOWN, per_class=4, held_out=2)
    listed = Path.iterdir

    def shuffled(path):
        found = list(listed(path))
        random.shuffle(found)
        return iter(found)

    monkeypatch.setattr(Path, "iterdir", shuffled)
    assert draw(folder, table=KNOWN, per_class=4, held_out=2) == before


def test_another_class_changes_nothing(folder):
    alone = draw(folder, table=KNOWN, classes=["b"], per_class=4, held_out=2)
    among = draw(folder, table=KNOWN, classes=["a", "b", "c"], per_class=4, held_out=2)
    assert set(alone.given) <= set(among.given)
    assert set(alone.held_out) <= set(among.held_out)


def test_classes_are_drawn_independently(folder):
    drawn = names(draw(folder, table=KNOWN, per_class=4, seed=3).given)
    assert len({tuple(name[2:] for name in drawn[start : start + 4]) for start in (0, 4, 8)}) > 1


def test_a_larger_draw_contains_a_smaller(folder):
    small, large = (set(draw(folder, table=KNOWN, per_class=size).given) for size in (2, 5))
    assert small < large


def test_every_image_is_drawn_sooner_or_later(folder):
    drawn = {name for seed in range(60) for name in names(draw(folder, table=KNOWN, per_class=1, seed=seed).given)}
    assert len(drawn) == 30


def test_without_names_the_folders_become_the_classes(folder):
    drawn = draw(folder, table=ClassTable(), classes=["c"], per_class=1)
    assert (drawn.given[0].label, drawn.table.names) == (2, ("a", "b", "c"))


def test_flat_images_without_a_class_count_as_one(folder):
    drawn = draw(folder / "a", table=KNOWN, per_class=3, held_out=2)
    assert [entry.label for entry in drawn.given] == [-1, -1, -1]
    assert [len(entry.name.split("/")) for entry in drawn.held_out] == [1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 9}, r"Wanted 9 images of class 'c' in .*, but found 8\. Add images"),
        ({"per_class": 8, "held_out": 1}, r"Wanted 8 images and 1 more to hold out of class 'c' in .* found 8\."),
        ({"held_out": 8}, r"Wanted at least 1 images and 8 more to hold out of class 'c'"),
    ],
)
def test_too_few_images_name_the_class(folder, options, message):
    with pytest.raises(DataError, match=message):
        draw(folder, table=KNOWN, classes=["a", "c"], **options)


def test_too_few_images_without_a_class(folder):
    with pytest.raises(DataError, match=r"Wanted 13 images of no known class in .* found 12"):
        draw(folder / "a", table=KNOWN, per_class=13)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": []}, "classes= is empty"),
        ({"per_class": 0}, "per_class must be at least 1, not 0"),
        ({"held_out": -1}, "held_out must be 0 or more, not -1"),
    ],
)
def test_numbers_out_of_range(folder, options, message):
    with pytest.raises(SettingsError, match=message):
        draw(folder, table=KNOWN, **options)


def placed(root, *folders):
    for name in folders:
        (root / name).mkdir()
        (root / name / "1.jpg").touch()
    return root


def test_class_folders_that_mean_no_output_are_listed_with_the_nearest(tmp_path):
    table = ClassTable(("dalmatian, coach dog", "strawberry", "crane", "crane"))
    with pytest.raises(ClassNameError) as raised:
        draw(placed(tmp_path, "dalmation", "strawberry", "crane", "xyzzy"), table=table)
    message = str(raised.value)
    assert "'dalmation' (Did you mean dalmatian?)" in message
    assert "'crane' (it names 2 classes: 2 (crane), 3 (crane))" in message
    assert "'xyzzy' (nothing is near)" in message
    assert "'strawberry'" not in message
    assert "list the right ones with classes=" in message


def test_only_the_classes_asked_for_must_mean_an_output(tmp_path):
    drawn = draw(placed(tmp_path, "b", "xyzzy"), table=KNOWN, classes=["b"])
    assert [entry.label for entry in drawn.given] == [1]
    with pytest.raises(ClassNameError, match="'xyzzy'"):
        draw(tmp_path, table=KNOWN, classes=["xyzzy"])


def test_two_folders_for_one_output_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"The folders c, see of .* all mean output 2\. Merge them"):
        draw(placed(tmp_path, "c", "see"), table=KNOWN)


def test_a_class_folder_without_images_is_refused(tmp_path):
    (placed(tmp_path, "a") / "b").mkdir()
    with pytest.raises(DataError, match=r"Class 'b': Wanted images in .*b, but it is empty"):
        draw(tmp_path, table=KNOWN)
