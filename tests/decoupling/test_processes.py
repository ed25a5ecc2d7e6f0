"""Training in two processes, which Lightning starts by running the same script twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

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


@pytest.mark.slow
def test_two_processes_arrive_at_the_same_weights(tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("torch was built without processes that train together")
    (tmp_path / "train.py").write_text(SCRIPT)
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, str(tmp_path / "train.py"), str(tmp_path)]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    first, second = (safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert (tmp_path / "metrics.csv").read_text().count("\n") == 3
