"""Maps (E11, E12): does a sub-network look at the same places, and do its filters fire where they did?

For each layer of which something is kept, original against sub-network on the same images:

- SMOE: the correlation over positions of the two SMOE maps of the layer, averaged over images;
- firing: for kept filters, behind the ReLU, the correlation over images and positions of the filter's maps, and the
  share of positions on which both fire or both do not.

The pictures of both are in `neurochains.pictures` (`smoe`, `smoe_figure`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.edit.scores import ScoredNetwork
from neurochains.measures.cases import Case, Chains, Model, cases_of, measure
from neurochains.measures.intervals import Interval, interval_of_mean

__all__ = ["LayerMaps", "Maps", "measure_maps"]

_BATCH = 4


@dataclass(frozen=True, slots=True)
class LayerMaps:
    """One layer of one sub-network; None where a map is the same everywhere, or has no positions."""

    layer: str
    filters: int
    smoe: float | None
    firing: float | None
    both: float


@dataclass(frozen=True, slots=True)
class Maps:
    """The layers of each sub-network, in order of execution."""

    rows: tuple[tuple[LayerMaps, ...], ...]

    def by_layer(self, name: str) -> dict[str, Interval]:
        """Return the mean of ``"smoe"``, ``"firing"`` or ``"both"`` in each layer, over sub-networks."""
        values: dict[str, list[float | None]] = {}
        for row in (row for rows in self.rows for row in rows):
            values.setdefault(row.layer, []).append(getattr(row, name))
        return {layer: interval_of_mean(some) for layer, some in values.items()}

    def mean(self, name: str) -> Interval:
        """Return the mean over sub-networks of the mean over their layers."""
        each = [[value for row in rows if (value := getattr(row, name)) is not None] for rows in self.rows]
        return interval_of_mean([sum(values) / len(values) if values else None for values in each])

    def to_json(self) -> dict[str, Any]:
        """Return the means over all layers and of each."""
        names = ("smoe", "firing", "both")
        layers = {name: {layer: i.to_json() for layer, i in self.by_layer(name).items()} for name in names}
        return plain({"mean": {name: self.mean(name).to_json() for name in names}, "layers": layers})


@measure("maps")
def measure_maps(model: Model, chain: Chains, task: Task | None = None) -> Maps:
    """Return how alike maps are in original and sub-network; see `neurochains.measures.cases.cases_of`."""
    return Maps(tuple(_measured(case) for case in cases_of(model, chain, task)))


def _measured(case: Case) -> tuple[LayerMaps, ...]:
    names = list(case.scores.filters)
    pair = [_maps(case, names, whole=whole) for whole in (True, False)]
    return tuple(_compared(name, case.scores.filters[name], pair[0][name], pair[1][name]) for name in names)


def _maps(case: Case, names: Sequence[str], *, whole: bool) -> dict[str, Tensor]:
    """Return the maps ``(N, C, h, w)`` of some layers behind a ReLU, in the original or in the sub-network."""
    network, scores = case.network, case.scores
    layers = [] if whole else [network.layer(name) for name in scores.units]
    blocks = [] if whole else [block for block in network.blocks if block.name in scores.skipped]
    tapped = ScoredNetwork(network, layers=layers, blocks=blocks, taps=names)
    units = {} if whole else {name: values.to(network.device) for name, values in scores.units.items()}
    gates = {block.name: torch.zeros((), device=network.device) for block in blocks}
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    with torch.no_grad():
        for batch in case.task.images.split(_BATCH):
            for name, value in tapped(batch, units, gates)[1].items():
                parts[name].append(value.movedim(network.layer(name).axis, 1).relu().cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def _compared(name: str, kept: Tensor, original: Tensor, sub: Tensor) -> LayerMaps:
    from neurochains.pictures import smoe  # here, because it loads matplotlib

    found = None
    if original.ndim == 4 and original.shape[2] * original.shape[3] > 1:
        pairs = zip(smoe(original).flatten(1), smoe(sub).flatten(1))
        known = [value for one, other in pairs if (value := _correlation(one, other)) is not None]
        found = sum(known) / len(known) if known else None
    first, second = (maps.transpose(0, 1)[kept].flatten(1) for maps in (original, sub))
    each = [value for one, other in zip(first, second) if (value := _correlation(one, other)) is not None]
    both = float(((first > 0) == (second > 0)).double().mean())
    return LayerMaps(name, len(kept), found, sum(each) / len(each) if each else None, both)


def _correlation(one: Tensor, other: Tensor) -> float | None:
    """Return Pearson's correlation of two vectors; None where one does not vary."""
    x, y = one.double() - one.double().mean(), other.double() - other.double().mean()
    spread = math.sqrt(float(x.square().sum()) * float(y.square().sum()))
    return max(-1.0, min(1.0, float(x @ y) / spread)) if spread > 1e-12 else None
