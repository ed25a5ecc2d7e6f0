"""Kernel importances of many groups of images at once, the sets of kernels that carry them, and how sets overlap.

With ``m_gn`` the share of image n in group g (rows sum to 1), the importance of kernel (o, i) to group g is
``sum_n m_gn mean_hw |a_oi g_o|`` (Eq. 4 of the VISCNN paper, for kernels): that of `importance` on the images of the
group alone. Each image is run forward and backward once, however many groups it is in.

Shapes: G groups, N images, B images of a batch, O out- and I in-channels per group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from neurochains.circuits.kernels import absolute_sums
from neurochains.circuits.probe import Opened, Probe, layers_to
from neurochains.circuits.targets import Target
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.network import Network
from neurochains.network.layers import Layer

__all__ = ["group_importance", "kernel_set", "overlaps"]


def group_importance(
    network: Network, task: Task, target: Target, groups_GN: Tensor, *, batch_size: int | None = None
) -> dict[str, Tensor]:
    """Return the importance of every kernel that leads to a target, for each group of images: ``(G, O, I)`` by layer.

    Args:
        network: the traced network.
        task: the images.
        target: what the kernels are important for.
        groups_GN: ``(G, N)``, how much each image counts in each group.
        batch_size: how many images are run at a time; by default what 256 MB of maps allow.
    """
    probe = Probe(network, target, layers_to(network, target))
    found = {layer.name: _zeros(network, layer, len(groups_GN)) for layer in probe.layers}
    start = 0
    for images, labels in probe.batches(task, batch_size):
        groups_GB = groups_GN.double()[:, start : start + len(images)]
        values, opened = probe.run(images, labels)
        for part, (slope, _) in zip(opened, probe.slopes(values, opened), strict=True):
            found[part.layer.name] += torch.einsum("gb,boi->goi", groups_GB, _by_image(part, slope, len(images)))
        start += len(images)
    return {layer.name: _of_target(found[layer.name], layer, target) for layer in probe.layers}


def _of_target(values_GOI: Tensor, layer: Layer, target: Target) -> Tensor:
    """Return the values with those of the other filters of the target's own layer 0."""
    read = target.reads(layer)
    return values_GOI if read is None else values_GOI * read[:, None].to(values_GOI)


def _zeros(network: Network, layer: Layer, groups: int) -> Tensor:
    weight: Tensor = getattr(network.module, layer.weight)
    return torch.zeros(groups, *weight.shape[:2], dtype=torch.float64)


@torch.no_grad()
def _by_image(part: Opened, slope: Tensor, count: int) -> Tensor:
    """Return ``mean_hw |a_oi g_o|`` of one layer for each of a batch's images, ``(B, O, I)``."""
    positions = part.output.numel() / part.layer.units / count
    inputs, slopes = part.input.chunk(count), slope.chunk(count)
    sums = [absolute_sums(part.layer, part.weight, *one) for one in zip(inputs, slopes, strict=True)]
    return torch.stack(sums).cpu().double() / positions


def kernel_set(importance: Mapping[str, Tensor], keep: float) -> dict[str, Tensor]:
    """Return the smallest set of kernels that carries a share of the importance of each layer, boolean ``(O, I)``.

    Args:
        importance: by layer, ``(O, I)``, at least 0.
        keep: the share, above 0 and at most 1. Kernels without importance are never in the set.

    Raises:
        SettingsError: ``keep`` is out of range.
    """
    if not 0 < keep <= 1:
        raise SettingsError(f"keep is the share of each layer's importance, above 0 and at most 1; got {keep}.")
    return {name: _carrying(values, keep) for name, values in importance.items()}


def _carrying(values: Tensor, keep: float) -> Tensor:
    ordered, order = values.flatten().double().sort(descending=True, stable=True)
    before = ordered.cumsum(0) - ordered
    chosen = (before < keep * ordered.sum()) & (ordered > 0)
    mask = torch.zeros(values.numel(), dtype=torch.bool)
    mask[order[chosen]] = True
    return mask.view(values.shape)


def overlaps(sets: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """Return ``|intersection| / |union|`` of every two sets of kernels, ``(k, k)``; 1 for two empty ones."""
    members = torch.stack([torch.cat([mask.flatten() for mask in kernels.values()]) for kernels in sets]).double()
    both = members @ members.T
    sizes = members.sum(1)
    either = sizes[:, None] + sizes[None] - both
    return torch.where(either > 0, both / either.clamp(min=1), 1.0)
