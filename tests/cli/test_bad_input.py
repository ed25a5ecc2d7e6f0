"""Bad input, each kind through the command line: a clear error that names the thing and the remedy, and no files."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import neurochains as nc
from neurochains.data.shapes import draw
from neurochains.errors import DataError, ModelError
from neurochains.network import load_model

from .conftest import CLASSES, FakeExtraction, Outcome

DISC, STAR = CLASSES

OWN_MODELS = """
import torch
from torch import nn
from neurochains.shapes_spec import PREPROCESS as preprocess

class Tiny(nn.Module):
    def __init__(self, outputs=16):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.mix = nn.Conv2d(8, 8, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, outputs)

    def forward(self, images):
        maps = torch.relu(self.mix(torch.relu(self.mix(torch.relu(self.conv(images))))))
        return self.head(self.drop(maps.mean((2, 3))))

class Branching(Tiny):
    def forward(self, images):
        if images.mean() > 0:
            images = -images
        return super().forward(images)

def training():
    return Tiny().train()

def reusing():
    return Tiny().eval()

def branching():
    return Branching()

def lone():
    return Tiny(outputs=1)

def failing():
    return Tiny(outputs=None)
"""


@pytest.fixture
def own(tmp_path) -> str:
    """Return the name of a file of one's own models, to which `:FUNCTION` is added."""
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "own.py").write_text(OWN_MODELS)
    return str(folder / "own.py")


@pytest.fixture
def attempt(command, photos, tmp_path):
    """Return the function that extracts from photos with some options changed."""

    def run(**options: object) -> Outcome:
        chosen = {"model": "shapes:vgg", "images": photos, "out": tmp_path / "out" / "run", **options}
        pairs = [(f"--{name.replace('_', '-')}", value) for name, value in chosen.items()]
        return command("extract", *[word for pair in pairs for word in pair if word is not True])

    return run


@pytest.fixture
def refused(attempt, tmp_path):
    """Return the function that checks that an attempt is refused with a message of these words, and leaves nothing."""

    def check(*words: str, **options: object) -> None:
        before = set(tmp_path.rglob("*"))
        shown = attempt(**options)
        assert (shown.code, shown.out) == (2, "")
        message = shown.err[shown.err.index("error: ") :]
        assert not [word for word in words if word not in message], message
        assert "Traceback" not in shown.err
        assert set(tmp_path.rglob("*")) - before == set()

    return check


def test_good_input_is_accepted(attempt, extraction, tmp_path):
    assert attempt().code == 0
    assert (tmp_path / "out" / "run" / "chain.json").is_file()


# images and classes


def test_a_folder_that_is_missing_has_a_neighbour(refused, tmp_path):
    refused("there is no folder", "Did you mean photos?", images=tmp_path / "fotos")


def test_an_empty_folder(refused, tmp_path):
    (tmp_path / "new").mkdir()
    refused(str(tmp_path / "new"), "it is empty. Put images", images=tmp_path / "new")


def test_a_folder_without_images(refused, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    refused("it holds only 1 files with .txt", "Convert them to JPEG or PNG", images=tmp_path / "texts")


def test_a_file_for_a_folder(refused, photos):
    refused("is a file", "Unpack an archive first", images=photos / DISC / "0.png")


def test_a_class_that_no_one_knows(refused):
    refused("red striped disk", "Did you mean red striped disc", classes="red striped disk")


def test_a_class_that_the_folder_has_not(refused, photos):
    refused(
        "'blue ringed star' is output", str(photos), "holds 2 classes: red striped disc", classes="blue ringed star"
    )


def test_a_folder_that_means_no_class(refused, photos):
    (photos / DISC).rename(photos / "holiday")
    refused("'holiday'", "Rename them, list the right ones with classes=")


def test_too_few_images(refused):
    refused("Wanted 3 images", "but found 2", "ask for fewer", per_class=3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ("is empty (0 bytes)", "export it again, or remove it")),
        (b"this is no image", ("is no image of a known format", "Convert it to PNG, or remove it")),
    ],
)
def test_a_corrupt_image(refused, photos, data, words):
    (photos / DISC / "0.png").write_bytes(data)
    refused(str(photos / DISC / "0.png"), *words)


def test_a_truncated_image(refused, photos):
    file = photos / STAR / "1.png"
    file.write_bytes(file.read_bytes()[:-900])
    refused(str(file), "corrupt or truncated", "Fetch or export it again, or remove it")


def test_a_decompression_bomb(refused, photos):
    Image.new("1", (9_000, 8_000)).save(photos / DISC / "0.png")
    refused("0.png declares 9000 x 8000 = 72,000,000 pixels", "at most 64,000,000", "Save it smaller")


def test_an_animated_image(refused, photos):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(photos / DISC / "9.gif", save_all=True, append_images=frames[1:])
    refused("9.gif holds 2 frames; a still image is wanted", "Export the one frame you mean")


def test_grey_transparent_and_deep_images_are_converted(attempt, extraction: FakeExtraction, photos):
    for file in photos.rglob("*.png"):
        file.unlink()
    pixels = draw(0, split="test", label=DISC).pixels.transpose(1, 2, 0)
    grey = Image.fromarray(pixels).convert("L")
    grey.save(photos / DISC / "grey.png")
    Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(photos / DISC / "deep.png")
    Image.fromarray(pixels).convert("RGBA").save(photos / STAR / "clear.png")
    assert attempt().code == 0
    names = [Path(name).stem for name in extraction.task.names]
    found = dict(zip(names, extraction.task.pixels, strict=True))
    assert torch.equal(found["grey"], found["deep"])
    assert torch.equal(found["clear"], torch.from_numpy(pixels.copy()).permute(2, 0, 1))


def test_pixels_that_are_not_finite():
    with pytest.raises(DataError, match=r"1 of 3 images hold NaN or infinity: 1\. Remove them, or prepare them again"):
        nc.Task(torch.stack([torch.zeros(3, 8, 8), torch.full((3, 8, 8), torch.inf), torch.zeros(3, 8, 8)]))


# models and weights


def test_a_model_name_that_means_nothing(refused):
    refused("No model is called", "Did you mean", "shapes:vgg", model="shape:vgg")


def test_a_file_that_fails(refused, own):
    refused("own.py, line", "raised TypeError", "while it built the model", model=f"{own}:failing")


def test_a_model_that_cannot_be_exported_names_the_line(refused, own):
    refused("torch.export cannot follow Branching", "own.py:20: if images.mean() > 0:", model=f"{own}:branching")


def test_a_file_is_put_into_eval_mode_but_a_module_is_the_users(attempt, extraction, own):
    assert attempt(model=f"{own}:training").code == 0
    model = load_model(f"{own}:training").train()
    with pytest.raises(
        ModelError, match=r"The model is in training mode: drop \(Dropout\).* Call model\.eval\(\) first"
    ):
        nc.Network.trace(model, torch.zeros(1, 3, 64, 64))


def test_a_reused_module_is_two_layers(command, own):
    shown = command("doctor", "--model", f"{own}:reusing")
    assert shown.code == 0
    assert "mix@1" in shown.out
    assert "Reused modules, each call a layer of its own: mix" in shown.out


def weights_file(tmp_path: Path, **changes: torch.Tensor | None) -> Path:
    state = {
        **load_model("shapes:vgg").state_dict(),
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    file = tmp_path / "w.safetensors"
    save_file({name: value.clone() for name, value in state.items() if value is not None}, file)
    return file


def test_weights_that_are_not_finite(refused, tmp_path):
    file = weights_file(tmp_path, features__3__bias=torch.full((32,), torch.nan))
    refused("NaN or infinite values in 1 weight tensors: features.3.bias", "load sound weights", weights=file)


def test_weights_that_do_not_fit(refused, tmp_path):
    file = weights_file(tmp_path, features__3__bias=None, extra=torch.zeros(1), classifier__0__bias=torch.zeros(7))
    refused(
        "do not fit shapes:vgg",
        "missing (1): features.3.bias",
        "unexpected (1): extra",
        "of another shape (1): classifier.0.bias wants (64,), got (7,)",
        weights=file,
    )


def test_weights_that_are_missing(refused, tmp_path):
    refused("There is no weights file", "w.pt", weights=tmp_path / "w.pt")


def test_a_pickle_needs_trust(refused, attempt, extraction, tmp_path):
    file = tmp_path / "w.pt"
    torch.save({"state_dict": load_model("shapes:vgg").state_dict(), "args": argparse.Namespace(lr=0.1)}, file)
    refused("runs code from the file", "--trust-pickle", weights=file)
    assert attempt(weights=file, trust_pickle=True).code == 0


def test_fewer_outputs_than_classes(refused, own):
    refused(
        "Wanted labels below 1, the number of outputs of the network, but 1 is among them",
        "a model with an output for each class",
        model=f"{own}:lone",
    )


def test_an_unknown_pre_processing(refused, own, tmp_path):
    file = tmp_path / "models" / "own.py"
    file.write_text(OWN_MODELS.replace("PREPROCESS as preprocess", "PREPROCESS"))
    refused("does not say how its images are prepared", "--input-size, --mean and --std", model=f"{own}:reusing")


# the task and the goal


def test_a_task_of_one_image(refused):
    refused("The task has one image", "--single-image", classes=DISC, per_class=1)


def test_a_fidelity_that_cannot_be_reached(refused):
    refused("The smallest divergence that was reached is", "Ask for a larger one", fidelity=1e-12, score_range="binary")


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ({"fidelity": -1}, "A fidelity is a divergence above 0, such as 0.05; got -1.0"),
        ({"fidelity": "nan"}, "A fidelity is a divergence above 0, such as 0.05; got nan"),
        ({"agreement": 1.5}, "An agreement is a share of predictions above 0, at most 1; got 1.5"),
        ({"size": "521"}, "The network has 520 scored filters; a size is 1 to 520, got 521"),
        ({"size": "120%"}, "A size as a fraction is above 0, at most 1; got 1.2"),
        ({"size": "few"}, "--size must be a number of filters (150) or a share of them (0.1, 10%); got 'few'"),
    ],
)
def test_a_goal_that_is_none(refused, goal, words):
    refused(words, **goal)


# places


def test_an_output_folder_that_exists(refused, saved):
    refused("saved exists already", "--force", out=saved)


def test_no_space_left(attempt, extraction, saved, monkeypatch, tmp_path):
    before = {path: path.read_bytes() for path in saved.iterdir()}

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    for out in (saved, tmp_path / "run"):
        shown = attempt(out=out, force=True)
        assert shown.code == 2
        assert f"No space left to save {out}" in shown.err
        assert "Make room, or choose a folder on another disk" in shown.err
    assert {path: path.read_bytes() for path in saved.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "saved"]


def test_no_space_left_for_a_report(command, saved, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "report.html")

    monkeypatch.setattr("neurochains.report.write_report", full)
    shown = command("report", saved)
    assert (shown.code, shown.out) == (2, "")
    assert "There is no space left for report.html" in shown.err
