from __future__ import annotations

import logging

import pytest

from neurochains.data.classes import ClassTable
from neurochains.data.folders import scan
from neurochains.errors import ClassNameError, DataError

KNOWN = ClassTable(
    ("tench, Tinca tinca", "crane", "crane", "dalmatian, coach dog"), ("n01440764", "n02", "n03", "n02110341")
)
UNKNOWN = ClassTable()


def made(root, *paths):
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


def labels(layout):
    return {group.name: group.label for group in layout.groups}


def files(group):
    return [file.name for file in group.files]


def test_class_folders_are_found_with_their_files_sorted(tmp_path):
    layout = scan(made(tmp_path, "b/2.jpg", "b/10.png", "a/1.JPEG"), UNKNOWN)
    assert [(group.name, files(group)) for group in layout.groups] == [("a", ["1.JPEG"]), ("b", ["10.png", "2.jpg"])]
    assert not layout.flat


def test_class_folders_mean_outputs_by_name_synonym_synset_or_index(tmp_path):
    layout = scan(made(tmp_path, "Coach_Dog/1.jpg", "n01440764/1.jpg", "2/1.jpg", "crane/1.jpg", "7/1.jpg"), KNOWN)
    assert labels(layout) == {"Coach_Dog": 3, "n01440764": 0, "2": 2, "crane": None, "7": None}
    assert layout.table is KNOWN


def test_a_number_that_names_several_classes_is_no_index(tmp_path):
    assert labels(scan(made(tmp_path, "1/1.jpg", "2/1.jpg"), ClassTable(("1", "x", "1")))) == {"1": None, "2": 2}


def test_a_synset_may_be_followed_by_a_name(tmp_path):
    assert labels(scan(made(tmp_path, "n02110341-some dog/1.jpg"), KNOWN)) == {"n02110341-some dog": 3}


def test_without_names_all_class_folders_count_by_position(tmp_path):
    layout = scan(made(tmp_path, "c/1.jpg", "a/1.jpg", "b/notes.txt"), UNKNOWN)
    assert labels(layout) == {"a": 0, "b": 1, "c": 2}
    assert layout.table.names == ("a", "b", "c")


def test_a_flat_folder_is_labelled_from_its_file_names(tmp_path):
    layout = scan(made(tmp_path, "0000_n01440764_tench.jpg", "n02110341_7.JPEG", "coach_dog_2.png", "IMG_1.jpg"), KNOWN)
    assert layout.flat
    assert {group.label: len(group.files) for group in layout.groups} == {0: 1, 3: 2, None: 1}


def test_a_flat_folder_of_an_unknown_network_has_no_labels(tmp_path):
    layout = scan(made(tmp_path, "0000_n01440764_tench.jpg", "n02110341_7.JPEG"), UNKNOWN)
    assert labels(layout) == {"tench": None, "n02110341": None}


def test_all_images_without_a_class_are_one_group(tmp_path):
    layout = scan(made(tmp_path, "a_1.jpg", "c.jpg", "b_2.jpg", "dalmatian.jpg"), KNOWN)
    assert [(group.label, files(group)) for group in layout.every()] == [
        (3, ["dalmatian.jpg"]),
        (None, ["a_1.jpg", "b_2.jpg", "c.jpg"]),
    ]


def test_classes_come_in_the_order_asked_for_and_once(tmp_path):
    layout = scan(made(tmp_path, "tench/1.jpg", "n02110341/1.jpg", "x/1.jpg"), KNOWN)
    found = layout.asked(["dalmatian", "Tinca tinca", 3, "n02110341"])
    assert [group.name for group in found] == ["n02110341", "tench"]


@pytest.mark.parametrize("wanted", ["tench", "Tinca_tinca", "n01440764", "0", 0])
def test_a_class_of_a_flat_folder_is_found(tmp_path, wanted):
    layout = scan(made(tmp_path, "0000_n01440764_tench.jpg", "IMG_1.jpg"), KNOWN)
    assert [files(group) for group in layout.asked([wanted])] == [["0000_n01440764_tench.jpg"]]


def test_equal_names_in_a_flat_folder_are_told_apart(tmp_path):
    layout = scan(made(tmp_path, "0001_crane.jpg", "0002_crane.jpg", "crane_9.jpg"), KNOWN)
    assert [files(group) for group in layout.asked([1, 2])] == [["0001_crane.jpg"], ["0002_crane.jpg"]]
    with pytest.raises(ClassNameError, match="names 2 classes"):
        layout.asked(["crane"])


def test_names_in_a_flat_folder_can_be_asked_for_without_knowing_the_network(tmp_path):
    layout = scan(made(tmp_path, "cat_1.jpg", "cat_2.jpg", "dog_1.jpg"), UNKNOWN)
    assert [(group.label, files(group)) for group in layout.asked(["Cat"])] == [(None, ["cat_1.jpg", "cat_2.jpg"])]


def test_a_class_that_is_nowhere_is_suggested(tmp_path):
    layout = scan(made(tmp_path, "dalmatians/1.jpg", "strawberry/1.jpg"), UNKNOWN)
    with pytest.raises(
        ClassNameError, match=r"'strawbery'.*holds 2 classes: dalmatians, strawberry\. Did you mean strawb"
    ):
        layout.asked(["strawbery"])


@pytest.mark.parametrize(("name", "where"), [("a/1.jpg", "sub-folder"), ("a_1.jpg", "file name")])
def test_a_class_of_the_network_that_the_folder_lacks_is_named(tmp_path, name, where):
    layout = scan(made(tmp_path, name), KNOWN)
    with pytest.raises(ClassNameError, match=rf"is output 3 .*n02110341 dalmatian.*but no {where} of .* means it"):
        layout.asked(["coach dog"])


def test_folders_alike_must_be_spelt_exactly(tmp_path):
    layout = scan(made(tmp_path, "big cat/1.jpg", "big_cat/1.jpg"), UNKNOWN)
    assert [group.name for group in layout.asked(["big_cat"])] == ["big_cat"]
    with pytest.raises(ClassNameError, match=r"means 2 classes.*big cat, big_cat.*Spell one exactly"):
        layout.asked(["Big-Cat"])


def test_what_is_no_image_is_ignored_and_counted(tmp_path, caplog):
    root = made(
        tmp_path, "a/1.jpg", "a/notes.txt", "a/data.csv", "a/._1.jpg", ".git/1.jpg", "__MACOSX/a/1.jpg", "0.jpg"
    )
    with caplog.at_level(logging.WARNING, logger="neurochains"):
        layout = scan(root, UNKNOWN)
    assert [(group.name, files(group)) for group in layout.groups] == [("a", ["1.jpg"])]
    assert f"2 files of {tmp_path / 'a'} are no images and are ignored" in caplog.messages
    assert f"1 images beside the class folders of {tmp_path} are left out" in caplog.messages


def test_folders_without_images_that_mean_no_class_are_passed_over(tmp_path):
    layout = scan(made(tmp_path, "tench/1.jpg", "notes/readme.txt"), KNOWN)
    assert [group.name for group in layout.every()] == ["tench"]


def test_a_missing_folder_is_suggested(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match=r"there is no folder .*fotos\. Did you mean photos\?"):
        scan(tmp_path / "fotos", UNKNOWN)


def test_a_missing_folder_in_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*Check the path"):
        scan(tmp_path / "a" / "b", UNKNOWN)


def test_an_archive_is_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"is a file\. Unpack an archive first"):
        scan(made(tmp_path, "a.zip") / "a.zip", UNKNOWN)


def test_an_empty_folder_is_called_empty(tmp_path):
    with pytest.raises(DataError, match=r"but it is empty\. Put images"):
        scan(tmp_path, UNKNOWN)


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    with pytest.raises(DataError, match=r"only 2 files with \.heic, 1 files with no ending\. Convert them"):
        scan(made(tmp_path, "1.HEIC", "2.heic", "readme"), UNKNOWN)


def test_a_folder_one_level_too_high_is_recognised(tmp_path):
    with pytest.raises(DataError, match=r"only the folders test, train\. Name the folder that holds the class folders"):
        scan(made(tmp_path, "train/a/1.jpg", "test/a/1.jpg"), UNKNOWN)


def test_a_folder_that_cannot_be_listed_says_why(tmp_path, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "iterdir", denied)
    with pytest.raises(DataError, match=r"cannot be listed \(Permission denied\)"):
        scan(tmp_path, UNKNOWN)
