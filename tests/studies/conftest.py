"""A small network in a file of its own, pictures of four classes, and a plan for them that takes no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurochains.studies.runner import Runner

CLASSES = ("ant", "bee", "cat", "dog")
NETS = """
from pathlib import Path
import torch
from torch import nn
from neurochains.preprocess import Preprocess

preprocess = Preprocess((12, 12), (0.5,) * 3, (0.5,) * 3)
class_names = ("ant", "bee", "cat", "dog")

def small(width=6, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 4),
    )

def narrow():
    print("what a model's own code prints is no result")
    return small(4, seed=1)

def broken():
    raise ValueError("no weights here")

def deadly():
    import os
    os._exit(3)
"""


def write_world(folder: Path, each: int = 6) -> Path:
    """Write the network's file and the pictures, `folder/images/CLASS/N.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nets.py").write_text(NETS)
    dice = np.random.default_rng(0)
    for place, name in enumerate(CLASSES):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(each):
            pixels = dice.integers(0, 60, (12, 12, 3))
            pixels[:, :, place % 3] += 40 * (1 + place)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "images" / name / f"{number}.png")
    return folder


def plan_of(**changes: Any) -> dict[str, Any]:
    """Return a plan of one model, one pair, and four methods of one size."""
    paper = {"method": "paper", "steps": 2, "refit": 1}
    plan = {
        "name": "small",
        "models": [{"model": "nets.py:small", "name": "small"}],
        "tasks": [{"images": "images", "pairs": [["ant", "bee"]], "per_class": 3, "held_out": 2}],
        "methods": [
            {**paper, "size": 7},
            {"method": "magnitude", "like": "paper"},
            {"method": "random", "like": "paper", "scope": "network"},
        ],
    }
    return {**plan, **changes}


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """Return the folder of the network and the pictures, which is where the test runs."""
    write_world(tmp_path / "world")
    monkeypatch.chdir(tmp_path / "world")
    return tmp_path / "world"


class Inline:
    """An engine in this process: a job is run when it is handed in."""

    capacity = 2

    def __init__(self, root: Path, *, workers: int | None = None, device: str | None = None) -> None:
        self.runner = Runner(root, device=device)
        self.jobs: list[dict[str, Any]] = []
        self.results: list[dict[str, Any]] = []
        self.stopped = False

    def submit(self, job: dict[str, Any]) -> None:
        self.jobs.append(job)
        self.results.append(self.answer(json.loads(json.dumps(job))))

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        return self.runner.run(job)

    def collect(self, timeout: float) -> list[dict[str, Any]]:
        found, self.results = self.results, []
        return found

    def stop(self) -> None:
        self.stopped = True


def answer_of(job: dict[str, Any], size: int = 3) -> dict[str, Any]:
    """Return a made-up result of a job."""
    number = int(job["id"][:6], 16)
    filters = {
        "layer": ["0"] * size,
        "label": [f"L0_{i}" for i in range(size)],
        "index": list(range(size)),
        "score": [0.5 + i + (number % 7) / 7 for i in range(size)],
        "divergence": [0.1] * size,
        "drop": [0.01 * (i + number % 3) for i in range(size)],
        "moved": [0.2 + i for i in range(size)],
        "changed": [0.0] * size,
    }
    row = {
        "filters": size,
        "of": 12,
        "layers": 1,
        "layers_of": 2,
        "kl": 0.01 + number % 200 / 100,
        "drop": number % 11 / 50,
        "agreement": 1.0,
        "seconds": 2.0,
        "image_quotient": [1.0, 0.9, -0.1, None],
        "held_out_agreement": number % 5 / 5,
        "skipped": [],
        "refit": 1,
    }
    return {"id": job["id"], "status": "done", "row": row, "filters": filters, "digest": "d", "seconds_case": 2.5}


class Made(Inline):
    """An engine that makes results up; ids in `failing` fail."""

    failing: frozenset[str] = frozenset()

    def answer(self, job: dict[str, Any]) -> dict[str, Any]:
        if job["id"] in self.failing:
            return {"id": job["id"], "status": "failed", "error_type": "ModelError", "error": "no", "seconds_case": 0.1}
        return answer_of(job)


@pytest.fixture
def engines(monkeypatch) -> Any:
    """Return the function that puts an engine of this process in the place of the local one."""
    made: list[Inline] = []

    def use(kind: type[Inline]) -> list[Inline]:
        def start(root: Path, **options: Any) -> Inline:
            made.append(kind(root, **options))
            return made[-1]

        monkeypatch.setattr("neurochains.studies.run.LocalEngine", start)
        return made

    return use


def shapes_plan(pairs: int, **changes: Any) -> dict[str, Any]:
    """Return a plan of as many pairs of shapes, three methods each; nothing is read for it."""
    methods = [{"method": "budget"}, {"method": "magnitude", "like": "budget"}, {"method": "random", "like": "budget"}]
    tasks = [{"shapes": True, "pairs": pairs}]
    return {"models": ["shapes:vgg"], "tasks": tasks, "methods": methods, **changes}
