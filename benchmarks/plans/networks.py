"""The CIFAR-10 networks of the shared data as `load_model` takes them: ``networks.py:resnet20`` and ``resnet56``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import nn

from neurochains.preprocess import Preprocess

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

preprocess = Preprocess((32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
class_names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def resnet20() -> nn.Module:
    """Return ResNet-20 with its weights."""
    return _loaded("resnet20")


def resnet56() -> nn.Module:
    """Return ResNet-56 with its weights."""
    return _loaded("resnet56")


def _loaded(name: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location("shared_nets", DATA / "nets.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(DATA / "nets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name, str(DATA))
