"""`neurochains decouple paths | tree | concepts | detect` on a small decoupled network whose gates open and shut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.cli.conftest import write_shapes
from torch import nn

from neurochains.decoupling import decouple
from neurochains.network import load_model


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """Return the folder of a decoupled shapes:vgg, one layer of which follows what it sees."""
    torch.manual_seed(0)
    made = decouple(load_model("shapes:vgg"), torch.zeros(2, 3, 64, 64))
    last = list(made.controllers.values())[-1]
    nn.init.normal_(last.expand.weight, std=2.0)
    return made.save(tmp_path_factory.mktemp("decoupled") / "network")


def test_paths_of_classes_and_their_figures(command, network, photos, tmp_path):
    outcome = command("decouple", "paths", network, "--images", photos, "--out", tmp_path / "figures", "--json",
                      "--projection", "pca")  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["images"] == 4
    assert {row["name"] for row in found["classes"]} == {"red striped disc", "red striped star"}
    assert {Path(file).name for file in found["files"]} >= {"paths.png", "plane.svg", "use.png", "distances.svg"}
    assert all(Path(file).stat().st_size for file in found["files"])


def test_paths_as_text(command, network, photos):
    outcome = command("decouple", "paths", network, "--images", photos)
    assert outcome.code == 0, outcome.err
    assert "red striped disc" in outcome.out
    assert "different paths of 4 images" in outcome.out


def test_the_tree_of_few_images_is_one_node(command, network, photos, tmp_path):
    outcome = command("decouple", "tree", network, "--images", photos, "--out", tmp_path / "figures")
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("4 images: red striped disc 50%, red striped star 50%")
    assert (tmp_path / "figures" / "tree.svg").exists()


def test_concepts_of_boxes(command, network, photos):
    outcome = command("decouple", "concepts", network, "--images", photos, "--parts", "left=0,0,64,32",
                      "middle=16,16,48,48", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["parts"] == ["left", "middle"]


def test_detection(command, network, tmp_path):
    photos = write_shapes(tmp_path / "photos", each=6)
    outcome = command("decouple", "detect", network, "--images", photos, "--attacks", "fgsm", "--eps", "48/255",
                      "--seeds", 1, "--out", tmp_path / "figures", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert found["settings"]["eps"] == pytest.approx(48 / 255)
    assert {row["features"] for row in found["rows"]} == {"paths", "random gates", "activations", "confidence"}
    assert "images: fgsm" in outcome.err
    assert (tmp_path / "figures" / "cross.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["concepts", "--parts", "left=1,2"], "such as eye=10,12,20,30; got 'left=1,2'"),
        (["concepts"], "Say which parts: --parts NAME=TOP,LEFT,BOTTOM,RIGHT"),
        (["detect", "--eps", "much"], "such as 0.03 or 8/255; got 'much'"),
        (["detect", "--attacks", "fgms"], "No attack is called 'fgms'"),
        (["tree", "--least", "2"], "least from .5 to 1; got 10 and 2.0"),
        (["paths", "--projection", "tsne"], "A projection is one of auto, umap, pca; got 'tsne'"),
    ],
)
def test_bad_input(command, network, photos, tmp_path, words, message):
    outcome = command("decouple", words[0], network, "--images", photos, "--out", tmp_path / "figures", *words[1:])
    assert outcome.code == 2
    assert message in outcome.err
