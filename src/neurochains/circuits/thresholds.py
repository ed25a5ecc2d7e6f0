"""Hierarchical thresholds: a circuit from cumulative importances, filters first, then the kernels between them.

1. In each layer the most important filters are kept, until their share of the layer's importance reaches the filter
   threshold.
2. Between kept filters, each keeps its most important incoming kernels, until their share of all that come into it
   reaches the kernel threshold; and likewise its most important outgoing ones. A kernel that either end wants is kept.
3. Dead ends are removed.

After the VISCNN paper (cumulative importance thresholds).

Shapes: O filters, I inputs per group, C input channels of a layer over all groups.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurochains.circuits.edges import Edges
from neurochains.circuits.importance import Importance
from neurochains.errors import SettingsError

__all__ = ["hierarchical", "hierarchical_within"]

_HALVINGS = 24


def hierarchical(
    importance: Importance, edges: Edges, *, filters: float = 0.9, kernels: float = 0.9
) -> dict[str, Tensor]:
    """Return which kernels two cumulative thresholds keep, without dead ends: by layer, bool ``(O, I)``.

    Args:
        importance: of filters and kernels; negative values count as 0.
        edges: the kernels that lead to the target.
        filters: the share of each layer's importance that its kept filters reach; 1 keeps all that have any.
        kernels: the share of each filter's incoming, and of each channel's outgoing, importance.

    Raises:
        SettingsError: a threshold is not in (0, 1], or nothing is left (total collapse).
    """
    for name, value in (("filters", filters), ("kernels", kernels)):
        if not 0 < value <= 1:
            raise SettingsError(f"The threshold of {name} is a share above 0, at most 1; got {value}.")
    return edges.connect(_chosen(importance, edges, filters, kernels))


def hierarchical_within(importance: Importance, edges: Edges, size: int) -> dict[str, Tensor]:
    """Return the largest circuit of at most `size` kernels that one threshold for both filters and kernels gives.

    Raises:
        SettingsError: nothing is left (total collapse).
    """
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = edges.size(_chosen(importance, edges, middle, middle)) <= size
        low, high = (middle, high) if fits else (low, middle)
    return edges.connect(_chosen(importance, edges, low, low))


def _chosen(importance: Importance, edges: Edges, filters: float, kernels: float) -> dict[str, Tensor]:
    """Return the kept kernels, dead ends included."""
    kept = {name: _reached(importance.filters[name].clamp(min=0), filters) for name in edges.leading}
    living = edges.channels(kept)
    masks = {}
    for name, whole in edges.leading.items():
        between = whole & kept[name][:, None] & living[name]
        values = importance.kernels[name].double().clamp(min=0) * between
        incoming = _reached(values, kernels)
        outgoing = _by_channel(_reached(_by_channel(values, edges.reads(name)), kernels), edges.reads(name), back=True)
        masks[name] = between & (incoming | outgoing)
    return masks


def _reached(values: Tensor, threshold: float) -> Tensor:
    """Return for each row which of its largest values, taken together, just reach a share of the row's sum."""
    ordered, places = values.double().sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered
    wanted = (before < threshold * ordered.sum(-1, keepdim=True)) & (ordered > 0)
    return torch.zeros_like(wanted).scatter(-1, places, wanted)


def _by_channel(values: Tensor, reads: Tensor, *, back: bool = False) -> Tensor:
    """Return values ``(O, I)`` as ``(C, O per group)``: the kernels that read each channel; or the other way round.

    Kernels of one group read the same channels in the same order.
    """
    width = reads.shape[1]
    groups = int(reads.max()) // width + 1
    per_group = len(reads) // groups
    if back:
        return values.view(groups, width, per_group).mT.reshape(len(reads), width)
    return values.view(groups, per_group, width).mT.reshape(groups * width, per_group)
