"""Where training images come from: tensors, tasks, folders of images, data sets; split, shuffled and read in batches.

Shapes: N images, B of them at a time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from neurochains.data import Task
from neurochains.data.draws import Entry, draw
from neurochains.data.images import digest
from neurochains.data.reading import known_classes, preprocess_for, read_files
from neurochains.errors import DataError, SettingsError
from neurochains.preprocess import Preprocess

__all__ = ["FolderImages", "ImageSource", "TensorImages", "as_source", "check_apart", "known_labels", "loader", "split"]


@runtime_checkable
class ImageSource(Protocol):
    """N images with labels, read some at a time; a class of one's own with these methods can be trained on."""

    def __len__(self) -> int:
        """Return N."""
        ...

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return images ``(B, C, H, W)`` as the network takes them, and labels ``(B,)``."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TensorImages:
    """Images in memory: float ``(N, C, H, W)`` as the network takes them, or uint8 pixels with their preparation."""

    images: Tensor
    labels: Tensor
    preprocess: Preprocess | None = None

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) != len(self.labels) or not len(self.images):
            raise DataError(
                f"Wanted images (N, C, H, W) with a label each; got {tuple(self.images.shape)} and "
                f"{tuple(self.labels.shape)} labels."
            )
        if not self.images.is_floating_point() and self.preprocess is None:
            raise DataError(
                f"Pixels ({self.images.dtype}) must be prepared for the network. Pass preprocess= as in its training."
            )

    def __len__(self) -> int:
        return len(self.images)

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return some images and their labels."""
        rows = torch.as_tensor(indices)
        images = self.images[rows]
        ready = images if images.is_floating_point() else _checked(self.preprocess).normalise(images)
        return ready, self.labels[rows].long()

    def keys(self) -> list[str]:
        """Return what identifies each image: the digest of its values."""
        return [digest(image.contiguous().numpy().tobytes()) for image in self.images.cpu()]


@dataclass(frozen=True, slots=True, eq=False)
class FolderImages:
    """Images in files, read when they are needed."""

    entries: tuple[Entry, ...]
    preprocess: Preprocess

    @classmethod
    def of(cls, folder: str | os.PathLike[str], *, model: Any, preprocess: Preprocess | None) -> FolderImages:
        """Return the images of ``folder/<class>/<file>``, with labels as `Task.from_folder` gives them.

        Raises:
            DataError: the folder holds no images, or an image has no class.
            SettingsError: it is not known how to prepare images.
        """
        drawn = draw(folder, table=known_classes(model, None, None))
        without = next((entry.name for entry in drawn.given if entry.label < 0), None)
        if without is not None:
            raise DataError(f"Training needs the class of each image; {without} in {folder} has none that is known.")
        return cls(drawn.given, preprocess_for(model, preprocess))

    @property
    def labels(self) -> Tensor:
        """The label of each image, ``(N,)``."""
        return torch.tensor([entry.label for entry in self.entries])

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return some images and their labels."""
        chosen = [self.entries[index] for index in indices]
        images = read_files([entry.path for entry in chosen], self.preprocess).images
        return images, torch.tensor([entry.label for entry in chosen])

    def keys(self) -> list[str]:
        """Return what identifies each image: its file."""
        return [str(Path(entry.path).resolve()) for entry in self.entries]


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Some images of a source."""

    whole: ImageSource
    rows: tuple[int, ...]

    @property
    def labels(self) -> Tensor | None:
        known = known_labels(self.whole)
        return None if known is None else known[list(self.rows)]

    @property
    def preprocess(self) -> Preprocess | None:
        return getattr(self.whole, "preprocess", None)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        return self.whole.read([self.rows[index] for index in indices])


@dataclass(frozen=True, slots=True, eq=False)
class _Items:
    """A data set of torch whose items are (image, label)."""

    items: Any

    def __len__(self) -> int:
        return len(self.items)

    def read(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        pairs = [self.items[index] for index in indices]
        return torch.stack([image for image, _ in pairs]), torch.tensor([int(label) for _, label in pairs])


def as_source(value: Any, *, model: Any = None, preprocess: Preprocess | None = None) -> ImageSource:
    """Return images with labels from a folder, a task, a pair of tensors, a data set of torch, or a source.

    Args:
        value: a path ``folder/<class>/<file>``; a `Task` with labels; ``(images, labels)``; anything with a length
            whose items are ``(image, label)``; or an `ImageSource`.
        model: a model that says how images are prepared and what its outputs are called.
        preprocess: how images are prepared, as the model says if None.

    Raises:
        DataError: it is none of these, or has no labels.
    """
    if isinstance(value, (str, os.PathLike)):
        return FolderImages.of(value, model=model, preprocess=preprocess)
    if isinstance(value, Task):
        if value.labels is None or bool((value.labels < 0).any()):
            raise DataError("Training needs a label for each image, and the task has none for some. Pass labels.")
        return TensorImages(value.images, value.labels)
    if isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[0], Tensor):
        if not isinstance(value[1], Tensor):
            raise DataError(f"Training needs labels (N,) as a tensor beside the images; got {type(value[1]).__name__}.")
        pixels = None if value[0].is_floating_point() else preprocess_for(model, preprocess)
        return TensorImages(value[0], value[1], pixels)
    if isinstance(value, ImageSource):
        return value
    if hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, Tensor):
        return _Items(value)
    raise DataError(
        f"Wanted a folder, a Task, (images, labels), or a data set of (image, label), but got {type(value).__name__}."
    )


def split(source: ImageSource, share: float, *, seed: int) -> tuple[ImageSource, ImageSource]:
    """Return a source without, and with only, a share of its images drawn at random.

    Raises:
        SettingsError: the share leaves one of them empty.
    """
    count = round(share * len(source)) if 0 < share < 1 else 0
    if not 0 < count < len(source):
        raise SettingsError(f"The share for validation must leave images on both sides of {len(source)}; got {share}.")
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed)).tolist()
    return _Part(source, tuple(sorted(order[count:]))), _Part(source, tuple(sorted(order[:count])))


def known_labels(source: ImageSource) -> Tensor | None:
    """Return the label of each image where they are at hand without reading any; else None."""
    return getattr(source, "labels", None)


def check_apart(train: ImageSource, other: ImageSource) -> None:
    """Check that no image of a set is among the training images, as far as the sources can tell.

    Raises:
        DataError: one is; says how many.
    """
    sets = [set(source.keys()) for source in (train, other) if isinstance(source, (TensorImages, FolderImages))]
    shared = len(sets[0] & sets[1]) if len(sets) == 2 else 0
    if shared:
        raise DataError(
            f"{shared} of the images for validation are among the training images, so they would tell nothing. "
            "Pass other images, or a share such as val=0.1, which splits the training images."
        )


class _Batches(Sampler[list[int]]):
    """Lists of indices; of a shuffled source, another order in each epoch, the same whenever that epoch is run."""

    def __init__(self, count: int, batch: int, *, seed: int | None, rank: int, ranks: int) -> None:
        self._count, self._batch, self._seed = count, batch, seed
        self._rank, self._ranks = rank, ranks
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self._count)
        if self._seed is not None:
            generator = torch.Generator().manual_seed(self._seed * 100_003 + self._epoch)
            order = torch.randperm(self._count, generator=generator)
        mine = order[self._rank :: self._ranks]
        if self._seed is not None:  # every process takes as many steps
            mine = mine[: self._count // self._ranks]
        return iter([part.tolist() for part in mine.split(self._batch)])

    def __len__(self) -> int:
        mine = (
            self._count // self._ranks if self._seed is not None else len(range(self._rank, self._count, self._ranks))
        )
        return -(-mine // self._batch)


@dataclass(frozen=True, slots=True)
class _Reader:
    """A source as a data set whose items are whole batches."""

    source: ImageSource

    def __getitem__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return self.source.read(indices)

    def __len__(self) -> int:
        return len(self.source)


def loader(
    source: ImageSource,
    batch: int,
    *,
    seed: int | None,
    workers: int = 0,
    epoch: int = 0,
    rank: int = 0,
    ranks: int = 1,
) -> DataLoader[Any]:
    """Return batches of a source, shuffled if there is a seed, for one of several processes."""
    batches = _Batches(len(source), batch, seed=seed, rank=rank, ranks=ranks)
    batches.set_epoch(epoch)
    return DataLoader(
        _Reader(source),  # type: ignore[arg-type]
        sampler=batches,
        batch_size=None,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def _checked(preprocess: Preprocess | None) -> Preprocess:
    assert preprocess is not None  # the constructor saw to that
    return preprocess
