from __future__ import annotations

import json

import pytest

from neurochains.network.parity import Parity

OWN_MODEL = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


@pytest.fixture
def own(tmp_path) -> str:
    """Return the name of a grey model that says nothing about its input."""
    file = tmp_path / "own.py"
    file.write_text(OWN_MODEL)
    return f"{file}:small"


def test_a_bundled_network_is_understood(command):
    shown = command("doctor", "--model", "shapes:vgg")
    assert (shown.code, shown.err) == (0, "")
    for text in (
        "L18",
        "features.18",
        "3x3",
        "520 and 64 hidden units",
        "34,120",
        "without a rule",
        "of the logit range",
    ):
        assert text in shown.out


def test_json_has_it_all(command):
    found = json.loads(command("doctor", "--model", "shapes:resnet", "--json").out)
    assert found["filters"] == 1368
    assert found["layers"][0]["name"] == "conv1"
    assert found["traced"]["difference"] < 1e-5
    assert found["without_rule"] == {}


def test_random_weights_are_others(command):
    digest = [command("doctor", "-m", "shapes:vgg", "--json", *more).out for more in ((), ("--random-weights",))]
    assert digest[0] != digest[1]


def test_ones_own_model_needs_an_input_size(command, own):
    shown = command("doctor", "--model", own)
    assert shown.code == 2
    assert "does not say how large its input is. Give it: --input-size 224 or 1x28x28" in shown.err
    shown = command("doctor", "--model", own, "--input-size", "1x12x14")
    assert shown.code == 0
    assert "1 x 12 x 14" in shown.out


def test_a_difference_fails_after_it_was_shown(command, monkeypatch):
    monkeypatch.setattr("neurochains.edit.doctor.measure_parity", lambda *_: Parity(1.0, 10.0))
    shown = command("doctor", "--model", "shapes:vgg")
    assert shown.code == 1
    assert "differ by 1, 0.1 of the logit range" in shown.out
    assert "error: The rewritten network differs from the original by 1" in shown.err


def test_weights_and_random_weights_exclude_each_other(command, tmp_path):
    shown = command("doctor", "-m", "shapes:vgg", "--random-weights", "--weights", tmp_path / "w.safetensors")
    assert (shown.code, shown.out) == (2, "")
    assert "--weights and --random-weights cannot be had at once" in shown.err


def test_a_device_that_is_not_there_is_named(command):
    shown = command("doctor", "-m", "shapes:vgg", "--device", "nonsense")
    assert shown.code == 2
    assert "There is no device 'nonsense' here" in shown.err


def test_what_a_users_file_prints_stays_off_stdout(command, own, tmp_path):
    (tmp_path / "own.py").write_text(f"print('loading')\n{OWN_MODEL}")
    shown = command("doctor", "--model", own, "--input-size", "1x12x12", "--json")
    assert shown.err == "loading\n"
    assert json.loads(shown.out)["model"] == "Sequential"
