"""Making a bundle, set by set: planned, measured, and taken up again where it was cut short.

1. The network is traced; a small part of the work is done to see how long it takes and how large its files become.
2. ``bundle.json`` is written, marked as unfinished.
3. Each set is read, measured and written as one file. A set that was written before, of the same images with the same
   settings, is passed over: so a run that was killed goes on where it was.
4. What needs all sets is made: the overall importance, the graph, the projections.
5. ``bundle.json`` is written again, with the length and digest of every file: now the bundle is there.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurochains.chains import describe_origin
from neurochains.circuits.bundle import Bundle
from neurochains.circuits.bundle_document import BundleSet, Document
from neurochains.circuits.bundle_files import DOCUMENT, GRAPH_FILE, OVERALL_FILE, BundleFolder, set_file
from neurochains.circuits.bundle_graph import describe_blocks, describe_layers, graph_tensors
from neurochains.circuits.bundle_numbers import Spans
from neurochains.circuits.bundle_overall import overall, projection
from neurochains.circuits.bundle_pictures import LARGEST_LOSSLESS
from neurochains.circuits.bundle_sets import SetWriter, Wishes
from neurochains.circuits.estimates import estimate, finishing_seconds
from neurochains.circuits.image_sets import ImageSet
from neurochains.circuits.probe import layers_to
from neurochains.circuits.projections import known_method
from neurochains.circuits.targets import Target
from neurochains.data import Task
from neurochains.errors import ArtifactError, DataError, SettingsError
from neurochains.network import Layer, Network
from neurochains.preprocess import Preprocess

__all__ = ["Preparation", "Step"]

Report = Callable[["Step"], None]
_SAME_INPUT = 1e-3  # between images and their pixels, normalised


@dataclass(frozen=True, slots=True)
class Step:
    """Where a preparation is: the stage, how many of its parts are done, and the seconds left."""

    stage: str
    step: int
    steps: int
    seconds_left: float | None = None


class Preparation:
    """A bundle in the making; nothing is written before `run`.

    Args:
        network: the traced network.
        sets: the sets of images.
        place: the folder of the bundle.
        wishes: what it shall be like.
        force: replace a bundle of another model, or of other settings, that is there.

    Raises:
        ArtifactError: the place is taken.
        SettingsError: a wish cannot be met.
    """

    def __init__(
        self,
        network: Network,
        sets: Sequence[ImageSet],
        place: str | os.PathLike[str],
        wishes: Wishes,
        *,
        force: bool = False,
    ) -> None:
        _check(sets, wishes)
        self.folder = BundleFolder(place)
        self._network, self._sets, self._wishes = network, tuple(sets), wishes
        first = self._sets[0].load()
        scored = layers_to(network, Target.parse(wishes.target, network))
        self.document = _planned(network, self._sets, wishes, scored, first)
        spans, pictures = Spans(self.document.scored), str(self.document.settings["pictures"])
        self._writer = SetWriter(network, scored, spans, wishes, self.folder, pictures, _fingerprint(self.document))
        _check_place(self.folder, self.document, force)
        self._done = [self._writer.is_done(index, known) for index, known in enumerate(self._sets)]
        self.estimate = estimate(self._writer, self.document, self._sets, self._done, first)

    def run(self, progress: Report | None = None) -> Bundle:
        """Return the bundle, finished.

        Raises:
            ArtifactError: there is no room, or a file cannot be written.
            DataError: images cannot be used.
        """
        report = progress or _say_nothing
        there = self._there()
        if there is not None:
            return there
        self._check_space()
        self.folder.clean()
        self.folder.write_document(self.document.to_json())
        self._write_sets(report)
        self._finish(report)
        return Bundle.open(self.folder.place)

    def _there(self) -> Bundle | None:
        """Return the bundle at the place if it is what is wanted."""
        if not all(self._done):
            return None
        try:
            there = Bundle.open(self.folder.place)
        except ArtifactError:
            return None
        same = [replace(known, digests=()) for known in there.sets] == list(self.document.sets)
        return there if same and there.settings == self.document.settings else None

    def _write_sets(self, report: Report) -> None:
        todo = [index for index, done in enumerate(self._done) if not done]
        images = [len(self._sets[index].images) for index in todo]
        started, last = time.monotonic(), finishing_seconds(self.document)
        for position, index in enumerate(todo):
            seen, passed = sum(images[:position]), time.monotonic() - started
            left = passed / seen * sum(images[position:]) + last if seen else self.estimate.seconds
            report(Step("sets", len(self._sets) - len(todo) + position, len(self._sets), left))
            self._writer.write(index, self._sets[index])

    def _finish(self, report: Report) -> None:
        """Make what needs all sets, then say that the bundle is complete."""
        report(Step("overall", 0, 1, finishing_seconds(self.document)))
        counts, wishes = [len(known.images) for known in self._sets], self._wishes
        numbers = overall(self.folder, self._writer.spans, counts, kernels=wishes.kernels, patches=wishes.patches)
        self.folder.write(OVERALL_FILE, numbers)
        self.folder.write(GRAPH_FILE, graph_tensors(self._network, self.document.layers))
        rows = self._writer.spans.filters_of(numbers["sets"].T)
        method, steps = str(self.document.settings["projection"]), len(self.document.scored)
        for kind in ("classwise", "grid"):
            done = iter(range(1, steps + 1))
            tensors = projection(
                kind,
                self._network,
                self.document.layers,
                rows,
                numbers,
                method=method,
                seed=wishes.seed,
                tell=lambda kind=kind, done=done: report(Step(f"{kind} projection", next(done), steps)),
            )
            self.folder.write(f"{kind}.safetensors", tensors)
        self.folder.write_document(self._completed().to_json())

    def _completed(self) -> Document:
        """Return the document of the finished bundle: with the digests of all images and files."""
        every = [set_file(index) for index in range(len(self._sets))]
        sets = tuple(
            replace(known, digests=tuple(self.folder.about(name).get("digests", "").split()))
            for known, name in zip(self.document.sets, every)
        )
        names = [*every, OVERALL_FILE, GRAPH_FILE, "classwise.safetensors", "grid.safetensors"]
        files = {name: (self.folder.size(name), self.folder.digest(name)) for name in names}
        return replace(self.document, sets=sets, files=files)

    def _check_space(self) -> None:
        parent = next(path for path in self.folder.place.absolute().parents if path.exists())
        there = sum(self.folder.size(set_file(index)) for index, done in enumerate(self._done) if done)
        free, needed = shutil.disk_usage(parent).free, self.estimate.bytes - there
        if free < needed:
            raise ArtifactError(
                f"The bundle takes about {needed / 1e6:,.0f} MB more, but {parent} has only {free / 1e6:,.0f} MB left. "
                "Make room, choose another disk, or leave out the kernels with kernels=False (--no-kernels)."
            )


def _say_nothing(step: Step) -> None:
    """Report to nobody."""


def _check(sets: Sequence[ImageSet], wishes: Wishes) -> None:
    if not sets:
        raise DataError("Wanted at least one set of images, but got none.")
    if wishes.patches < 1:
        raise SettingsError(f"patches must be 1 or more; got {wishes.patches}.")


def _planned(
    network: Network, sets: Sequence[ImageSet], wishes: Wishes, scored: Sequence[Layer], first: Task
) -> Document:
    """Return the document of the bundle before any file is there."""
    pixels = sum(len(known.images) for known in sets) * math.prod(first.pixels.shape[1:])
    settings = {
        "target": wishes.target,
        "criterion": wishes.criterion,
        "reduce": wishes.reduce,
        "kernels": wishes.kernels,
        "patches": wishes.patches,
        "projection": known_method(wishes.projection),
        "seed": wishes.seed,
        "pictures": "png" if pixels <= LARGEST_LOSSLESS else "jpeg",
    }
    origin = describe_origin(network, first.subset([0]), settings)
    mean, std = _normalisation(network, wishes.preprocess, first)
    channels, height, width = network.input_shape
    return Document(
        provenance={key: origin[key] for key in ("created", "python", "packages", "model")},
        settings=settings,
        input_shape=(channels, height, width),
        outputs=network.outputs,
        mean=mean,
        std=std,
        layers=describe_layers(network, scored),
        blocks=describe_blocks(network),
        sets=tuple(BundleSet(known.name, known.label, known.synset, known.images) for known in sets),
    )


def _normalisation(
    network: Network, preprocess: Preprocess | None, first: Task
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and deviation by which pixels become inputs; empty where the images say otherwise."""
    how = preprocess or (network.info.preprocess if network.info else None)
    if how is None or how.channels != first.images.shape[1]:
        return (), ()
    differs = (how.normalise(first.pixels) - first.images).abs().max() > _SAME_INPUT
    return ((), ()) if bool(differs) else (tuple(how.mean), tuple(how.std))


def _fingerprint(document: Document) -> str:
    """Return a digest of all that the numbers of a set depend on besides its images."""
    settings = {key: value for key, value in document.settings.items() if key not in ("projection", "seed")}
    layers = [layer.name for layer in document.scored]
    model = document.provenance["model"]["digest"]
    whole = json.dumps([model, settings, layers, document.input_shape], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _check_place(folder: BundleFolder, document: Document, force: bool) -> None:
    """Check that the place is free, or holds what this run can go on with or may replace."""
    place = folder.place
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise ArtifactError(f"{place} is no folder of its own. Choose another name.")
    if not place.exists() or not any(place.iterdir()):
        return
    if not folder.has(DOCUMENT):
        raise ArtifactError(f"{place} holds something else than a bundle and is left alone. Choose another folder.")
    if not force:
        _check_same(place, Document.from_json(folder.document()), document)


def _check_same(place: Path, there: Document, wanted: Document) -> None:
    remedy = "Choose another folder, or replace it with force=True (--force)."
    digests = [found.provenance.get("model", {}).get("digest") for found in (there, wanted)]
    if digests[0] != digests[1]:
        raise ArtifactError(
            f"{place} holds a bundle of a model with other weights: their digest is {digests[0]}, that of this model "
            f"{digests[1]}. {remedy}"
        )
    changed = [key for key, value in wanted.settings.items() if there.settings.get(key) != value]
    if changed:
        raise ArtifactError(f"{place} holds a bundle that was made with another {', '.join(changed)}. {remedy}")
