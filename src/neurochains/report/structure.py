"""The sub-network's structure: the view for the architecture figure, and the kept filters layer by layer.

Shapes: K classes, T targets, S sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from torch import Tensor

from neurochains.chains import Chain
from neurochains.chains.contributions import OUTPUT, Contributions
from neurochains.network import Block
from neurochains.network.network import INPUT
from neurochains.pictures import ArchitectureView, Bypass, Column, Edge
from neurochains.report.answers import unit_noun
from neurochains.report.content import LayerView, UnitRow
from neurochains.report.filters import channel_names

__all__ = ["architecture", "kept_layers", "scored_inside"]

MOST_BETWEEN = 1000  # kernels between two layers that a figure chooses from


def architecture(chain: Chain, found: Contributions, title: str) -> ArchitectureView:
    """Return the sub-network as its figure shows it; a kernel counts for the class that it matters most to."""
    columns = [_input(chain), *_layers(chain), _classes(chain, found)]
    places = {column.name: place for place, column in enumerate(columns)}
    edges = tuple(_edges(found, places))
    total = sum(int(values.abs().amax(0).count_nonzero()) for values in found.kernels.values())
    blocks = tuple(_blocks(chain, columns, places))
    return ArchitectureView(tuple(columns), edges, blocks, title, total, unit_noun(chain))


def kept_layers(chain: Chain) -> tuple[LayerView, ...]:
    """Return the layers that have kept filters."""
    views = []
    for name, kept in chain.filters.items():
        layer = chain.network.layer(name)
        scores, left_out = chain.scores[name], chain.leave_one_out.get(name)
        rows = tuple(
            UnitRow(
                label=f"{layer.label}_{unit}",
                name=f"{name}[{unit}]",
                score=float(scores[unit]),
                left_out=None if left_out is None else _finite(float(left_out[unit])),
            )
            for unit in kept.tolist()
        )
        views.append(LayerView(layer.label, name, len(scores), rows))
    return tuple(views)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _input(chain: Chain) -> Column:
    channels = chain.network.input_shape[0]
    return Column("input", INPUT, channels, tuple(range(channels)), None, channel_names(channels))


def _layers(chain: Chain) -> list[Column]:
    kept = chain.filters
    columns = []
    for name, scores in chain.scores.items():
        units = tuple(kept[name].tolist()) if name in kept else ()
        values = tuple(float(scores[unit]) for unit in units)
        columns.append(Column(chain.network.layer(name).label, name, len(scores), units, values))
    return columns


def _classes(chain: Chain, found: Contributions) -> Column:
    names = tuple(chain.task.label_name(label) for label in found.classes)
    return Column("logits", OUTPUT, chain.network.outputs, found.classes, None, names)


def _edges(found: Contributions, places: Mapping[str, int]) -> Iterable[Edge]:
    """Yield the kernels; of two layers with very many between them only the strongest, since few can be drawn."""
    for (source, target), values_KTS in found.kernels.items():
        weight_TS = _strongest_class(values_KTS)
        sources, targets = found.units[source].tolist(), found.units[target].tolist()
        for place in _strongest(weight_TS):
            row, column = divmod(place, len(sources))
            weight = float(weight_TS[row, column])
            yield Edge(places[source], sources[column], places[target], targets[row], weight)


def _strongest_class(values_KTS: Tensor) -> Tensor:
    """Return the contribution to the class that each kernel matters most to, with its sign."""
    return values_KTS.gather(0, values_KTS.abs().argmax(0, keepdim=True))[0]


def _strongest(weight_TS: Tensor) -> list[int]:
    """Return the places of the kernels that contribute, in order; of many, those of the strongest."""
    flat = weight_TS.flatten().abs()
    places = flat.nonzero().flatten()
    if len(places) > MOST_BETWEEN:
        places = flat.topk(MOST_BETWEEN).indices.sort().values
    return places.tolist()


def _blocks(chain: Chain, columns: list[Column], places: Mapping[str, int]) -> Iterable[Bypass]:
    """Yield the blocks that are skipped, and those with a shortcut around them."""
    for block in chain.network.blocks:
        inside = [places[name] for name in scored_inside(chain, block)]
        if not inside:
            continue
        empty = not any(columns[place].kept for place in inside)
        shortcut = _has_shortcut(block)
        if empty and (shortcut or block.name in chain.subnetwork.skipped):
            yield Bypass(min(inside), max(inside), block.label, skipped=True)
        elif shortcut:
            yield Bypass(min(inside), max(inside), block.label, skipped=False)


def scored_inside(chain: Chain, block: Block) -> list[str]:
    """Return the scored layers of a block."""
    return [layer.name for layer in chain.network.units_in(block) if layer.name in chain.scores]


def _has_shortcut(block: Block) -> bool:
    """Return whether what a block reads is also added to what it gives."""
    return len(block.layers) > 1 and any("add" in str(user.target) for user in block.entry.users)
