"""Models that need no library: the bundled ones, and what a function in the user's own file builds."""

from __future__ import annotations

import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from neurochains.errors import ModelError, ModelNameError, did_you_mean
from neurochains.network.info import ModelInfo
from neurochains.network.sources.request import Built, Request, check_known, seeded
from neurochains.preprocess import Preprocess

__all__ = ["from_file", "from_package", "is_file_name"]

_FILE_NAME = re.compile(r"(?P<path>.+\.py)(?::(?P<factory>\w*))?")


def is_file_name(name: str) -> bool:
    """Return whether a model name is ``path/to/file.py`` or ``path/to/file.py:function``."""
    return _FILE_NAME.fullmatch(name) is not None


def from_package(request: Request) -> Built:
    """Return a bundled network; the spec is ``vgg`` or ``resnet``.

    Raises:
        ModelNameError: no bundled network has this name; lists them.
    """
    from neurochains.network import bundled  # here, because it describes its networks with `ModelInfo`

    check_known(request.spec, bundled.names(), "shapes:")
    info = bundled.info(request.spec)
    if request.pretrained:
        return bundled.load(request.spec), info
    with seeded():
        return bundled.build(request.spec), replace(info, weights="random")


def from_file(request: Request) -> Built:
    """Return what a function in a Python file builds; the spec is ``path/to/file.py:factory``.

    The file is executed, with its folder importable. The factory is called without arguments and returns a module, or
    (module, `Preprocess`). ``preprocess`` and ``class_names`` in the file describe the model. Random weights are the
    same every time.

    Raises:
        ModelNameError: no such file, or no such function in it; lists the nearest.
        ModelError: the user's code fails (says where), or returns something else.
    """
    path, factory = _parsed(request.spec)
    with seeded(), _importable(path.parent):
        module_of_file = _executed(path)
        made = _called(_factory(module_of_file, factory, path), path)
    module, preprocess = _checked(made, getattr(module_of_file, "preprocess", None), request.name)
    names = _class_names(module_of_file, request.name)
    return module, ModelInfo(request.name, preprocess, names, weights=f"as {path.name}:{factory} made them")


def _class_names(module: ModuleType, name: str) -> tuple[str, ...] | None:
    names = getattr(module, "class_names", None)
    if names is not None and (isinstance(names, str) or not all(isinstance(each, str) for each in names)):
        raise ModelError(f"The class_names of {name} must be a list of strings, one for each output.")
    return None if names is None else tuple(names)


def _parsed(spec: str) -> tuple[Path, str]:
    match = _FILE_NAME.fullmatch(spec)
    if match is None or not match["factory"]:
        raise ModelNameError(f"{spec} does not say which function builds the model: write path/to/file.py:function.")
    path = Path(match["path"]).expanduser()
    if not path.is_file():
        raise ModelNameError(f"There is no file {path}. A model from your own code is named path/to/file.py:function.")
    return path, match["factory"]


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Inside, modules in ``folder`` can be imported, as when a script in it runs."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def _executed(path: Path) -> ModuleType:
    name = f"_neurochains_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} cannot be imported as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's code may raise anything
        del sys.modules[name]
        raise ModelError(f"{_place(error, path)} while it was imported.") from error
    return module


def _factory(module: ModuleType, name: str, path: Path) -> Callable[[], Any]:
    factory = getattr(module, name, None)
    if not callable(factory):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ModelNameError(f"{path} has no function {name}. {did_you_mean(name, known)}".rstrip())
    return factory


def _called(factory: Callable[[], Any], path: Path) -> Any:
    try:
        return factory()
    except Exception as error:  # the user's code may raise anything
        raise ModelError(f"{_place(error, path)} while it built the model.") from error


def _place(error: Exception, path: Path) -> str:
    """Return "file.py, line 3, raised ValueError: ...", with the innermost line of that file."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == path.name]
    line = lines[-1] if lines else getattr(error, "lineno", None)  # a SyntaxError has no frame
    return f"{path}{f', line {line},' if line else ''} raised {type(error).__name__}: {error}"


def _checked(made: Any, preprocess: Any, name: str) -> tuple[nn.Module, Preprocess | None]:
    """Return (module, pre-processing) from what a factory returned; the file's own pre-processing comes second."""
    module, own = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    preprocess = preprocess if own is None else own
    if not isinstance(module, nn.Module):
        raise ModelError(f"{name} must return a torch.nn.Module, or (module, Preprocess); got {type(module).__name__}.")
    if preprocess is not None and not isinstance(preprocess, Preprocess):
        raise ModelError(f"The pre-processing of {name} must be a Preprocess; got {type(preprocess).__name__}.")
    return module, preprocess
