"""The bundle: a folder with what an explorer needs of one network on sets of images, computed once.

It holds the network as a graph, the importance of every filter and kernel for every set and overall, summaries of
activations, the patches that each filter answers to most, the pictures, and places for the filters in the plane. It
opens without the model, on any machine, and reads only what is asked for. `neurochains.circuits.prepare` writes it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from neurochains.circuits.bundle_document import BundleBlock, BundleLayer, BundleSet, Document
from neurochains.circuits.bundle_files import GRAPH_FILE, OVERALL_FILE, BundleFolder, set_file, visual_file
from neurochains.circuits.bundle_numbers import SUMMARIES, Spans, unpack
from neurochains.circuits.bundle_pictures import decode
from neurochains.circuits.set_names import OVERALL, SetNames
from neurochains.errors import ArtifactError, DataError, LayerError, SettingsError
from neurochains.network import Filter, Network
from neurochains.network.labels import find_filter, find_layer
from neurochains.network.network import weight_digest
from neurochains.network.prepare import prepare as unwrapped

__all__ = ["Bundle", "BundlePatch", "Visual"]

Array = NDArray[Any]
PROJECTIONS = ("classwise", "grid", "visual")
INPUT = -1
_OBJECTIVES = ("channel", "centre")


@dataclass(frozen=True, slots=True)
class BundlePatch:
    """A place where a filter answers much: in which image of which set, where on the map, and the pixels it sees.

    `box` is (top, left, bottom, right), ends exclusive; the whole image for a layer without rows and columns.
    """

    set: int
    image: int
    name: str
    row: int
    column: int
    value: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Visual:
    """A feature visualisation that was kept: uint8 ``(C, H, W)``, and the values it reached (see `pictures`)."""

    pixels: Array
    reached: float
    peak: float


class Bundle:
    """A prepared bundle; `Bundle.open` reads it.

    Names of sets and images are whatever its maker wrote: escape them where they are shown as HTML.
    """

    def __init__(self, folder: BundleFolder, document: Document) -> None:
        self.folder = folder
        self.document = document
        self.spans = Spans(document.scored)
        self._layers = {layer.name: layer for layer in document.layers}

    @classmethod
    def open(cls, place: str | os.PathLike[str], *, model: nn.Module | Network | None = None) -> Bundle:
        """Return the bundle in a folder, after checking that it is whole: that every file has its length.

        Args:
            place: the folder.
            model: where given, the bundle must be of this model.

        Raises:
            ArtifactError: there is none, it is not finished, damaged, or of another version or model.
        """
        folder = BundleFolder(place)
        try:
            document = Document.from_json(folder.document())
        except ArtifactError as error:
            raise error if str(place) in str(error) else ArtifactError(f"{place}: {error}.") from error
        if not document.complete:
            done = sum(folder.has(set_file(index)) for index in range(len(document.sets)))
            raise ArtifactError(
                f"{place} is not finished: {done} of {len(document.sets)} sets are there. Run the same command again: "
                "neurochains prepare goes on where it was."
            )
        bundle = cls(folder, document)
        bundle._check_files()
        if model is not None:
            bundle.check_model(model)
        return bundle

    @property
    def layers(self) -> tuple[BundleLayer, ...]:
        """All layers, in order of execution."""
        return self.document.layers

    @property
    def blocks(self) -> tuple[BundleBlock, ...]:
        """The blocks that can be skipped."""
        return self.document.blocks

    @property
    def sets(self) -> tuple[BundleSet, ...]:
        """The sets of images."""
        return self.document.sets

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the bundle was made with: ``target``, ``criterion``, ``reduce``, ``kernels``, ``patches``, ..."""
        return self.document.settings

    @property
    def has_kernels(self) -> bool:
        """Whether the importance of kernels was kept."""
        return self.settings.get("kernels") is True

    @cached_property
    def names(self) -> SetNames:
        """What the sets are called."""
        return SetNames(self.sets)

    def layer(self, text: str) -> BundleLayer:
        """Return the layer with a dotted name or a paper label.

        Raises:
            LayerError: no layer is called that; lists the nearest names.
        """
        return find_layer(self._layers, text)  # type: ignore[arg-type, return-value]

    def filter(self, text: str) -> Filter:
        """Return the filter that ``"L4B1C2_48"`` or ``"layer4.0.conv2[48]"`` names.

        Raises:
            LayerError: no such layer or filter.
        """
        return find_filter(self._layers, text)  # type: ignore[arg-type]

    def values(self, name: str, *, kernels: bool = False) -> Array:
        """Return the importance of all filters ``(F,)`` or kernels ``(K,)`` for a set, or ``"overall"``, in one vector.

        Raises:
            ExpressionError: no set is called that.
            SettingsError: kernels are wanted and were not kept.
            ArtifactError: a file is missing or damaged.
        """
        file = OVERALL_FILE if name == OVERALL else set_file(self.names.find(name))
        if not kernels:
            return self._finite(file, {"filters": self.spans.wanted(kernels=False)["filters"]})["filters"]
        if not self.has_kernels:
            raise SettingsError("The bundle holds no importance of kernels: it was prepared with --no-kernels.")
        return unpack(self._finite(file, self.spans.wanted_kernels()), self.spans)

    def filters(self, name: str = OVERALL) -> dict[str, Array]:
        """Return the importance of filters for a set by layer name, ``(O,)`` each."""
        return self.spans.filters_of(self.values(name))

    def kernels(self, name: str = OVERALL) -> dict[str, Array]:
        """Return the importance of kernels for a set by layer name, ``(O, I)`` each, I per group."""
        return self.spans.kernels_of(self.values(name, kernels=True))

    def summary(self, name: str = OVERALL) -> dict[str, dict[str, Array]]:
        """Return by layer name, for each of `SUMMARIES`, ``(O,)``: what the filters' maps are like on a set."""
        file = OVERALL_FILE if name == OVERALL else set_file(self.names.find(name))
        wanted = self.spans.wanted(kernels=False)
        found = self._finite(file, {key: wanted[key] for key in SUMMARIES})
        parts = {key: self.spans.filters_of(values) for key, values in found.items()}
        return {layer.name: {key: parts[key][layer.name] for key in SUMMARIES} for layer in self.spans.layers}

    def by_set(self, unit: Filter) -> Array:
        """Return the importance of one filter for every set, ``(S,)``."""
        return self.filters_by_set[:, self._place(unit)]

    @cached_property
    def filters_by_set(self) -> Array:
        """The importance of every filter for every set, ``(S, F)``."""
        return self._finite(OVERALL_FILE, {"sets": ("F32", (len(self.sets), self.spans.filters))})["sets"]

    def patches(self, unit: Filter, *, name: str = OVERALL) -> tuple[BundlePatch, ...]:
        """Return the places that a filter answers to most, in a set or overall, at most one in each image."""
        index = None if name == OVERALL else self.names.find(name)
        file = OVERALL_FILE if index is None else set_file(index)
        shape = (self.spans.filters, None)
        wanted = {"patch_value": ("F32", shape), "patch_place": ("I32", (*shape, 3 if index is not None else 4))}
        found, place = self._finite(file, wanted), self._place(unit)
        rows = found["patch_place"][place]
        if index is not None:
            rows = np.concatenate([np.full((len(rows), 1), index, np.int32), rows], 1)
        return tuple(self._patch(unit, row, value) for row, value in zip(rows.tolist(), found["patch_value"][place]))

    def weights(self, layer: str) -> Array:
        """Return the kernels of a layer, ``(O, I, ...)``, I per group; float16 where their range allows."""
        found = self._scored(layer)
        key = f"weight/{self.layers.index(found)}"
        return self._finite(GRAPH_FILE, {key: ("F16|F32", (*found.shape, *found.kernel))})[key]

    def sources(self, layer: str) -> tuple[tuple[Filter, ...], ...]:
        """Return, for each input channel of a layer over all groups, the filters it comes from; see `Network`."""
        found = self._scored(layer)
        return self._sources(self.layers.index(found), found.inputs)

    def projection(self, layer: str, kind: str = "classwise") -> Array:
        """Return the places of a layer's filters in the plane, ``(O, 2)``.

        Raises:
            SettingsError: there is no such kind.
            ArtifactError: it was not made; ``"visual"`` is made on demand (see `prepare`).
        """
        if kind not in PROJECTIONS:
            raise SettingsError(f"A projection is one of {', '.join(PROJECTIONS)}; got {kind!r}.")
        found = self._scored(layer)
        key = str(self.layers.index(found))
        return self._finite(f"{kind}.safetensors", {key: ("F32", (found.units, 2))})[key]

    def picture(self, index: int, image: int) -> Array:
        """Return one picture of a set, uint8 ``(C, H, W)``, as the network saw it (to the pixel unless kept as JPEG).

        Raises:
            DataError: there is no such set or image.
            ArtifactError: the picture is damaged.
        """
        if not 0 <= index < len(self.sets) or not 0 <= image < len(self.sets[index].images):
            raise DataError(f"There is no image {image} of a set {index}; the bundle has {len(self.sets)} sets.")
        file = set_file(index)
        count = len(self.sets[index].images)
        ends = self.folder.read(file, {"picture_ends": ("I64", (count,))})["picture_ends"]
        start = int(ends[image - 1]) if image else 0
        data = self.folder.read_part(file, "pictures", start, int(ends[image]))
        try:
            return decode(data, self.document.input_shape)
        except (OSError, ValueError, SyntaxError) as error:
            raise self.folder.damaged(file, f"picture {image} cannot be decoded ({error})") from error

    def visual(self, unit: Filter, *, objective: str = "channel", negative: bool = False) -> Visual | None:
        """Return the feature visualisation of a filter where one was kept, else None."""
        if not self.has_visual(unit, objective=objective, negative=negative):
            return None
        name = self._visual_file(unit, objective, negative)
        wanted = {"pixels": ("U8", self.document.input_shape), "values": ("F32", (2,))}
        found = self._finite(name, wanted)
        return Visual(found["pixels"], *(float(value) for value in found["values"]))

    def has_visual(self, unit: Filter, *, objective: str = "channel", negative: bool = False) -> bool:
        """Return whether a feature visualisation of a filter was kept."""
        return self.folder.has(self._visual_file(unit, objective, negative))

    def keep_visual(self, unit: Filter, visual: Visual, *, objective: str = "channel", negative: bool = False) -> None:
        """Keep the feature visualisation of a filter for whoever opens the bundle later.

        Raises:
            DataError: it has another size than the network's input.
            ArtifactError: it cannot be written.
        """
        pixels = np.asarray(visual.pixels)
        if pixels.dtype != np.uint8 or pixels.shape != self.document.input_shape:
            raise DataError(f"Wanted uint8 {self.document.input_shape}, but got {pixels.dtype} {pixels.shape}.")
        values = np.array([visual.reached, visual.peak], np.float32)
        self.folder.write(self._visual_file(unit, objective, negative), {"pixels": pixels, "values": values})

    def check_model(self, model: nn.Module | Network) -> None:
        """Check that the bundle is of a model.

        Raises:
            ArtifactError: it is of another, by the digest of its weights.
        """
        wanted = self.document.provenance.get("model", {}).get("digest")
        digest = model.digest if isinstance(model, Network) else weight_digest(unwrapped(model))
        if digest != wanted:
            raise ArtifactError(
                f"{self.folder.place} was prepared from a model with other weights: their digest is {wanted}, that of "
                f"the model at hand {digest}. Pass the model it was prepared from, or prepare another bundle."
            )

    def verify(self) -> None:
        """Compare every file with its sha256, which takes about as long as reading them all.

        Raises:
            ArtifactError: one is not what was written.
        """
        for name, (_, digest) in self.document.files.items():
            if self.folder.digest(name) != digest:
                raise self.folder.damaged(name, "it is not what was written")

    def __repr__(self) -> str:
        counts = f"{self.spans.filters:,} filters, {self.spans.kernels:,} kernels, {len(self.sets):,} sets"
        return f"Bundle({str(self.folder.place)!r}: {counts})"

    def _check_files(self) -> None:
        sizes = self.folder.sizes()
        for name, (size, _) in self.document.files.items():
            found = sizes.get(name, -1)
            if found != size:
                raise self.folder.damaged(name, "it is missing" if found < 0 else f"{found} of {size} bytes are there")
        needed = {GRAPH_FILE, OVERALL_FILE, *map(set_file, range(len(self.sets)))}
        if missing := sorted(needed - self.document.files.keys()):
            raise self.folder.damaged(missing[0], "the document does not list it")

    def _finite(self, file: str, wanted: Mapping[str, Any]) -> dict[str, Array]:
        found = self.folder.read(file, wanted)
        for key, values in found.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise self.folder.damaged(file, f"{key} has values that are not finite")
        return found

    def _scored(self, text: str) -> BundleLayer:
        found = self.layer(text)
        if not found.scored:
            known = ", ".join(layer.name for layer in self.spans.layers)
            raise LayerError(f"The bundle holds no numbers of {found.name}, only of: {known}.")
        return found

    def _place(self, unit: Filter) -> int:
        """Return where a filter lies in the vector of all."""
        layer = self._scored(unit.layer)
        if not 0 <= unit.index < layer.units:
            raise LayerError(f"{layer.name} has {layer.units} filters, 0 to {layer.units - 1}; got {unit.index}.")
        return self.spans.starts[layer.name][0] + unit.index

    def _patch(self, unit: Filter, place: list[int], value: float) -> BundlePatch:
        index, image, row, column = place
        field, size = self.layer(unit.layer).field, self.document.input_shape[1:]
        if not 0 <= index < len(self.sets) or not 0 <= image < len(self.sets[index].images):
            raise self.folder.damaged(OVERALL_FILE, "a patch lies in an image that is not there")
        box = (0, 0, *size) if field is None else field.box(row, column)
        return BundlePatch(index, image, self.sets[index].images[image], row, column, float(value), box)

    def _sources(self, number: int, channels: int) -> tuple[tuple[Filter, ...], ...]:
        keys = (f"source_ends/{number}", f"source_layers/{number}", f"source_units/{number}")
        wanted = {keys[0]: ("I64", (channels,)), keys[1]: ("I32", (None,)), keys[2]: ("I32", (None,))}
        ends, layers, units = (values.tolist() for values in self.folder.read(GRAPH_FILE, wanted).values())
        if not len(layers) == len(units) == (ends[-1] if ends else 0) or ends != sorted(ends):
            raise self.folder.damaged(GRAPH_FILE, "the sources of a layer do not fit it")
        if any(not INPUT <= layer < len(self.layers) for layer in layers):
            raise self.folder.damaged(GRAPH_FILE, "a source is no layer")
        names = {INPUT: "input", **{index: layer.name for index, layer in enumerate(self.layers)}}
        filters = [Filter(names[layer], unit) for layer, unit in zip(layers, units)]
        return tuple(tuple(filters[start:end]) for start, end in zip([0, *ends], ends))

    def _visual_file(self, unit: Filter, objective: str, negative: bool) -> str:
        if objective not in _OBJECTIVES:
            raise SettingsError(f"The objective is one of {', '.join(_OBJECTIVES)}; got {objective!r}.")
        self._place(unit)
        return visual_file(self.layers.index(self.layer(unit.layer)), unit.index, objective, negative)
