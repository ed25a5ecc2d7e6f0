"""Images that were not used for the extraction: what both networks say, and where they part from their class.

After the castle / stone wall study of the NeuroChains papers: the filters of a class's chain are shown on an image of
the class and on the image in question, on the same scale.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import numpy as np
import torch
from torch import Tensor

from neurochains.chains import Chain
from neurochains.chains.paths import Path
from neurochains.data import Task
from neurochains.data.classes import ClassTable
from neurochains.errors import DataError, SettingsError
from neurochains.report.answers import Answers, answer, are_classes, clearest, rows_by_class
from neurochains.report.content import ClassView, MapsView, SmoeView, StudyView
from neurochains.report.filters import Gallery
from neurochains.report.likeness import compare, features
from neurochains.report.maps import filter_maps, smoe_layers, smoe_maps

__all__ = ["read_also", "smoe_view", "studies"]


@dataclass(frozen=True, slots=True, eq=False)
class _Beside:
    """What the images in question are held against."""

    chain: Chain
    answers: Answers
    rows: Mapping[int, tuple[int, ...]]
    paths: Mapping[int, Sequence[Path]]
    gallery: Gallery
    own: Mapping[str, np.ndarray]  # features of the task's images
    samples: Mapping[int, int]  # the clearest image of each class

    def name(self, label: int) -> str:
        return self.chain.task.label_name(label)


def read_also(chain: Chain, also: Sequence[str | os.PathLike[str]] | Task) -> Task | None:
    """Return the further images, prepared like those of the task; None if there are none.

    A class that a file or its folder is named after counts as the truth.

    Raises:
        ImageError: a file cannot be read.
        SettingsError: it is not known how images are prepared for this network; pass a Task instead of paths.
        DataError: a task's images do not fit the network.
    """
    if isinstance(also, Task):
        if tuple(also.images.shape[1:]) != tuple(chain.network.input_shape):
            wanted = ", ".join(map(str, chain.network.input_shape))
            raise DataError(f"Wanted further images (N, {wanted}), but got {tuple(also.images.shape)}.")
        return also
    files = [FilePath(path) for path in ([also] if isinstance(also, (str, os.PathLike)) else also)]
    if not files:
        return None
    how = None if chain.network.info is None else chain.network.info.preprocess
    if how is None:
        raise SettingsError(
            "Wanted to show further images, but how images are prepared for this network is not known. "
            "Pass also=nc.Task.from_files(paths, preprocess=nc.Preprocess(...)) instead of paths."
        )
    task = chain.task
    names, synsets = task.class_names, task.synsets
    labels = _labels(files, ClassTable(names, synsets)) if are_classes(chain) else None
    return Task.from_files(files, labels=labels, preprocess=how, class_names=names, synsets=synsets)


def _labels(files: Sequence[FilePath], table: ClassTable) -> list[int]:
    """Return the class that each file or its folder is named after, -1 where there is none."""
    read = [(table.read(file.stem), table.read(file.absolute().parent.name)) for file in files]
    return [next((label for label in both if label is not None), -1) for both in read]


def studies(
    chain: Chain, also: Task | None, answers: Answers, paths: Mapping[int, Sequence[Path]], gallery: Gallery
) -> tuple[StudyView, ...]:
    """Return what is seen of each further image beside its class.

    Args:
        chain: the chain.
        also: the further images.
        answers: for the task's images.
        paths: the chains of each class.
        gallery: the pictures of their filters.
    """
    if also is None:
        return ()
    rows = rows_by_class(answers)
    samples = {label: clearest(answers, label, several) for label, several in rows.items()}
    own = features(chain, answers.task.images)
    beside = _Beside(chain, answers, rows, paths, gallery, own, samples)
    said, theirs = answer(chain, also), features(chain, also.images)
    maps = filter_maps(chain.network, also.images, gallery.units)
    layers = smoe_layers(chain.network, chain.subnetwork)
    return tuple(_study(beside, said, row, theirs, maps, layers) for row in range(len(also)))


def _study(
    beside: _Beside,
    said: Answers,
    row: int,
    theirs: Mapping[str, np.ndarray],
    maps: Mapping[str, Tensor],
    layers: list[str],
) -> StudyView:
    label = _reference(beside, said, row)
    chosen = [other for other in dict.fromkeys((label, int(said.original[row].argmax()))) if other in beside.rows]
    labels = [beside.chain.network.layer(name).label for name in beside.own]
    named = {beside.name(other): rows for other, rows in beside.rows.items()}
    image = {name: values[row] for name, values in theirs.items()}
    likeness = compare(labels, beside.own, named, image, beside.name(label)) if beside.own else None
    picture = said.task.subset([row])
    sample = beside.answers.task.subset([beside.samples[label]])
    return StudyView(
        image=said.view(row),
        beside=beside.name(label),
        likeness=likeness,
        classes=tuple(_class(beside, other, said, row, maps) for other in chosen if beside.paths.get(other)),
        smoe=smoe_view(beside.chain, [picture, sample], layers),
    )


def _reference(beside: _Beside, said: Answers, row: int) -> int:
    """Return the class that an image is held against: its true one, a predicted one, or the likeliest."""
    labels = said.task.labels
    truth = -1 if labels is None else int(labels[row])
    predicted = int(said.original[row].argmax())
    for label in (truth, predicted, int(said.reduced[row].argmax())):
        if label in beside.rows:
            return label
    return max(beside.rows, key=lambda label: float(said.original[row][label]))


def _class(beside: _Beside, label: int, said: Answers, row: int, maps: Mapping[str, Tensor]) -> ClassView:
    """Return the first chain of a class, on its clearest image and on the image in question."""
    sample = beside.samples[label]
    task, gallery = beside.answers.task, beside.gallery
    pair = [(task.pixels[sample], gallery.maps, sample), (said.task.pixels[row], maps, row)]
    views = (beside.answers.view(sample), said.view(row))
    first = gallery.chain(1, beside.paths[label][0], pair)
    return ClassView(beside.name(label), len(beside.rows[label]), views, (first,))


def smoe_view(chain: Chain, pictures: Sequence[Task], layers: Sequence[str]) -> SmoeView | None:
    """Return the SMOE maps of some images in both networks; None where no kept layer has rows and columns."""
    if not layers:
        return None
    images = torch.cat([picture.images for picture in pictures])
    original = smoe_maps(chain.network, images, layers)
    reduced = smoe_maps(chain.network, images, layers, chain.subnetwork)
    names = [name for picture in pictures for name in picture.names]
    pixels = torch.cat([picture.pixels for picture in pictures]).cpu()
    views = tuple(
        MapsView(
            name,
            pixels[row].permute(1, 2, 0).numpy(),
            tuple(one[row].numpy() for one in original),
            tuple(one[row].numpy() for one in reduced),
        )
        for row, name in enumerate(names)
    )
    return SmoeView(tuple(chain.network.layer(name).label for name in layers), views)
