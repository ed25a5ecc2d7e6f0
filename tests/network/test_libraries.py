from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
import torch

from neurochains.errors import ModelError
from neurochains.network.libraries import import_library, import_torchvision

# A torchvision whose import dies as the CUDA build's does beside a CPU build of torch.
HALF_INSTALLED = """
import torch
import torchvision.early
@torch.library.register_fake("torchvision::nms")
def fake(dets, scores, iou_threshold):
    return dets
state = "whole"
"""


def run(code: str, folder) -> str:
    environment = {"PYTHONPATH": str(folder), "PATH": ""}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


def test_missing_operators_of_torchvision_are_declared(tmp_path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "early.py").write_text("imports = 1\n")
    (package / "__init__.py").write_text(HALF_INSTALLED)
    broken = "import torchvision"
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(broken, tmp_path)
    assert "operator torchvision::nms does not exist" in error.value.stderr
    code = (
        "from neurochains.network.libraries import import_torchvision as load\n"
        "print(load().state, load().early.imports, load() is load())"
    )
    assert run(code, tmp_path) == "whole 1 True"


def test_another_fault_in_torchvision_is_reported(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('libcudart is gone')")
    code = (
        "from neurochains.network.libraries import import_torchvision\n"
        "from neurochains.errors import ModelError\n"
        "try:\n    import_torchvision()\nexcept ModelError as error:\n    print(error)"
    )
    assert run(code, tmp_path).startswith("torchvision is installed but cannot be imported (libcudart is gone).")


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed")
def test_torchvision_and_its_classifiers_work():
    models = import_torchvision().models
    model = models.get_model("squeezenet1_1", weights=None, num_classes=3).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_a_missing_library_says_how_to_install_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=rf"needs {name}.*pip install 'neurochains\[zoo\]'"):
        import_library(name)
