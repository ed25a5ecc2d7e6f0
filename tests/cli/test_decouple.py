from __future__ import annotations

import json

import pytest
import torch
from tests.cli.conftest import write_shapes

from neurochains.cli.decouple_train import _kept
from neurochains.errors import SettingsError

OWN = """
import torch
from torch import nn


def tiny():
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
    )
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return f"{tmp_path / 'own.py'}:tiny"


def train(command, own, photos, out, *more):
    prepared = ("--input-size", 16, "--mean", 0.5, 0.5, 0.5, "--std", 0.5, 0.5, 0.5)
    basics = ("--epochs", 2, "--batch", 4, "--val-share", 0.25, "--accelerator", "cpu", "--kept", "0.5")
    return command("decouple", "train", "-m", own, "-i", photos, "-o", out, *prepared, *basics, *more)


def test_a_training_and_what_can_be_asked_of_it(command, own, tmp_path):
    photos, out = write_shapes(tmp_path / "more", each=8), tmp_path / "run"
    done = train(command, own, photos, out, "--json", "--crop", 1, "--hard", 0.5)
    assert done.code == 0, done.err
    assert json.loads(done.out)["epoch"] == 2
    assert "epoch 2/2: loss" in done.err
    assert (out / "metrics.csv").exists()
    assert any('"hard": 0.5' in path.read_text() for path in (out / "network").glob("*.json"))
    again = train(command, own, photos, out)
    assert again.code == 2
    assert "holds a finished training already" in again.err
    asked = ("-i", photos, "--model", own)
    shown = command("decouple", "eval", out, *asked)
    assert shown.code == 0, shown.err
    assert "16 images" in shown.out
    assert "MACs an image, controllers included" in shown.out


@pytest.mark.slow
def test_the_network_of_the_package(command, tmp_path):
    found = command("decouple", "eval", "shapes:resnet", "--per-class", 2, "--json")
    assert found.code == 0, found.err
    values = json.loads(found.out)
    assert values["images"] == 32
    assert values["accuracy"] > 0.9
    shown = command("decouple", "states", "shapes:resnet", "--per-class", 2, "--out", tmp_path / "figures")
    assert "layer1.0.conv1" in shown.out
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "states.svg", "states.png", "frequencies.svg", "frequencies.png"
    }  # fmt: skip
    timed = command("decouple", "bench", "shapes:resnet", "--repeats", 1, "--json")
    assert json.loads(timed.out)["difference"] < 1e-4


def test_shares_to_keep():
    assert _kept(None) == 0.0
    assert _kept(["0.6"]) == 0.6
    assert _kept(["conv1=0.6", "conv2=0.5"]) == {"conv1": 0.6, "conv2": 0.5}
    with pytest.raises(SettingsError, match=r"--kept takes one share, such as 0\.6, or LAYER=SHARE"):
        _kept(["conv1"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("states", "runs/none", "-i", "photos"), "holds no decoupled"),
        (("eval", "shapes:resnt"), "Did you mean shapes:resnet"),
        (("eval", "runs/none", "--weights", "a.pt"), "say nothing without --model"),
    ],
)
def test_messages(command, words, message):
    done = command("decouple", *words)
    assert done.code == 2
    assert message in done.err
    assert torch.is_grad_enabled()
