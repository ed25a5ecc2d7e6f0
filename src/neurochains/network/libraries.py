"""Importing the model libraries, which are optional: torchvision, timm, transformers."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from types import ModuleType

import torch

from neurochains.errors import ModelError

__all__ = ["import_library", "import_torchvision"]

# What torchvision's Python code expects its compiled library to have declared by the time it is imported.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # an operator lives as long as the library that declared it


def import_library(name: str) -> ModuleType:
    """Return the imported library ``name``; timm and transformers import torchvision, so that is repaired first.

    Raises:
        ModelError: the library is not installed, or cannot be imported; says how to install it.
    """
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()
    return _imported(name)


def import_torchvision() -> ModuleType:
    """Return torchvision, also where its compiled operators do not match the installed torch.

    A CUDA build of torchvision beside a CPU build of torch dies with "operator torchvision::nms does not exist".
    Classification networks use none of its compiled operators; the missing ones are declared, without a kernel, and
    the import goes on. Calling them still fails.

    Raises:
        ModelError: torchvision is not installed, or cannot be imported for another reason.
    """
    try:
        return _imported("torchvision")
    except ModelError as error:
        if _declared or "operator torchvision::" not in str(error.__cause__):
            raise
    _forget("torchvision")
    _declare_operators()
    return _imported("torchvision")


def _imported(name: str) -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Failed to load image Python extension")
            return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise ModelError(_import_message(name, error)) from error


def _import_message(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == name:
        return f"This model needs {name}, which is not installed. Install it with: pip install 'neurochains[zoo]'"
    return (
        f"{name} is installed but cannot be imported ({error}). Install a version that fits torch {torch.__version__}."
    )


def _forget(name: str) -> None:
    """Drop a library whose import broke off, so that the next import starts afresh."""
    for module in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[module]


def _declare_operators() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")
    _declared.append(library)
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.partition("(")[0]):
            library.define(schema)
