"""Calculation paths: which filters each image uses, what a class uses, and how far paths lie apart.

The path of an image is its codes of all controlled layers behind each other, F bits. Two paths differ by the share of
their bits that differ (Hamming distance).

Shapes: N and M images, C filters of a layer, F filters in all, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.data import Task
from neurochains.errors import DataError

if TYPE_CHECKING:
    from neurochains.decoupling.decoupled import Decoupled

__all__ = ["ClassUse", "Paths", "calculation_paths"]


@dataclass(frozen=True, slots=True)
class ClassUse:
    """How many filters the images of a class use: few for an easy class, many for a hard one.

    Attributes:
        label, name: of the class.
        images: how many there are.
        mean, sd: of the number of filters that are on.
        share: the mean as a share of all filters.
    """

    label: int
    name: str
    images: int
    mean: float
    sd: float
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Paths:
    """The calculation paths of N images.

    Attributes:
        codes: by layer ``(N, C)``, True where a filter is on.
        labels: ``(N,)``, or None; -1 where a class is not known.
        class_names: of all labels; numbers stand in for them if None.

    Raises:
        DataError: there is no layer or image, or the lengths differ.
    """

    codes: Mapping[str, Tensor]
    labels: Tensor | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        counts = {len(code) for code in self.codes.values()} | (set() if self.labels is None else {len(self.labels)})
        shapes = {tuple(code.shape) for code in self.codes.values()}
        if len(counts) != 1 or counts == {0} or any(len(shape) != 2 for shape in shapes):
            labels = None if self.labels is None else tuple(self.labels.shape)
            raise DataError(
                "Wanted codes (N, C) of at least one layer on the same N >= 1 images, and as many labels or none; got "
                f"{sorted(shapes)} and labels {labels}."
            )

    def __len__(self) -> int:
        return len(next(iter(self.codes.values())))

    @property
    def layers(self) -> tuple[str, ...]:
        """The controlled layers, in order of execution."""
        return tuple(self.codes)

    @property
    def vectors(self) -> Tensor:
        """The whole paths ``(N, F)``, True where a filter is on."""
        return torch.cat([code.bool() for code in self.codes.values()], 1)

    @property
    def classes(self) -> tuple[int, ...]:
        """The labels that occur, sorted.

        Raises:
            DataError: the classes of the images are not known.
        """
        if self.labels is None or not bool((self.labels >= 0).any()):
            raise DataError("What classes use can only be told of labelled images; pass their labels.")
        return tuple(label for label in self.labels.unique().tolist() if label >= 0)

    def class_name(self, label: int) -> str:
        """Return what a class is called."""
        names = self.class_names
        return str(label) if names is None or not 0 <= label < len(names) else names[label]

    def subset(self, indices: Sequence[int] | Tensor) -> Paths:
        """Return the paths of some of the images, in the order given."""
        chosen = torch.as_tensor(indices, dtype=torch.long)
        labels = None if self.labels is None else self.labels[chosen]
        return Paths({name: code[chosen] for name, code in self.codes.items()}, labels, self.class_names)

    def of_class(self, label: int) -> Paths:
        """Return the paths of the images of one class.

        Raises:
            DataError: no image is of this class.
        """
        if label not in self.classes:
            known = ", ".join(map(self.class_name, self.classes))
            raise DataError(f"No image is of class {label}; the classes here are {known}.")
        assert self.labels is not None
        return self.subset((self.labels == label).nonzero().flatten())

    def frequency(self) -> dict[str, Tensor]:
        """Return by layer ``(C,)`` the share of the images that a filter is on for."""
        return {name: code.double().mean(0) for name, code in self.codes.items()}

    def class_frequency(self) -> dict[str, dict[str, Tensor]]:
        """Return by class name, and by layer ``(C,)``, the share of the class's images that a filter is on for.

        Raises:
            DataError: the classes of the images are not known.
        """
        return {self.class_name(label): self.of_class(label).frequency() for label in self.classes}

    def used(self) -> Tensor:
        """Return ``(N,)``: the number of filters that each image uses."""
        return self.vectors.sum(1)

    def class_use(self) -> list[ClassUse]:
        """Return how many filters each class uses, the easiest class (the fewest) first.

        Raises:
            DataError: the classes of the images are not known.
        """
        total = self.vectors.shape[1]
        rows = []
        for label in self.classes:
            used = self.of_class(label).used().double()
            mean, sd = float(used.mean()), float(used.std(correction=0))
            rows.append(ClassUse(label, self.class_name(label), len(used), mean, sd, mean / total))
        return sorted(rows, key=lambda row: (row.mean, row.label))

    def distances(self, others: Paths | None = None) -> Tensor:
        """Return ``(N, M)``: the share of filters in which the paths of two images differ; among themselves if None.

        Raises:
            DataError: the others are paths through other filters.
        """
        other = self if others is None else others
        shapes, wanted = ({name: code.shape[1] for name, code in paths.codes.items()} for paths in (other, self))
        if shapes != wanted:
            raise DataError(f"Wanted paths through the same filters, {wanted}; got {shapes}.")
        return hamming(self.vectors, other.vectors) / self.vectors.shape[1]

    def class_distances(self) -> Tensor:
        """Return ``(K, K)``: the mean distance of the paths of two classes, in the order of `classes`.

        On the diagonal it is that of different images of one class; NaN where there is only one.

        Raises:
            DataError: the classes of the images are not known.
        """
        classes = self.classes
        assert self.labels is not None
        member_KN = torch.stack([(self.labels == label).double() for label in classes])
        sums_KK = member_KN @ self.distances() @ member_KN.T
        counts_K = member_KN.sum(1)
        pairs_KK = counts_K[:, None] * counts_K - torch.diag(counts_K)
        return sums_KK / pairs_KK

    def distinct(self) -> int:
        """Return the number of different paths."""
        return len(self.vectors.unique(dim=0))

    def plane(self, *, method: str = "auto", seed: int = 0) -> NDArray[np.floating]:
        """Return a place ``(N, 2)`` for each image, near each other where the whole paths are alike.

        Args:
            method: ``"umap"``, ``"pca"``, or ``"auto"``: UMAP where it is installed.
            seed: of UMAP.

        Raises:
            SettingsError: there is no such method, or it is not installed.
        """
        from neurochains.circuits import embed  # what decoupling does otherwise needs nothing of circuits

        return embed(self.vectors.double().numpy(), method=method, seed=seed)

    def to_json(self) -> dict[str, Any]:
        """Return a summary as JSON values: images, filters, different paths and, where known, what classes use."""
        found: dict[str, Any] = {"images": len(self), "filters": self.vectors.shape[1], "distinct": self.distinct()}
        found["used"] = {"mean": float(self.used().double().mean()), "least": int(self.used().min())}
        found["used"]["most"] = int(self.used().max())
        if self.labels is not None and bool((self.labels >= 0).any()):
            rows = self.class_use()
            found["classes"] = [{name: getattr(row, name) for name in ClassUse.__slots__} for row in rows]
            found["class_distances"] = self.class_distances().tolist()
        return found


def calculation_paths(decoupled: Decoupled, task: Task | Tensor, *, batch: int = 64) -> Paths:
    """Return the calculation paths of some images, by the codes of eval mode.

    Args:
        decoupled: the network.
        task: the images, with labels and names of classes where they are known; or a tensor ``(N, C, H, W)``.
        batch: how many images are computed at once.

    Raises:
        DataError: there are no images, or of another shape.
    """
    given = Task.of(task)
    return Paths(decoupled.codes(given.images, batch=batch), given.labels, given.class_names)


def hamming(left_NF: Tensor, right_MF: Tensor) -> Tensor:
    """Return ``(N, M)`` float64: in how many bits two rows differ.

    >>> hamming(torch.tensor([[True, False]]), torch.tensor([[True, True], [True, False]])).tolist()
    [[1.0, 0.0]]
    """
    left, right = left_NF.float(), right_MF.float()  # sums of up to 2**24 bits are exact
    return (left.sum(1)[:, None] + right.sum(1) - 2 * left @ right.T).double()
