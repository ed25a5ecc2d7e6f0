from __future__ import annotations

import json

import pytest
import torch

from neurochains.chains import load_chain
from neurochains.preprocess import Preprocess

from .conftest import CLASSES, write_shapes


@pytest.fixture
def line(photos, tmp_path):
    """Return the shortest command line, to be added to."""
    return ("extract", "--model", "shapes:vgg", "--images", photos, "--out", tmp_path / "run")


def test_a_chain_is_saved_and_summed_up(command, extraction, line, tmp_path):
    shown = command(*line)
    assert shown.code == 0
    assert "260 of 520 filters (50.0%)" in shown.out
    assert f"neurochains report {tmp_path / 'run'}" in shown.out
    assert shown.err == "pruning 1/2: KL 0.04 · 260 filters · 3.0 s left\n"
    chain = load_chain(tmp_path / "run")
    assert chain.subnetwork.kept == 260
    assert chain.provenance["command"].startswith("neurochains")


def test_json_prints_the_metrics_alone(command, extraction, line):
    shown = command(*line, "--json")
    metrics = json.loads(shown.out)
    assert metrics["kl"] == 0.041
    assert metrics["quotient_median"] is None


def test_quiet_says_nothing(command, extraction, line):
    shown = command(*line, "--quiet")
    assert (shown.code, shown.out, shown.err) == (0, "", "")


def test_defaults_are_left_to_the_extraction(command, extraction, line):
    command(*line)
    assert extraction.settings == {
        "method": "budget",
        "effort": "quick",
        "objective": "kl",
        "score_range": "unbounded",
        "seed": 0,
        "controls": True,
        "single_image": False,
    }


def test_every_option_arrives(command, extraction, line):
    more = "--size 10% --effort thorough --objective mse --score-range unit --no-gates --seed 3 --steps 7 --no-controls"
    shown = command(
        *line,
        *more.split(),
        "--device",
        "cpu",
        "--units",
        "filters",
        "hidden",
        "--refit",
        9,
        "--single-image",
    )
    assert shown.code == 0
    assert extraction.settings == {
        "size": 0.1,
        "method": "budget",
        "effort": "thorough",
        "objective": "mse",
        "score_range": "unit",
        "gates": False,
        "seed": 3,
        "steps": 7,
        "controls": False,
        "single_image": True,
        "refit": 9,
        "device": "cpu",
        "units": ("filters", "hidden"),
    }


def test_the_papers_weight_arrives(command, extraction, line):
    assert command(*line, "--method", "paper", "--lam", "0.01").code == 0
    assert (extraction.settings["method"], extraction.settings["lam"]) == ("paper", 0.01)


@pytest.mark.parametrize("classes", [("--classes", *CLASSES), ("--classes", CLASSES[0], "--classes", CLASSES[1])])
def test_several_classes_stand_behind_one_flag_or_two(command, extraction, line, classes):
    assert command(*line, *classes, "--per-class", 1, "--held-out", 1).code == 0
    assert [extraction.task.label_name(label) for label in extraction.task.classes] == list(CLASSES)
    assert (len(extraction.task), len(extraction.task.held_out)) == (2, 2)


def test_the_seed_draws_the_images(command, extraction, line, photos):
    write_shapes(photos, ("blue ringed star",), each=12)
    drawn = []
    for seed in (0, 0, 1):
        assert command(*line, "--classes", "blue ringed star", "--per-class", 4, "--seed", seed, "--force").code == 0
        drawn.append(extraction.task.names)
    assert drawn[0] == drawn[1] != drawn[2]


def test_images_are_prepared_as_the_command_line_says(command, extraction, line):
    command(*line, "--mean", "0", "0", "0", "--std", "1", "1", "1")
    plain = Preprocess((64, 64), (0, 0, 0), (1, 1, 1)).normalise(extraction.task.pixels)
    assert torch.equal(extraction.task.images, plain)


def test_one_target_at_a_time(command, extraction, line):
    shown = command(*line, "--fidelity", "0.1", "--agreement", "0.9")
    assert (shown.code, extraction.settings) == (2, {})
    assert "--fidelity and --agreement cannot be had at once" in shown.err


def test_many_images_are_warned_about(command, extraction, line, monkeypatch):
    monkeypatch.setattr("neurochains.cli.extract._MANY", 3)
    assert "warning: 4 images take long; --per-class 10 draws ten of each class" in command(*line).err


def test_outputs_that_are_no_classes_have_no_labels(command, extraction, line, tmp_path):
    file = tmp_path / "own.py"
    file.write_text("from neurochains.network.bundled import load\ndef vgg(): return load('vgg')\n")
    told = ("--input-size", "64", "--mean", *3 * ["0.5"], "--std", *3 * ["0.25"])
    shown = command(*line, "--model", f"{file}:vgg", *told, "--objective", "cosine")
    assert shown.code == 0
    assert extraction.task.labels is None
    command(*line, "--objective", "cosine", "--force")  # shapes:vgg has class names
    assert extraction.task.labels is not None
