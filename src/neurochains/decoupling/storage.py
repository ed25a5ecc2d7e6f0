"""Decoupled networks on disk: a folder with a JSON document and the tensors, or one of those in the package.

What is saved: which layers are controlled, the weights of the copy and of its controllers, what is known about the
training, and which model it was made from, by name and digest. The classifiers that only training needs are not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from neurochains.chains import check_digest, describe_origin, find_model, read_result, write_result
from neurochains.data import Task
from neurochains.decoupling.decoupled import Decoupled
from neurochains.errors import ArtifactError, did_you_mean
from neurochains.network import Network

__all__ = ["bundled_names", "load_decoupled", "save_bundled", "save_decoupled"]

_KIND = "decoupled"
_PREFIX = "shapes:"
_BUNDLED = ("resnet",)
_ORIGIN = ("format", "created", "python", "packages", "model")


def save_decoupled(decoupled: Decoupled, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Return the folder that a decoupled network was saved to: ``decoupled.json`` and a safetensors file.

    Args:
        decoupled: the network; its `record` is saved as JSON values.
        folder: its parents are made where they are missing.
        force: replace a decoupled network that is there already.

    Raises:
        ArtifactError: the place is taken, there is no space left, or it cannot be written to.
    """
    tensors = {_KIND: decoupled.body.state_dict()}
    return write_result(folder, _document(decoupled), tensors, kind=_KIND, force=force)


def load_decoupled(
    path: str | os.PathLike[str],
    *,
    model: nn.Module | str | None = None,
    device: str | torch.device | None = None,
) -> Decoupled:
    """Return a decoupled network that was saved, or the one in the package, ``"shapes:resnet"``; in eval mode.

    Args:
        path: what `Decoupled.save` wrote, or the name of one in the package.
        model: the model that it was made from, or its name. By default it is loaded by the name in the folder where
            that is one of the zoo's; the code of a file is never run unless it is named here.
        device: where it shall run; by default where the model is.

    Raises:
        ArtifactError: nothing is there, it is damaged, or it was made from another model.
        ModelError: the model cannot be loaded.
    """
    if str(path).startswith(_PREFIX):
        document, tensors = _read_bundled(str(path))
    else:
        document, parts = read_result(path, kind=_KIND)
        tensors = parts.get(_KIND, {})
    try:
        origin = document["provenance"]["model"]
        layers, keep_one, record = document["layers"], document["keep_one"], document["record"]
        example = torch.zeros(2, *origin["input"])
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged: {error} is missing. Train the network again.") from error
    whole = find_model(origin, model, path, kind=_KIND)
    network = Network.trace(whole, example, device=device)
    check_digest(network, origin["digest"], path, kind=_KIND)
    with torch.random.fork_rng(devices=[]):  # the weights that are drawn here are replaced at once
        made = Decoupled(whole, network, [network.layer(name) for name in layers], keep_one=keep_one)
    _fill(made, tensors, path)
    made.record.update(record)
    return made


def bundled_names() -> tuple[str, ...]:
    """Return the names of the decoupled networks in the package."""
    return tuple(f"{_PREFIX}{name}" for name in _BUNDLED)


def save_bundled(decoupled: Decoupled, path: Path | None = None) -> Path:
    """Return the file that a network of the package was written to, with its floats as float16.

    Args:
        decoupled: made from a bundled network.
        path: the file; by default where `load_decoupled` looks for it.
    """
    info = decoupled.network.info
    assert info is not None
    place = path or _place(info.name.removeprefix(_PREFIX))
    place.parent.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in decoupled.body.state_dict().items()}
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    safetensors.torch.save_file(half, place, metadata={_KIND: json.dumps(_document(decoupled))})
    return place


def _document(decoupled: Decoupled) -> dict[str, Any]:
    network = decoupled.network
    nothing = Task(torch.zeros(1, *network.input_shape))
    known = describe_origin(network, nothing, {})
    return {
        "provenance": {key: known[key] for key in _ORIGIN},
        "layers": list(decoupled.layers),
        "keep_one": decoupled.keep_one,
        "record": decoupled.record,
    }


def _place(name: str) -> Path:
    return Path(str(files("neurochains.decoupling") / "weights" / f"shapes_{name}.safetensors"))


def _read_bundled(name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if name not in bundled_names():
        raise ArtifactError(
            f"No decoupled network in the package is called {name!r}; there is {', '.join(bundled_names())}. "
            f"{did_you_mean(name, bundled_names())}".rstrip()
        )
    try:
        data = _place(name.removeprefix(_PREFIX)).read_bytes()
        stored = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        document = json.loads(header["__metadata__"][_KIND])
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"The decoupled {name} in the installed package cannot be read ({error}); reinstall neurochains."
        ) from error
    return document, {key: value.float() if value.is_floating_point() else value for key, value in stored.items()}


def _fill(decoupled: Decoupled, tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> None:
    """Load the tensors, every one of which must be there and fit."""
    own = decoupled.body.state_dict()
    missing, strange = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    wrong = sorted(key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape)
    if missing or strange or wrong:
        first = (missing or strange or wrong)[0]
        kind = "is missing" if missing else "is not the model's" if strange else "has another shape"
        raise ArtifactError(
            f"{path} is of another network or damaged: {first} {kind}. Pass the model it was made from."
        )
    decoupled.body.load_state_dict(dict(tensors))
