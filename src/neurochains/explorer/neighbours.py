"""The kernels that come into a filter and that go out of it, the most important first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neurochains.explorer.asking import Answer
from neurochains.explorer.desk import Desk
from neurochains.explorer.graph import balance
from neurochains.network import Filter

__all__ = ["Link", "incoming", "link", "outgoing", "parse_kernel"]


@dataclass(frozen=True, slots=True)
class Link:
    """One kernel: of which filter, its column among that filter's kernels, the filters behind its channel.

    `score` is its importance, `share` what part it is of all that comes into the filter, `tone` its balance from -1
    (inhibits) to 1 (excites).
    """

    target: Filter
    column: int
    sources: tuple[Filter, ...]
    score: float
    share: float
    tone: float

    @property
    def text(self) -> str:
        """The kernel as `View.kernel` writes it."""
        return f"{self.target}<{self.column}"


def link(desk: Desk, found: Answer, unit: Filter, column: int) -> Link:
    """Return one kernel of a filter."""
    layer = desk.bundle.layer(unit.layer)
    channel = unit.index // (layer.units // layer.groups) * layer.shape[1] + column
    scores = found.kernels.get(layer.name)
    own = scores[unit.index] if scores is not None else np.zeros(layer.shape[1])
    tone = float(balance(desk.weights(layer.name)[unit.index, column].reshape(1, -1))[0])
    score = float(own[column])
    return Link(unit, column, desk.sources(layer.name)[channel], score, score / (float(own.sum()) or 1.0), tone)


def incoming(desk: Desk, found: Answer, unit: Filter, most: int = 6) -> list[Link]:
    """Return the most important kernels of a filter."""
    scores = found.kernels.get(unit.layer)
    if scores is None:
        return []
    order = np.argsort(-scores[unit.index], kind="stable")[:most]
    return [link(desk, found, unit, int(column)) for column in order]


def outgoing(desk: Desk, found: Answer, unit: Filter, most: int = 6) -> list[Link]:
    """Return the most important kernels that read a filter, in whatever layer."""
    best: list[tuple[float, Filter, int]] = []
    for name, channel in desk.readers(unit):
        layer, scores = desk.bundle.layer(name), found.kernels.get(name)
        if scores is None:
            continue
        group, column = divmod(channel, layer.shape[1])
        width = layer.units // layer.groups
        own = scores[group * width : (group + 1) * width, column]
        top = np.argsort(-own, kind="stable")[:most]
        best += [(float(own[i]), Filter(name, group * width + int(i)), column) for i in top]
    best.sort(key=lambda row: -row[0])
    return [link(desk, found, target, column) for _, target, column in best[:most]]


def parse_kernel(desk: Desk, text: str) -> tuple[Filter, int] | None:
    """Return the filter and column of `View.kernel`; None where there is no such kernel."""
    unit = desk.unit(text.rpartition("<")[0])
    column = text.rpartition("<")[2]
    if unit is None or not column.isdecimal():
        return None
    layer = desk.bundle.layer(unit.layer)
    known = layer.scored and unit.index < layer.units and int(column) < layer.shape[1]
    return (unit, int(column)) if known else None
