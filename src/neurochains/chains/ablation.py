"""Leave one filter out: what a sub-network gives without each of its filters, exactly and in one sweep.

1. The sub-network is compacted; its scores stay inputs, so the map of a layer behind its score is a node of the graph.
2. One run on the images keeps what is needed to run again from each of these nodes on (`Replay`).
3. For each layer, variants of its map with one filter at zero each are laid behind each other in the batch, as many as
   the memory allows, and only what lies behind the layer runs again.

Shapes: V variants, N images, K outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx

from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.parity import full_precision, in_batches
from neurochains.chains.replay import Replay
from neurochains.chains.scores import Scores
from neurochains.edit.compact import CompactNetwork
from neurochains.edit.scores import shape_scores
from neurochains.network.network import Network

aten = torch.ops.aten

__all__ = ["Variants", "leave_one_out_divergence", "leave_one_out_outputs"]

MEMORY = {"cpu": 16 * 2**20}  # bytes that the values of one batch of variants may take: what a CPU's caches hold
MEMORY_ELSEWHERE = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Variants:
    """What a sub-network gives without some filters of a layer, one at a time: `outputs[v]` is without `units[v]`."""

    layer: str
    units: Tensor  # (V,)
    outputs: Tensor  # (V, N, K)


def leave_one_out_divergence(
    network: Network,
    images: Tensor,
    scores: Scores,
    *,
    objective: str | Objective = "kl",
    original: Tensor | None = None,
    layers: Sequence[str] | None = None,
    memory: int | None = None,
) -> dict[str, Tensor]:
    """Return the mean divergence from the original without each kept filter: ``(units,)`` by layer, NaN where removed.

    What `Scores.without` and `Scores.run` give filter by filter, up to rounding.

    Args:
        network: the whole network.
        images: ``(N, C, H, W)``.
        scores: the sub-network.
        objective: a name in `OBJECTIVES`, or a callable.
        original: ``(N, K)``, the outputs of the whole network; computed if None.
        layers: dotted names or labels of the layers whose filters are left out in turn; all that are scored if None.
        memory: roughly how many bytes the values of one batch of variants may take; what suits the device if None.

    Raises:
        SettingsError: there is no such objective.
        LayerError: there is no such layer.
    """
    diverge = find_objective(objective)
    original = (in_batches(network, images) if original is None else original).to(network.device)
    with torch.no_grad():
        found = {name: torch.full((len(scores.units[name]),), math.nan) for name in _names(network, scores, layers)}
        for some in leave_one_out_outputs(network, images, scores, layers=layers, memory=memory):
            means = [diverge(outputs, original).mean() for outputs in some.outputs]
            found[some.layer][some.units] = torch.stack(means).float().cpu()
    return found


def leave_one_out_outputs(
    network: Network,
    images: Tensor,
    scores: Scores,
    *,
    layers: Sequence[str] | None = None,
    memory: int | None = None,
) -> Iterator[Variants]:
    """Yield the outputs of the sub-network without each kept filter: layer by layer, some filters at a time.

    Arguments and errors are those of `leave_one_out_divergence`; layers of which nothing is kept are passed over.
    """
    names = [name for name in _names(network, scores, layers) if bool(scores.units[name].any())]
    small, inputs = _compacted(network, scores)
    sites = _sites(small)
    with full_precision():
        replay = Replay(small.graph, network.check(images), inputs, [sites[name] for name in names if name in sites])
    memory = MEMORY.get(network.device.type, MEMORY_ELSEWHERE) if memory is None else memory
    for name in names:
        units = small.kept[name]
        if name not in sites:
            yield Variants(name, units, replay.output.expand(len(units), *replay.output.shape))
            continue
        for places in torch.arange(len(units)).split(replay.most(sites[name], memory)):
            yield Variants(name, units[places], _without(replay, sites[name], places, network.layer(name).axis))


def _names(network: Network, scores: Scores, layers: Sequence[str] | None) -> list[str]:
    """Return the dotted names of the layers asked for, in order of execution."""
    wanted = scores.units if layers is None else {network.layer(text).name for text in layers}
    return [name for name in scores.units if name in wanted]


def _compacted(network: Network, scores: Scores) -> tuple[CompactNetwork, list[Tensor | float]]:
    """Return the compact network and the scores of its kept units, as its graph takes them."""
    layers = [network.layer(name) for name in scores.units]
    kept = {name: values.nonzero().flatten() for name, values in scores.units.items()}
    small = CompactNetwork(network, kept, layers=layers, skipped=scores.skipped)
    values = [scores.units[layer.name][kept[layer.name]].to(network.device) for layer in layers]
    return small, [shape_scores(some, layer) for some, layer in zip(values, layers, strict=True)]


def _sites(small: CompactNetwork) -> dict[str, fx.Node]:
    """Return the nodes that hold the scored maps; layers that reach no output have none."""
    names = {f"score_{layer.index}": layer.name for layer in small.layers}
    scores = (node for node in small.graph.graph.nodes if node.op == "placeholder" and node.name in names)
    return {names[node.name]: next(iter(node.users)) for node in scores if node.users}


def _without(replay: Replay, site: fx.Node, places: Tensor, axis: int) -> Tensor:
    """Return the outputs ``(V, N, K)`` with one of the kept channels of a map at zero each."""
    value = replay.value(site)
    variants = value.repeat(len(places), *(1,) * (value.ndim - 1))
    for variant, place in zip(variants.split(len(value)), places.tolist(), strict=True):
        variant.select(axis, place).zero_()
    with full_precision():
        outputs = replay.run(site, variants)
    return outputs.view(len(places), -1, outputs.shape[-1])
