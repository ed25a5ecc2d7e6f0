"""One set of a bundle, from its images to its file: importances, summaries of maps, patches, pictures.

The file also says what it was made of: the digests of the images and of the settings. A set whose file says what would
be asked for now is not made again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.circuits.bundle_files import BundleFolder, set_file
from neurochains.circuits.bundle_numbers import Spans, pack
from neurochains.circuits.bundle_pictures import encode
from neurochains.circuits.criteria import Reduce
from neurochains.circuits.image_sets import ImageSet
from neurochains.circuits.summaries import summarise
from neurochains.circuits.vectors import importance_vectors
from neurochains.data import Task
from neurochains.network import Layer, Network
from neurochains.preprocess import Preprocess

__all__ = ["SetWriter", "Wishes"]

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a bundle shall be like; see `prepare`."""

    target: str = "loss"
    criterion: str = "activation_gradient"
    reduce: Reduce = "abs"
    kernels: bool = True
    patches: int = 9
    projection: str = "auto"
    seed: int = 0
    batch_size: int | None = None
    preprocess: Preprocess | None = None


@dataclass(frozen=True, slots=True)
class SetWriter:
    """Makes the files of sets.

    Attributes:
        network: the traced network.
        scored: the layers that are measured.
        spans: where each lies.
        wishes: what the bundle shall be like.
        folder: of the bundle.
        pictures: ``"png"`` or ``"jpeg"``.
        settings: the digest of all that the numbers depend on besides the images.
    """

    network: Network
    scored: Sequence[Layer]
    spans: Spans
    wishes: Wishes
    folder: BundleFolder
    pictures: str
    settings: str

    def is_done(self, index: int, known: ImageSet) -> bool:
        """Return whether a set's file is there, whole, and made of these images with these settings."""
        about = self.folder.about(set_file(index))
        if about.get("settings") != self.settings or about.get("name") != known.name:
            return False
        return about.get("digests", "").split() == list(known.digests())

    def write(self, index: int, known: ImageSet) -> None:
        """Read, measure and write one set.

        Raises:
            DataError: its images cannot be used.
            ArtifactError: its file cannot be written.
        """
        task = known.load()
        about = {"settings": self.settings, "name": known.name, "digests": " ".join(task.digests)}
        self.folder.write(set_file(index), {**self.measure(task), **self.encode(task)}, about)

    def encode(self, task: Task) -> dict[str, Array]:
        """Return the pictures of a task as they are kept."""
        return encode(task.pixels.numpy(), self.pictures)

    def measure(self, task: Task) -> dict[str, Array]:
        """Return the numbers of a set: importances, summaries and patches."""
        wishes = self.wishes
        filters, kernels = importance_vectors(
            self.network,
            task,
            self.spans,
            target=wishes.target,
            criterion=wishes.criterion,
            reduce=wishes.reduce,
            batch_size=wishes.batch_size,
        )
        numbers = {"filters": filters.astype(np.float32), **(pack(kernels, self.spans) if wishes.kernels else {})}
        summary = summarise(self.network, task, self.scored, places=wishes.patches, batch_size=wishes.batch_size)
        return {**numbers, **summary}
