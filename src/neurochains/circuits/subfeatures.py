"""Sub-features: a filter that answers to several things, taken apart (Hamblin and Alvarez 2021, section 4.2).

1. The patches of the data that the filter answers to most, one for each image (`patches`).
2. Clusters of what the other filters of the layer answer there (`clusters`).
3. One circuit for each cluster: the kernels that carry a share of each layer's importance for the filter's largest
   value on the cluster's images (`kernel_sets`).
4. How much of their kernels two circuits share: ``|intersection| / |union|``. The median over all pairs is the
   *separability*, the smaller the more separate.
5. The mixed control: the same with the patches dealt anew among the clusters, several times. A filter has sub-features
   where the circuits share much less than they do there.

Shapes: P patches, k clusters, D draws of the control, U units of the layer, O and I out- and in-channels of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurochains.chains import describe_origin
from neurochains.circuits.clusters import cluster_patches, mixed_labels
from neurochains.circuits.kernel_sets import group_importance, kernel_set, overlaps
from neurochains.circuits.patches import Patches, top_patches
from neurochains.circuits.subfeature_results import Kernels, LayerSubFeatures, SubFeatures, median_of_pairs
from neurochains.circuits.targets import Target
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.network import Filter, Network, load_model

__all__ = ["layer_subfeatures", "subfeatures"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class _Settings:
    """What was asked for."""

    patches: int
    smallest: int | None
    keep: float
    draws: int
    seed: int
    batch_size: int

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def subfeatures(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    target: str,
    *,
    patches: int = 300,
    smallest: int | None = None,
    keep: float = 0.8,
    draws: int = 10,
    seed: int = 0,
    batch_size: int = 64,
) -> SubFeatures:
    """Return the sub-features of one filter.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network. It is never changed.
        task: the images to look for patches in; labels are not used.
        target: the filter, such as ``"L10_5"`` or ``"features.10[5]"``.
        patches: how many of the strongest patches to look at, at most one from each image.
        smallest: least patches of a cluster; by default 20 of 300 and in proportion, but at least 5.
        keep: the share of each layer's importance that a circuit carries. Smaller circuits share less, but give less
            of the filter's answers: see `answers_kept`.
        draws: of the mixed control.
        seed: of the mixed control.
        batch_size: how many images are run at a time; it changes no result.

    Raises:
        SettingsError: an option has a value it cannot have, or the target is no filter.
        LayerError: there is no such layer or filter; lists the nearest.
        ModelError: scikit-learn is not installed, or the model cannot be traced.
        DataError: the images do not fit the model.
    """
    task = Task.of(task)
    network = _network(model, task)
    unit = _filter_target(network, target)
    settings = _Settings(patches, smallest, keep, draws, seed, batch_size)
    (found,) = _find(network, task, unit.layer, [unit.index], settings, None)
    return found


def layer_subfeatures(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    layer: str,
    *,
    units: Sequence[int] | None = None,
    patches: int = 300,
    smallest: int | None = None,
    keep: float = 0.8,
    draws: int = 10,
    seed: int = 0,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> LayerSubFeatures:
    """Return the sub-features of the filters of one layer, ranked by separability, the most separable first.

    The patches of all filters are found in one go. The options are those of `subfeatures`.

    Args:
        model: see `subfeatures`, and so are the options that are not listed here.
        task: see there.
        layer: dotted name or label.
        units: which filters; all if None.
        patches: see there.
        smallest: see there.
        keep: see there.
        draws: see there.
        seed: see there.
        batch_size: see there.
        progress: called after each filter with how many are done and how many there are.

    Raises:
        SettingsError: an option has a value it cannot have.
        LayerError: there is no such layer or filter; lists the nearest.
        ModelError: scikit-learn is not installed, or the model cannot be traced.
        DataError: the images do not fit the model.
    """
    task = Task.of(task)
    network = _network(model, task)
    name = network.layer(layer).name
    settings = _Settings(patches, smallest, keep, draws, seed, batch_size)
    found = _find(network, task, name, units, settings, progress)
    return LayerSubFeatures(name, tuple(sorted(found, key=_rank)))


def _find(
    network: Network,
    task: Task,
    layer: str,
    units: Sequence[int] | None,
    settings: _Settings,
    progress: Progress | None,
) -> list[SubFeatures]:
    kernel_set({}, settings.keep)  # refuses a bad share before the work starts
    mixed_labels(torch.zeros(1, dtype=torch.int64), settings.draws, seed=settings.seed)
    every = top_patches(network, task, layer, units, count=settings.patches, batch_size=settings.batch_size)
    origin = describe_origin(network, task, settings.to_json())
    found = []
    for patches in every:
        labels = cluster_patches(patches.vectors, smallest=settings.smallest)
        circuits, mixed = _circuits(network, task, patches, labels, settings)
        label = network.label(patches.filter)
        found.append(SubFeatures(label, patches, labels, circuits, mixed, settings.to_json(), origin))
        if progress is not None:
            progress(len(found), len(every))
    return found


def _circuits(
    network: Network, task: Task, patches: Patches, labels: Tensor, settings: _Settings
) -> tuple[tuple[Kernels, ...], Tensor]:
    """Return the circuit of each cluster, and the separability in each draw of the mixed control ``(D,)``."""
    count = int(labels.max()) + 1 if len(labels) else 0
    if not count:
        return (), torch.zeros(0)
    dealt = [labels, *(mixed_labels(labels, settings.draws, seed=settings.seed) if count > 1 else ())]
    groups = torch.cat([_shares(one, count) for one in dealt])
    target = Target.parse(f"{patches.filter}@max", network)
    shown = task.subset(patches.images)
    importance = group_importance(network, shown, target, groups, batch_size=settings.batch_size)
    sets = [
        kernel_set({name: values[group] for name, values in importance.items()}, settings.keep)
        for group in range(len(groups))
    ]
    draws = [sets[start : start + count] for start in range(count, len(sets), count)]
    return tuple(sets[:count]), torch.tensor([median_of_pairs(overlaps(draw)) for draw in draws])


def _shares(labels: Tensor, count: int) -> Tensor:
    """Return how much each patch counts in each cluster ``(k, P)``: one over its size, or nothing."""
    belongs = (labels[None] == torch.arange(count)[:, None]).float()
    return belongs / belongs.sum(1, keepdim=True)


def _rank(found: SubFeatures) -> tuple[bool, float, int]:
    single = found.clusters < 2
    return single, 0.0 if single else found.separability, found.patches.filter.index


def _filter_target(network: Network, target: str) -> Filter:
    parsed = Target.parse(target, network)
    if parsed.layer is None or parsed.unit is None or parsed.position not in ("mean", "max"):
        raise SettingsError(f"Sub-features are those of a whole filter, such as L10_5 or L10_5@max; got {target!r}.")
    return network.filter(f"{parsed.layer.name}[{parsed.unit}]")


def _network(model: nn.Module | str | Network, task: Task) -> Network:
    if isinstance(model, Network):
        return model
    return Network.trace(load_model(model) if isinstance(model, str) else model, task.images[:1])
