from __future__ import annotations

import csv
import io
import json
import shutil

import pytest

from neurochains.circuits import Bundle, prepare
from neurochains.data import Task
from neurochains.network import load_model

from .conftest import CLASSES


@pytest.fixture(scope="session")
def bundle_once(tmp_path_factory):
    """Return the folder of a bundle of shapes:vgg that no test changes."""
    place = tmp_path_factory.mktemp("bundles") / "shapes"
    prepare(load_model("shapes:vgg"), Task.shapes(4, classes=CLASSES), place, projection="pca")
    return place


EXPRESSION = f'"{CLASSES[0]}" - overall'


def test_a_table_is_printed(command, bundle_once):
    shown = command("query", EXPRESSION, "--bundle", bundle_once, "--top", 3)
    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert lines[0] == f"{EXPRESSION}   (loss, activation_gradient, abs)"
    assert lines[2].split() == ["filter", "name", "score", "share"]
    assert [line.split()[0] for line in lines[3:6]] == ["1", "2", "3"]
    label, name, score, share = lines[3].split()[1:]
    bundle = Bundle.open(bundle_once)
    assert bundle.filter(label) == bundle.filter(name)
    assert float(score) > 0
    assert share.endswith("%")
    assert "of 520 filters have a score above 0; the first 3 are shown." in lines[-1]


def test_json_and_csv_say_the_same(command, bundle_once):
    line = ("query", EXPRESSION, "--bundle", bundle_once, "--top", 4, "--kernels")
    values = json.loads(command(*line, "--json").out)
    table = list(csv.DictReader(io.StringIO(command(*line, "--csv").out)))
    assert (values["kind"], values["of"], len(values["rows"])) == ("kernels", 34_120, 4)
    for rank, (row, record) in enumerate(zip(values["rows"], table, strict=True), 1):
        assert record == {"rank": str(rank), **{key: str(value) for key, value in row.items()}}


def test_layers_and_normalisation_arrive(command, bundle_once):
    line = ("query", EXPRESSION, "--bundle", bundle_once, "--json", "--layers", "L3", "features.5")
    values = json.loads(command(*line, "--normalise", "layer-sum").out)
    assert {row["layer"] for row in values["rows"]} == {"features.3", "features.5"}
    assert (values["of"], values["normalise"]) == (32 + 48, "layer-sum")


def test_a_model_and_images_do_without_a_bundle(command, photos):
    line = ("query", f'"{CLASSES[0]}/1.png"', "--model", "shapes:vgg", "--images", photos, "--json")
    values = json.loads(command(*line, "--criterion", "activation", "--target", "logit:3", "--reduce", "abs").out)
    assert (values["target"], values["criterion"]) == ("logit:3", "activation")
    assert values["positive"] > 400


def test_a_bundle_and_images_are_asked_together(command, photos, bundle_once):
    line = ("query", f'"{CLASSES[0]}/1.png" - overall', "--bundle", bundle_once)
    shown = command(*line)
    assert shown.code == 2
    shown = command(*line, "--model", "shapes:vgg", "--images", photos)
    assert (shown.code, "have a score above 0" in shown.out) == (0, True)


def test_errors_point_to_the_place(command, bundle_once):
    shown = command("query", f'"{CLASSES[0]}" - ovreall', "--bundle", bundle_once)
    assert (shown.code, shown.out) == (2, "")
    place = len(CLASSES[0]) + 5
    assert shown.err.splitlines()[0].endswith("Did you mean overall?")
    assert shown.err.splitlines()[-1] == f"  {' ' * place}^^^^^^^ position {place + 1}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "A query needs --bundle DIR, or --model NAME with --images FOLDER"),
        (("--model", "shapes:vgg"), "A query needs --bundle DIR"),
        (("--bundle", "nowhere"), "nowhere holds no bundle: there is no such folder"),
        (("--bundle", "B", "--json", "--csv"), "--json and --csv cannot be had at once"),
        (("--bundle", "B", "--target", "logit:2"), "prepared with --target loss, not logit:2"),
        (("--bundle", "B", "--criterion", "snip"), "prepared with --criterion activation_gradient, not snip"),
        (("--bundle", "B", "--layers", "L99"), "No layer is called 'L99'"),
        (("--bundle", "B", "--top", "0"), "Invalid value for '--top'"),
    ],
)
def test_bad_options_are_refused(command, bundle_once, options, message):
    shown = command("query", "overall", *(bundle_once if option == "B" else option for option in options))
    assert (shown.code, shown.out) == (2, "")
    assert message in shown.err


def test_a_bundle_of_another_model_is_refused(command, photos, bundle_once):
    line = ("query", "overall", "--bundle", bundle_once, "--model", "shapes:resnet", "--images", photos)
    shown = command(*line)
    assert (shown.code, "was prepared from a model with other weights" in shown.err) == (2, True)


def test_a_damaged_bundle_is_refused(command, bundle_once, tmp_path):
    copied = shutil.copytree(bundle_once, tmp_path / "b")
    (copied / "overall.safetensors").write_bytes(b"x")
    shown = command("query", "overall", "--bundle", copied)
    assert (shown.code, "overall.safetensors is truncated or damaged: 1 of" in shown.err) == (2, True)


def test_markup_in_names_is_shown_as_it_is(command, photos):
    (photos / CLASSES[1]).rename(photos / "[red]wolf")
    line = ("query", '"[red]wolf"', "--model", "shapes:vgg", "--images", photos, "--top", 1)
    assert command(*line).out.startswith('"[red]wolf"   (loss')
