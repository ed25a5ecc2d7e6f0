"""Comparison of chains: do similar tasks share filters, do all need equally many, are there filters that all use?

Chains of one network are held against each other. What is compared are their kept filters and scores; neither model nor
images are needed, so folders that `Chain.save` wrote will do as well as chains.

Shapes: C chains, L layers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from neurochains.chains import Chain, read_result
from neurochains.chains.plain import plain
from neurochains.errors import ArtifactError, DataError
from neurochains.measures import overlap as overlaps
from neurochains.measures.intervals import Interval, bootstrap, interval_of_mean
from neurochains.network.layers import Filter

__all__ = ["Compared", "Comparison", "compare"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What is compared of a chain: its name, the classes of its task, its scores and the labels of the layers."""

    name: str
    classes: tuple[str, ...]
    units: Mapping[str, Tensor]
    labels: Mapping[str, str]
    digest: str
    metrics: Mapping[str, Any]

    @property
    def filters(self) -> frozenset[Filter]:
        """The kept filters."""
        kept = {layer: values.nonzero().flatten().tolist() for layer, values in self.units.items()}
        return frozenset(Filter(layer, index) for layer, indices in kept.items() for index in indices)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Chains of one network beside each other.

    Attributes:
        chains: what was compared, in order.
        overlap: ``(C, C)``, intersection over union of the kept filters.
        weighted: ``(C, C)``, the same weighted by score.
        by_layer: ``(L, C, C)``, the overlap in each layer; NaN where neither chain keeps a filter.
        by_chance: ``(C, C)``, the overlap of sets of these sizes by layer, drawn at random.
    """

    chains: tuple[Compared, ...]
    overlap: Array
    weighted: Array
    by_layer: Array
    by_chance: Array

    @property
    def names(self) -> tuple[str, ...]:
        """The chains' names."""
        return tuple(chain.name for chain in self.chains)

    @property
    def layers(self) -> tuple[str, ...]:
        """The dotted names of the scored layers, in order of execution."""
        return tuple(self.chains[0].units)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many filters each chain keeps."""
        return tuple(len(filters) for filters in self._filters)

    @cached_property
    def _filters(self) -> tuple[frozenset[Filter], ...]:
        return tuple(chain.filters for chain in self.chains)

    @cached_property
    def tree(self) -> Array:
        """The tree ``(C - 1, 4)`` of average linkage on one minus the overlap, as SciPy writes it."""
        return overlaps.join(1 - self.overlap)

    @cached_property
    def uses(self) -> dict[Filter, int]:
        """By how many chains each filter is kept, for those that any keeps, in order of layers."""
        counts = {
            name: np.sum([chain.units[name].numpy() != 0 for chain in self.chains], axis=0).tolist()
            for name in self.layers
        }
        return {Filter(name, index): many for name, each in counts.items() for index, many in enumerate(each) if many}

    @property
    def shared(self) -> tuple[Filter, ...]:
        """The filters that all chains keep."""
        return tuple(unit for unit, many in self.uses.items() if many == len(self.chains))

    @cached_property
    def own(self) -> tuple[tuple[Filter, ...], ...]:
        """For each chain, the filters that no other keeps."""
        alone = {unit for unit, many in self.uses.items() if many == 1}
        return tuple(tuple(unit for unit in self.uses if unit in alone & filters) for filters in self._filters)

    @cached_property
    def of_class(self) -> dict[str, tuple[Filter, ...]]:
        """For each class, the filters of it alone: all chains with the class keep them, and none without it."""
        classes = dict.fromkeys(name for chain in self.chains for name in chain.classes)
        return {name: self._alone(name) for name in classes}

    def _alone(self, name: str) -> tuple[Filter, ...]:
        inside = [f for chain, f in zip(self.chains, self._filters, strict=True) if name in chain.classes]
        outside = [f for chain, f in zip(self.chains, self._filters, strict=True) if name not in chain.classes]
        found = frozenset.intersection(*inside) - frozenset().union(*outside)
        return tuple(unit for unit in self.uses if unit in found)

    @property
    def size(self) -> Interval:
        """The mean number of filters, with its interval over the chains."""
        return interval_of_mean(self.sizes)

    def mean_overlap(self, *, alike: bool | None = None) -> Interval:
        """Return the mean overlap of pairs of chains, with its interval over the chains.

        Args:
            alike: only pairs that have a class in common (True), or none (False); all if None.
        """
        return self._mean(self.overlap, alike)

    def mean_by_chance(self) -> Interval:
        """Return the mean overlap that chance would give, with its interval over the chains."""
        return self._mean(self.by_chance, None)

    def layer_means(self) -> dict[str, list[float]]:
        """Return the mean overlap of pairs in each layer: with a class in common, with none, and by chance.

        Kinds without any pair are left out; a layer of which no pair of a kind keeps a filter is NaN.
        """
        count = len(self.chains)
        pairs = [(a, b) for a in range(count) for b in range(a)]
        alike = [self._alike(a, b) for a, b in pairs]
        chance = overlaps.chance_by_layer([chain.units for chain in self.chains])
        kinds = {
            "a class in common": (self.by_layer, [pair for pair, same in zip(pairs, alike) if same]),
            "no class in common": (self.by_layer, [pair for pair, same in zip(pairs, alike) if not same]),
            "by chance": (chance, pairs),
        }
        return {name: _layer_means(values, some) for name, (values, some) in kinds.items() if some}

    def _mean(self, values: Array, alike: bool | None) -> Interval:
        count = len(self.chains)
        pairs = np.array(
            [[alike in (None, self._alike(a, b)) for b in range(count)] for a in range(count)], dtype=float
        )
        np.fill_diagonal(pairs, 0.0)

        def mean(chosen: Sequence[int]) -> float | None:
            often = np.bincount(chosen, minlength=count)
            total = often @ pairs @ often
            return float(often @ (pairs * values) @ often / total) if total else None

        return bootstrap(range(count), mean)

    def _alike(self, one: int, other: int) -> bool:
        return bool(set(self.chains[one].classes) & set(self.chains[other].classes))

    def to_json(self) -> dict[str, Any]:
        """Return everything that is compared, filters written as ``layer[index]``."""
        layers = dict(zip(self.layers, self.by_layer.tolist(), strict=True))
        means = {name: dict(zip(self.layers, line, strict=True)) for name, line in self.layer_means().items()}
        return plain(
            {
                "chains": [{"name": c.name, "classes": c.classes, "filters": len(c.filters)} for c in self.chains],
                "filters": self.size.to_json(),
                "mean_overlap": self.mean_overlap().to_json(),
                "mean_overlap_class_in_common": self.mean_overlap(alike=True).to_json(),
                "mean_overlap_no_class_in_common": self.mean_overlap(alike=False).to_json(),
                "mean_overlap_by_chance": self.mean_by_chance().to_json(),
                "overlap": self.overlap,
                "weighted": self.weighted,
                "by_chance": self.by_chance,
                "by_layer": layers,
                "layer_means": means,
                "tree": self.tree,
                "shared": self.shared,
                "own": dict(zip(self.names, self.own, strict=True)),
                "of_class": self.of_class,
                "uses": {str(unit): many for unit, many in self.uses.items()},
            }
        )


def compare(chains: Iterable[Chain | str | os.PathLike[str]], *, names: Sequence[str] | None = None) -> Comparison:
    """Return the comparison of chains of one network.

    Args:
        chains: two or more chains, or folders that `Chain.save` wrote; folders are read without their model.
        names: one for each; by default the names of the folders, or the classes of the tasks. Where two would be the
            same, a number is added.

    Raises:
        DataError: fewer than two, of different networks, or with different units scored; or names that do not fit.
        ArtifactError: a folder holds no chain.
    """
    entries = [_compared(chain) for chain in chains]
    if len(entries) < 2:
        raise DataError(f"Wanted two chains or more to compare, but got {len(entries)}.")
    if names is not None and len(names) != len(entries):
        raise DataError(f"Wanted one name for each of {len(entries)} chains, but got {len(names)}.")
    _check(entries)
    called = _apart([entry.name for entry in entries] if names is None else list(names))
    renamed = tuple(replace(entry, name=name) for name, entry in zip(called, entries, strict=True))
    kept = [entry.units for entry in renamed]
    return Comparison(
        renamed, overlaps.overlap(kept), overlaps.weighted(kept), overlaps.by_layer(kept), overlaps.by_chance(kept)
    )


def _compared(chain: Chain | str | os.PathLike[str]) -> Compared:
    if isinstance(chain, Chain):
        classes = tuple(chain.task.label_name(label) for label in chain.task.classes)
        name = " / ".join(classes) or "chain"
        units = {layer: values.cpu() for layer, values in chain.scores.items()}
        labels = {layer: chain.network.layer(layer).label for layer in units}
        return Compared(name, classes, units, labels, chain.network.digest, chain.metrics)
    document, tensors = read_result(chain)
    try:
        scores = {key.removeprefix("score/"): v for key, v in tensors["chain"].items() if key.startswith("score/")}
        origin = document["provenance"]
        classes = tuple(origin["classes"].values())
        labels = document.get("layers") or {layer: layer for layer in sorted(scores, key=_natural)}
        units = {layer: scores[layer] for layer in labels}
        return Compared(Path(chain).name, classes, units, labels, origin["model"]["digest"], document["metrics"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{chain}/chain.json is damaged: {error}. Extract the chain again.") from error


def _layer_means(values: Array, pairs: Sequence[tuple[int, int]]) -> list[float]:
    """Return the mean over some pairs of each layer's values ``(L, C, C)``, NaN left out."""
    rows, columns = zip(*pairs)
    chosen = values[:, list(rows), list(columns)]
    known = np.isfinite(chosen)
    total = np.where(known, chosen, 0.0).sum(1)
    return np.where(known.any(1), total / np.maximum(known.sum(1), 1), np.nan).tolist()


def _natural(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts names with their numbers in order: the best guess where no order was saved."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _check(entries: Sequence[Compared]) -> None:
    first = entries[0]
    for entry in entries[1:]:
        if entry.digest != first.digest:
            raise DataError(
                f"Chains of one network are compared, but {entry.name} is of a model with other weights than "
                f"{first.name}: digests {entry.digest[:12]} and {first.digest[:12]}. Compare those of one model."
            )
        if {name: len(values) for name, values in entry.units.items()} != {n: len(v) for n, v in first.units.items()}:
            raise DataError(
                f"{entry.name} and {first.name} score different units ({len(entry.units)} and {len(first.units)} "
                "layers). Compare chains that were extracted with the same units."
            )


def _apart(names: list[str]) -> list[str]:
    """Return the names with a number behind those that occur again."""
    met: dict[str, int] = {}
    found = []
    for name in names:
        met[name] = met.get(name, 0) + 1
        found.append(name if met[name] == 1 else f"{name} ({met[name]})")
    return found
