from __future__ import annotations

import json

import pytest

from neurochains.circuits import Bundle
from neurochains.circuits.bundle_sets import SetWriter
from neurochains.cli.prepare import size_in_words

from .conftest import CLASSES, write_shapes


@pytest.fixture
def line(photos, tmp_path):
    """Return the shortest command line, to be added to; UMAP would take half a minute."""
    return ("prepare", "--model", "shapes:vgg", "--images", photos, "--out", tmp_path / "b", "--projection", "pca")


def test_a_bundle_is_made_and_summed_up(command, line, tmp_path):
    shown = command(*line)
    assert shown.code == 0
    bundle = Bundle.open(tmp_path / "b")
    assert [known.name for known in bundle.sets] == list(CLASSES)
    announced, *steps = shown.err.splitlines()
    assert announced.startswith("4 images in 2 sets, 520 filters, 34,120 kernels: about ")
    assert steps[0].startswith("sets 0/2: ")
    assert "2 sets, 520 filters, 34,120 kernels: " in shown.out
    assert f"neurochains query '\"{CLASSES[0]}\" - overall' --bundle {tmp_path / 'b'}" in shown.out


def test_json_compares_with_the_estimate(command, line):
    values = json.loads(command(*line, "--json").out)
    assert values["estimate"]["bytes"] == pytest.approx(values["bytes"], rel=0.15)
    assert values["settings"]["target"] == "loss"
    assert (values["sets"], values["images"], values["filters"]) == (2, 4, 520)


def test_quiet_says_nothing(command, line):
    shown = command(*line, "--quiet")
    assert (shown.code, shown.out, shown.err) == (0, "", "")


def test_every_option_arrives(command, line, tmp_path, photos):
    write_shapes(photos, ("blue ringed star",), each=6)
    more = (
        "--classes star --target logit:3 --criterion gradient --reduce signed --no-kernels --patches 2 --batch-size 3"
    )
    shown = command(*line, *more.replace("star", "blue_ringed_star").split(), "--per-class", 5, "--seed", 4)
    assert shown.code == 0
    bundle = Bundle.open(tmp_path / "b")
    assert (len(bundle.sets), len(bundle.sets[0].images)) == (1, 5)
    wanted = {
        "target": "logit:3",
        "criterion": "gradient",
        "reduce": "signed",
        "kernels": False,
        "patches": 2,
        "seed": 4,
    }
    assert {key: bundle.settings[key] for key in wanted} == wanted


def test_ctrl_c_keeps_what_is_finished(command, line, tmp_path, monkeypatch):
    write = SetWriter.write

    def interrupted(self, index, known):
        if index == 1:
            raise KeyboardInterrupt
        write(self, index, known)

    with monkeypatch.context() as patch:
        patch.setattr(SetWriter, "write", interrupted)
        shown = command(*line)
    assert shown.code == 130
    assert f"interrupted: the sets that are finished stay in {tmp_path / 'b'}; the same command goes on" in shown.err
    shown = command(*line)
    assert shown.code == 0
    assert "1 sets are there already." in shown.err


def test_another_bundle_needs_force(command, line):
    assert command(*line).code == 0
    shown = command(*line, "--criterion", "snip")
    assert (shown.code, "made with another criterion" in shown.err) == (2, True)
    assert command(*line, "--criterion", "snip", "--force", "--quiet").code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--target", "L99_3"), "L99"),
        (("--criterion", "snap"), "There is no criterion 'snap'"),
        (("--projection", "mds"), "mds"),
        (("--device", "abacus"), "There is no device 'abacus' here"),
        (("--patches", "0"), "Invalid value for '--patches'"),
    ],
)
def test_bad_options_write_nothing(command, line, tmp_path, options, message):
    shown = command(*line, *options)
    assert (shown.code, shown.out) == (2, "")
    assert message in shown.err
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("size", "words"), [(1_234_567, "1.2 MB"), (640_000_000, "640 MB"), (1_449_000_000, "1.4 GB"), (0, "0.0 MB")]
)
def test_sizes_are_said_in_words(size, words):
    assert size_in_words(size) == words
