"""Training in two processes, which Lightning starts by running the same script twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.cli.conftest import write_shapes
from tests.cli.test_decouple import OWN

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys, torch
from safetensors.torch import save_file
from tests.decoupling.conftest import Tiny
from neurochains.decoupling import TrainSettings, decouple, train_decoupled

if __name__ == "__main__":
    torch.manual_seed(0)
    model = Tiny().eval()
    labels = torch.arange(45) % 3
    images = torch.randn(45, 3, 12, 12) * 0.5
    images[torch.arange(45), labels] += 1.0
    settings = TrainSettings(epochs=2, batch=6, lr=0.05, accelerator="cpu", devices=2, strategy="ddp")
    made = train_decoupled(decouple(model, images[:2]), (images, labels), 0.2, settings=settings, out=sys.argv[1])
    rank = os.environ.get("LOCAL_RANK", "0")
    save_file(dict(made.named_parameters()), f"{sys.argv[1]}/{rank}.safetensors")
"""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without several processes"),
]


def run(*words: str) -> str:
    """Return what Python prints."""
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_processes_arrive_at_the_same_weights(tmp_path):
    (tmp_path / "train.py").write_text(SCRIPT)
    run(str(tmp_path / "train.py"), str(tmp_path))
    first, second = (safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3


def test_the_command_line_saves_and_prints_once(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    photos = write_shapes(tmp_path / "photos", each=8)
    prepared = "--input-size 16 --mean 0.5 0.5 0.5 --std 0.5 0.5 0.5 --val-share 0.25".split()
    several = "--epochs 1 --batch 4 --accelerator cpu --devices 2 --strategy ddp --json".split()
    given = ("-m", f"{tmp_path / 'own.py'}:tiny", "-i", str(photos), "-o", str(tmp_path / "run"))
    (tmp_path / "command.py").write_text("from neurochains.cli.app import main\n\nmain()\n")
    printed = run(str(tmp_path / "command.py"), "decouple", "train", *given, *prepared, *several)
    assert json.loads(printed)["epoch"] == 1
    assert (tmp_path / "run" / "network" / "decoupled.json").exists()
