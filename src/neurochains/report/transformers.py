"""What a report shows of a transformer: the patches that images keep, and what the kept heads read.

Shapes: L blocks, T tokens, special ones first; N images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from neurochains.chains import Chain
from neurochains.data import Task
from neurochains.edit.tokens import TokenNetwork
from neurochains.errors import ModelError
from neurochains.network import Network
from neurochains.pictures import attribution, overlay
from neurochains.pictures.figures import display
from neurochains.report.answers import Answers, in_turn
from neurochains.report.content import HeadsView, HeadView, PatchView

__all__ = ["heads_view", "patch_views"]

MOST_PATCHED = 3  # images with their patches
MOST_HEADS = 24
MOST_SAMPLES = 5


def patch_views(chain: Chain, answers: Answers, patches: Tensor | None) -> tuple[PatchView, ...]:
    """Return the patches of some images, of the classes in turn, whose tokens ``(N, L, T)`` are kept; () without."""
    if patches is None:
        return ()
    rows = in_turn(answers, MOST_PATCHED)
    task, kept = answers.task.subset(rows), patches[rows]
    small = chain.subnetwork.compact(chain.network) if chain.scores else None
    reduced = chain.network if small is None else Network.trace(small, task.images[:2])
    tokens = TokenNetwork(reduced).tokens
    both = _followed(reduced, task, kept), _followed(chain.network, task, None)
    return tuple(
        PatchView(
            task.names[row],
            display(task.pixels[row].cpu().numpy()),
            kept[row].cpu().numpy(),
            *(None if several is None else several[row].numpy() for several in both),
            grid=tokens.grid,
        )
        for row in range(len(task))
    )


def _followed(network: Network, task: Task, kept: Tensor | None) -> Tensor | None:
    """Return the attribution of the tokens; None where a block reads them otherwise than all by all."""
    try:
        return attribution(network, task, kept=kept, normalise=True)
    except ModelError:
        return None


def heads_view(chain: Chain, answers: Answers) -> HeadsView | None:
    """Return the kept heads, at most 24, those with the largest scores; None where no heads were scored."""
    layers = [layer for layer in chain.network.heads if layer.name in chain.scores]
    if not layers:
        return None
    kept = [(layer, unit) for layer in layers for unit in chain.scores[layer.name].nonzero().flatten().tolist()]
    least = sorted((float(chain.scores[layer.name][unit]) for layer, unit in kept), reverse=True)[:MOST_HEADS][-1:]
    task = answers.task.subset(in_turn(answers, MOST_SAMPLES))
    maps = _read_through(chain.network, task.images)
    rows = [
        HeadView(f"{layer.label}_{unit}", float(chain.scores[layer.name][unit]), _heats(maps, layer.name, unit, task))
        for layer, unit in kept
        if float(chain.scores[layer.name][unit]) >= least[0] and layer.name in maps
    ]
    samples = tuple((name, display(pixels.cpu().numpy())) for name, pixels in zip(task.names, task.pixels, strict=True))
    return HeadsView(samples, tuple(rows[:MOST_HEADS]), sum(layer.units for layer in layers)) if rows else None


def _read_through(network: Network, images: Tensor) -> dict[str, Tensor]:
    """Return what heads read of the patches, ``(N, heads, rows, columns)`` by layer: for the class token, or for all.

    Networks whose tokens cannot be followed have none.
    """
    try:
        tokens = TokenNetwork(network)
    except ModelError:
        return {}
    found = tokens.tokens
    with torch.no_grad():
        every = tokens.head_maps(network.check(images))
    names = {layer.producer: layer.name for layer in network.heads}
    attentions = [attention for block in found.blocks for attention in block.attentions]
    read = {}
    for attention, maps in zip(attentions, every, strict=True):
        if attention.read in names:
            row = maps[:, :, 0] if found.special else maps.mean(2)
            read[names[attention.read]] = row[..., -found.patches :].unflatten(-1, found.grid).cpu()
    return read


def _heats(maps: Mapping[str, Tensor], name: str, head: int, task: Task) -> tuple[np.ndarray, ...]:
    """Return the map of one head laid over each sample, all on one scale."""
    own = maps[name][:, head]
    limits = (0.0, max(float(own.max()), 1e-12))
    return tuple(overlay(one, pixels, limits=limits).numpy() for one, pixels in zip(own, task.pixels, strict=True))
