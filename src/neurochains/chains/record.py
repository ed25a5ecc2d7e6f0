"""What is written down about a chain, and read back: where it comes from, its task and its tensors."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

import neurochains
from neurochains.chains.scores import Scores
from neurochains.chains.storage import FORMAT_VERSION
from neurochains.data import Task
from neurochains.errors import ArtifactError, NeuroChainsError
from neurochains.network.network import Network

__all__ = ["describe_origin", "read_scores", "read_task", "scores_tensors", "task_record", "task_tensors"]

_PACKAGES = ("torch", "torchvision", "timm", "transformers", "numpy", "pillow", "safetensors")


def describe_origin(network: Network, task: Task, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a result comes from: format, package versions, model, images, seed and time."""
    info = network.info
    return {
        "format": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": {"neurochains": neurochains.__version__, **_versions()},
        "model": {
            "name": None if info is None else info.name,
            "weights": None if info is None else info.weights,
            "digest": network.digest,
            "input": list(network.input_shape),
            "outputs": network.outputs,
        },
        "images": _images(task),
        "held_out": None if task.held_out is None else _images(task.held_out),
        "classes": {str(label): task.label_name(label) for label in task.classes},
        "seed": settings.get("seed"),
    }


def scores_tensors(scores: Scores, leave_one_out: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a sub-network: ``score/LAYER``, ``gate/BLOCK`` and ``leave_one_out/LAYER``."""
    gates = {f"gate/{name}": torch.tensor(float(gate)) for name, gate in scores.gates.items()}
    units = {f"score/{name}": values.float() for name, values in scores.units.items()}
    return {**units, **gates, **{f"leave_one_out/{name}": values.float() for name, values in leave_one_out.items()}}


def read_scores(tensors: Mapping[str, Tensor], network: Network) -> tuple[Scores, dict[str, Tensor]]:
    """Return the scores, in the network's order of layers, and the leave-one-out divergences.

    Raises:
        ArtifactError: they belong to another network.
    """
    units = _group(tensors, "score/")
    order = {layer.name: layer.units for layer in network.in_order}
    wrong = [name for name, values in units.items() if order.get(name) != len(values)]
    if wrong:
        raise ArtifactError(
            f"The saved scores do not fit the model: {wrong[0]} with {len(units[wrong[0]])} units is no layer of it. "
            "Pass the model that the chain was extracted from."
        )
    ordered = {name: units[name] for name in order if name in units}
    left_out = _group(tensors, "leave_one_out/")
    gates = {name: float(gate) for name, gate in _group(tensors, "gate/").items()}
    return Scores(ordered, gates), {name: left_out[name] for name in order if name in left_out}


def task_record(task: Task) -> dict[str, Any]:
    """Return what a task holds besides tensors."""
    return {
        "names": list(task.names),
        "digests": list(task.digests),
        "class_names": None if task.class_names is None else list(task.class_names),
        "synsets": None if task.synsets is None else list(task.synsets),
        "held_out": None if task.held_out is None else task_record(task.held_out),
    }


def task_tensors(task: Task, prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors of a task: images, pixels and labels, those of its held-out images behind ``held_out/``."""
    tensors = {f"{prefix}images": task.images, f"{prefix}pixels": task.pixels}
    if task.labels is not None:
        tensors[f"{prefix}labels"] = task.labels
    return tensors if task.held_out is None else {**tensors, **task_tensors(task.held_out, f"{prefix}held_out/")}


def read_task(record: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str = "") -> Task:
    """Return the task that `task_record` and `task_tensors` describe.

    Raises:
        ArtifactError: they do not fit each other.
    """
    try:
        held = record["held_out"]
        return Task(
            tensors[f"{prefix}images"],
            tensors.get(f"{prefix}labels"),
            record["class_names"],
            names=record["names"],
            pixels=tensors[f"{prefix}pixels"],
            synsets=record["synsets"],
            digests=record["digests"],
            held_out=None if held is None else read_task(held, tensors, f"{prefix}held_out/"),
        )
    except (KeyError, TypeError, NeuroChainsError) as error:
        raise ArtifactError(f"The saved task is damaged: {error}. Extract the chain again.") from error


def _images(task: Task) -> dict[str, list[str]]:
    return {"names": list(task.names), "digests": list(task.digests)}


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # noqa: PERF203 - an extra that is not installed
            continue
    return found


def _group(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
