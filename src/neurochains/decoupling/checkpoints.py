"""Checkpoints of a training without pickle: one safetensors file, with everything that is no tensor as JSON in it.

Lightning hands over nested dictionaries of tensors and plain values. Tensors are numbered in the order that they are
met; the rest becomes a tree of JSON in which ``{"tensor": 3}`` stands for the third of them, and dictionaries are lists
of pairs, for their keys need not be text. The file appears by one rename, so that a kill leaves the one before whole.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from neurochains.errors import ArtifactError

__all__ = ["read_checkpoint", "write_checkpoint"]

_FORMAT = "neurochains.checkpoint.1"


def write_checkpoint(path: str | os.PathLike[str], values: dict[str, Any]) -> None:
    """Write nested dictionaries, lists and tuples of tensors and plain values.

    Raises:
        ArtifactError: a value is of another kind, or the file cannot be written.
    """
    place = Path(path)
    tensors: dict[str, Tensor] = {}
    tree = json.dumps(_packed(values, tensors))
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(tensors, temporary, metadata={"format": _FORMAT, "tree": tree})
        os.replace(temporary, place)
    except OSError as error:
        raise ArtifactError(f"The checkpoint {place} cannot be written: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write_checkpoint` wrote, on the CPU.

    Raises:
        ArtifactError: there is no such file, or it is no checkpoint or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ArtifactError(f"{path} is no checkpoint of a training. Name the folder that the training wrote.")
            return _unpacked(json.loads(metadata["tree"]), file)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(f"The checkpoint {path} is missing or damaged ({error}). Train anew.") from error


def _packed(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_packed(key, tensors), _packed(entry, tensors)] for key, entry in value.items()]}
    if isinstance(value, (tuple, list)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_packed(entry, tensors) for entry in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ArtifactError(f"A checkpoint holds tensors and plain values; got a {type(value).__name__}.")


def _unpacked(value: Any, file: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return torch.as_tensor(file.get_tensor(content))
    if kind == "dict":
        return {_unpacked(key, file): _unpacked(entry, file) for key, entry in content}
    entries = [_unpacked(entry, file) for entry in content]
    return tuple(entries) if kind == "tuple" else entries
