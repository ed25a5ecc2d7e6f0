"""Contributions: what each kernel of a sub-network adds to the answer of each class.

1. The contribution of the kernel (i -> j) to a class is the mean over the images of the class of ``sum_hw a_ij * g_j``:
   ``a_ij`` is the kernel's output map, as it enters the scored map of j (times the batch norm's gain and the score of
   j), and ``g_j`` the gradient of the class at that map. A class is its logit less the mean logit of the other classes.
2. Since ``a_ij`` is linear in the kernel this is ``<w_ij, dt/dw_ij>``, with the part of the input that comes from i:
   no map of a single kernel is ever made.
3. A residual stream, a concatenation or a pooling between i and j is passed through: frozen at each image it is linear
   (see `frozen`), so a channel is the sum of the parts that the filters give it, and each part is followed alone.
4. Layers without scores (squeeze-and-excitation, classifiers) are passed through as well.

All contributions into a filter, with those of its bias, add up to ``sum_hw z_j * g_j``.

Shapes: B images, C channels, H x W pixels, O out- and I in-channels; K classes, T targets, S sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.calculation import OUTPUT, Calculation
from neurochains.chains.scores import Scores
from neurochains.data import Task
from neurochains.network.layers import Filter
from neurochains.network.network import INPUT, Network

__all__ = ["OUTPUT", "Contributions", "KernelEdge", "contributions", "kernel_contributions"]


@dataclass(frozen=True, slots=True)
class KernelEdge:
    """The kernels from one unit to another: what they contribute to each class, by output index.

    The source is a kept filter, or an input channel ``Filter("input", c)``; the target is a kept filter, or a class
    ``Filter("output", label)``. Negative contributions speak against a class.
    """

    source: Filter
    target: Filter
    contributions: Mapping[int, float]

    @property
    def strength(self) -> float:
        """The largest size of its contributions."""
        return max(map(abs, self.contributions.values()), default=0.0)


@dataclass(frozen=True, slots=True)
class Contributions:
    """The contributions of all kernels between kept units.

    Attributes:
        classes: the output indices, in the order of the task.
        units: by layer name, in order of execution, the indices of the kept units: first ``"input"`` with its channels,
            last ``"output"`` with the classes.
        kernels: by (source layer, target layer), ``(K, T, S)`` over their kept units, float64 on the CPU. Into
            ``"output"`` a class counts for itself alone.
    """

    classes: tuple[int, ...]
    units: Mapping[str, Tensor]
    kernels: Mapping[tuple[str, str], Tensor]

    def edges(self) -> Iterator[KernelEdge]:
        """Yield the edges that contribute to any class, in order of their layers."""
        order = {name: place for place, name in enumerate(self.units)}
        for source, target in sorted(self.kernels, key=lambda pair: (order[pair[1]], order[pair[0]])):
            values = self.kernels[source, target]
            for row, column in values.abs().amax(0).nonzero().tolist():
                given = dict(zip(self.classes, values[:, row, column].tolist(), strict=True))
                into = Filter(target, int(self.units[target][row]))
                if target == OUTPUT:
                    given = {into.index: given[into.index]}
                yield KernelEdge(Filter(source, int(self.units[source][column])), into, given)


def contributions(network: Network, task: Task, scores: Scores) -> Contributions:
    """Return what each kernel between kept units contributes to each class of the task.

    The classes are the labels of the task; of images without labels, what the original network predicts.
    """
    rows = class_rows(network, task)
    labels = tuple(rows)
    calculation = Calculation(network, scores)
    sums: dict[tuple[str, str], Tensor] = {}
    for place, (label, indices) in enumerate(rows.items()):
        others = [other for other in labels if other != label]
        for chosen in _split(indices, calculation.images_at_once):
            for pair, block_TS in calculation.kernels(task.images[chosen], label, others).items():
                _add(sums, pair, place, block_TS / len(indices), len(labels))
    units = {INPUT: torch.arange(network.input_shape[0]), **scores.filters, OUTPUT: torch.tensor(labels)}
    return Contributions(labels, units, sums)


def kernel_contributions(network: Network, task: Task, scores: Scores) -> list[KernelEdge]:
    """Return the edges between kept units, from the input channels to the classes, with their contributions."""
    return list(contributions(network, task, scores).edges())


def class_rows(network: Network, task: Task) -> dict[int, tuple[int, ...]]:
    """Return the images of each class: by label, or without labels by what the original network predicts."""
    known = task.by_class()
    if known:
        return known
    with torch.no_grad():
        predicted = torch.cat([network(task.images[rows]).argmax(-1).cpu() for rows in _split(range(len(task)), 16)])
    found: dict[int, list[int]] = {}
    for row, label in enumerate(predicted.tolist()):
        found.setdefault(label, []).append(row)
    return {label: tuple(rows) for label, rows in found.items()}


def _add(
    sums: dict[tuple[str, str], Tensor], pair: tuple[str, str], place: int, block_TS: Tensor, classes: int
) -> None:
    """Add the contributions to one class; the class itself is a target of its own."""
    targets, sources = (classes if pair[1] == OUTPUT else len(block_TS)), block_TS.shape[1]
    total_KTS = sums.setdefault(pair, torch.zeros(classes, targets, sources, dtype=torch.float64))
    if pair[1] == OUTPUT:
        total_KTS[place, place] += block_TS[0]
    else:
        total_KTS[place] += block_TS


def _split(indices: Sequence[int], most: int) -> list[list[int]]:
    return [list(indices[start : start + most]) for start in range(0, len(indices), most)]
