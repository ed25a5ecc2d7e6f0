"""The importance of all filters and kernels as one vector each, of images with labels or without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from numpy.typing import NDArray

from neurochains.circuits.bundle_numbers import Spans
from neurochains.circuits.criteria import Criterion, Reduce
from neurochains.circuits.importance import importance
from neurochains.data import Task
from neurochains.network import Network

__all__ = ["importance_vectors"]

Array = NDArray[Any]
_LABELLING_BATCH = 16


def importance_vectors(
    network: Network,
    task: Task,
    spans: Spans,
    *,
    target: str = "loss",
    criterion: str | Criterion = "activation_gradient",
    reduce: Reduce = "abs",
    batch_size: int | None = None,
) -> tuple[Array, Array]:
    """Return the importance of all filters ``(F,)`` and all kernels ``(K,)`` for the images of a task, float64.

    The loss of images without a label is that of the network's own answer. See `importance`.

    Args:
        network: the traced network.
        task: the images.
        spans: where each layer lies in the vectors.
        target: as in `importance`, and so are the others.
        criterion: see there.
        reduce: see there.
        batch_size: see there.
    """
    labelled = _labelled(network, task) if target == "loss" else task
    found = importance(
        network,
        labelled,
        target=target,
        criterion=criterion,
        reduce=reduce,
        batch_size=batch_size,
        layers=[layer.name for layer in spans.layers],
    )
    return _joined(spans, found.filters, kernels=False), _joined(spans, found.kernels, kernels=True)


def _joined(spans: Spans, parts: Mapping[str, torch.Tensor], *, kernels: bool) -> Array:
    return spans.joined({name: values.numpy() for name, values in parts.items()}, kernels=kernels)


def _labelled(network: Network, task: Task) -> Task:
    """Return the task; where a label is not known, all are what the network answers."""
    if task.labels is not None and bool((task.labels >= 0).all()):
        return task
    with torch.no_grad():
        answers = [network(part).argmax(-1).cpu() for part in task.images.split(_LABELLING_BATCH)]
    return Task(task.images, torch.cat(answers), names=task.names, pixels=task.pixels, digests=task.digests)
