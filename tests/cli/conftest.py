"""The command line in this process, image folders to give it, and an extraction that takes no time."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from neurochains.chains import Chain, Scores
from neurochains.cli.app import run
from neurochains.data import Task
from neurochains.data.shapes import draw
from neurochains.extraction import Progress
from neurochains.network import Network, load_model

CLASSES = ("red striped disc", "red striped star")


@dataclass(frozen=True)
class Outcome:
    """What a command line ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys) -> Callable[..., Outcome]:
    """Return the function that runs a command line as `neurochains` does."""

    def invoke(*args: object) -> Outcome:
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        return Outcome(code, *capsys.readouterr())

    return invoke


def write_shapes(folder: Path, classes: tuple[str, ...] = CLASSES, each: int = 2) -> Path:
    """Write images of the shapes data as `folder/CLASS/NUMBER.png`."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = draw(number, split="test", label=name).pixels
            Image.fromarray(pixels.transpose(1, 2, 0)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    """Return a folder of two classes with two images each."""
    return write_shapes(tmp_path / "photos")


METRICS: dict[str, Any] = {
    "filters": 260,
    "of": 520,
    "layers": 8,
    "layers_of": 8,
    "macs": 12_650_000,
    "macs_of": 50_603_008,
    "parameters": 90_000,
    "parameters_of": 333_280,
    "images": 4,
    "divergence": 0.041,
    "kl": 0.041,
    "kl_median": 0.03,
    "agreement": 1.0,
    "drop": 0.02,
    "quotient_negative": 0.0,
    "quotient_median": float("nan"),
    "accuracy": None,
    "seconds": 75.0,
    "parity": 1.2e-7,
    "controls": {"random_global": {"kl": 3.5, "agreement": 0.5}},
}


@dataclass
class FakeExtraction:
    """Stands in for `neurochains.extraction.extract`: keeps every second filter, and remembers what it was asked."""

    settings: dict[str, Any] = field(default_factory=dict)
    task: Task | None = None
    error: BaseException | None = None

    def __call__(self, model: torch.nn.Module, task: Task, *, progress: Any = None, **settings: Any) -> Chain:
        self.task, self.settings = task, settings
        if progress is not None:
            progress(Progress("pruning", 1, 2, 0.04, 260, 3.0))
        if self.error is not None:
            raise self.error
        network = Network.trace(model, task.images[:1])
        halves = {layer.name: torch.arange(layer.units) % 2.0 for layer in network.scored()}
        return Chain(network, task, Scores(halves), settings=settings, metrics=dict(METRICS))


@pytest.fixture
def extraction(monkeypatch) -> FakeExtraction:
    """Return the extraction that takes the place of the real one."""
    fake = FakeExtraction()
    monkeypatch.setattr("neurochains.extraction.extract", fake)
    return fake


@pytest.fixture(scope="session")
def saved_once(tmp_path_factory) -> Path:
    """Return the folder of a chain that is saved once for all tests; none of them may change it."""
    chain = FakeExtraction()(load_model("shapes:vgg"), Task.shapes(4, classes=CLASSES), seed=0, method="budget")
    return chain.save(tmp_path_factory.mktemp("chains") / "saved")


@pytest.fixture
def saved(saved_once, tmp_path) -> Path:
    """Return the folder of a saved chain of shapes:vgg, a test's own."""
    return Path(shutil.copytree(saved_once, tmp_path / "saved"))
