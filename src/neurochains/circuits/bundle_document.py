"""What a bundle says of itself, ``bundle.json``: the network as a graph, the sets of images, and how it was made.

A bundle may come from anybody. So nothing in its document is taken on trust: every entry is checked for its type, its
length and its range, names of layers for their characters, and no path is ever read from it. Names of classes and
images are free text; whoever shows them escapes them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from neurochains.errors import ArtifactError
from neurochains.network.fields import Reach, ReceptiveField

__all__ = ["VERSION", "BundleBlock", "BundleLayer", "BundleSet", "Document"]

FORMAT = "neurochains.bundle"
VERSION = 1
LONGEST_TEXT = 1000
MOST = {"layers": 20_000, "blocks": 20_000, "sets": 100_000, "images": 10_000_000}
MOST_NUMBERS = 2**33
_SIDE = 2**20
_NAME = re.compile(r"[\w.@\[\]-]{1,300}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class BundleLayer:
    """A layer as `neurochains.network.Layer` describes it; `scored` if the bundle holds importances of its units."""

    name: str
    label: str
    kind: str
    role: str
    units: int
    inputs: int
    groups: int
    map_size: tuple[int, int] | None
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    scored: bool
    field: ReceptiveField | None

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the table of its kernels, ``(O, I)``, I per group."""
        return self.units, self.inputs // self.groups


@dataclass(frozen=True, slots=True)
class BundleBlock:
    """A skippable stretch of the network, with the names of its layers."""

    name: str
    label: str
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BundleSet:
    """A set of images: its name, the output that it shows (-1: none), its synset, and its images with their digests."""

    name: str
    label: int
    synset: str | None
    images: tuple[str, ...]
    digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """The content of ``bundle.json``.

    `files` has the length in bytes and the sha256 of each file of a complete bundle, by its path inside. `mean` and
    `std` turn pixels into inputs: ``(pixels / 255 - mean) / std``, by channel; empty where that is not so.
    """

    provenance: Mapping[str, Any]
    settings: Mapping[str, Any]
    input_shape: tuple[int, int, int]
    outputs: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    layers: tuple[BundleLayer, ...]
    blocks: tuple[BundleBlock, ...]
    sets: tuple[BundleSet, ...]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all files are there."""
        return bool(self.files)

    @property
    def scored(self) -> tuple[BundleLayer, ...]:
        """The layers with importances."""
        return tuple(layer for layer in self.layers if layer.scored)

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "provenance": dict(self.provenance),
            "settings": dict(self.settings),
            "input": list(self.input_shape),
            "outputs": self.outputs,
            "mean": list(self.mean),
            "std": list(self.std),
            "layers": [_layer_json(layer) for layer in self.layers],
            "blocks": [{"name": b.name, "label": b.label, "layers": list(b.layers)} for b in self.blocks],
            "sets": [_set_json(found) for found in self.sets],
            "files": {name: {"bytes": size, "sha256": digest} for name, (size, digest) in self.files.items()},
        }

    @classmethod
    def from_json(cls, value: Any) -> Document:
        """Return the document that JSON values describe.

        Raises:
            ArtifactError: they are no bundle's, of a newer format, or an entry is missing or cannot be right.
        """
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            raise ArtifactError("this is no bundle of NeuroChains. Wanted a folder that `neurochains prepare` wrote")
        version = value.get("version")
        if version != VERSION:
            newer = isinstance(version, int) and version > VERSION
            remedy = "Update NeuroChains" if newer else "Prepare the bundle again"
            raise ArtifactError(f"its format version is {version!r}; this NeuroChains reads {VERSION}. {remedy}")
        try:
            return cls._read(value)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            said = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise ArtifactError(
                f"its document is damaged: {said}. Prepare the bundle again, or take a whole copy"
            ) from (error)

    @classmethod
    def _read(cls, value: Mapping[str, Any]) -> Document:
        channels, height, width = (_count(size, "an input size", _SIDE) for size in value["input"])
        document = cls(
            provenance=_mapping(value["provenance"]),
            settings=_mapping(value["settings"]),
            input_shape=(channels, height, width),
            outputs=_count(value["outputs"], "the number of outputs", 2**31),
            mean=_floats(value["mean"], channels),
            std=_floats(value["std"], channels),
            layers=tuple(_layer(entry, (height, width)) for entry in _entries(value, "layers")),
            blocks=tuple(_block(entry) for entry in _entries(value, "blocks")),
            sets=tuple(_set(entry) for entry in _entries(value, "sets")),
            files={_file_name(name): _file(entry) for name, entry in _mapping(value["files"]).items()},
        )
        document._check_sizes()
        return document

    def _check_sizes(self) -> None:
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names) or not self.scored or not self.sets:
            raise ValueError("its layers or sets are not named once each")
        if sum(math.prod(layer.shape) for layer in self.scored) > MOST_NUMBERS:
            raise ValueError("its layers have more kernels than a bundle can hold")


def _layer_json(layer: BundleLayer) -> dict[str, Any]:
    whole = {name: getattr(layer, name) for name in BundleLayer.__slots__}
    pair = layer.field and [_reach_json(reach) for reach in (layer.field.rows, layer.field.columns)]
    lists = {name: list(whole[name]) for name in ("kernel", "stride")}
    return {**whole, **lists, "map_size": layer.map_size and list(layer.map_size), "field": pair}


def _reach_json(reach: Reach) -> list[float | None]:
    return [value if math.isfinite(value) else None for value in (reach.jump, reach.low, reach.high)]


def _set_json(found: BundleSet) -> dict[str, Any]:
    lists = {"images": list(found.images), "digests": list(found.digests)}
    return {"name": found.name, "label": found.label, "synset": found.synset, **lists}


def _layer(entry: Any, image: tuple[int, int]) -> BundleLayer:
    entry = _mapping(entry)
    size, seen = entry["map_size"], entry["field"]
    layer = BundleLayer(
        name=_name(entry["name"]),
        label=_name(entry["label"]),
        kind=_name(entry["kind"]),
        role=_name(entry["role"]),
        units=_count(entry["units"], "the units of a layer", _SIDE),
        inputs=_count(entry["inputs"], "the inputs of a layer", 2**31),
        groups=_count(entry["groups"], "the groups of a layer", _SIDE),
        map_size=None if size is None else (_count(size[0], "a map's height"), _count(size[1], "a map's width")),
        kernel=tuple(_count(side, "a kernel's side") for side in _list(entry["kernel"], 4)),
        stride=tuple(_count(side, "a stride") for side in _list(entry["stride"], 4)),
        scored=entry["scored"] is True,
        field=None if seen is None else ReceptiveField(_reach(seen[0]), _reach(seen[1]), image),
    )
    if layer.inputs % layer.groups or layer.units % layer.groups:
        raise ValueError(f"the groups of {layer.name} do not divide its units and inputs")
    return layer


def _reach(values: Any) -> Reach:
    jump, low, high = _list(values, 3)
    return Reach(_float(jump), -math.inf if low is None else _float(low), math.inf if high is None else _float(high))


def _block(entry: Any) -> BundleBlock:
    entry = _mapping(entry)
    return BundleBlock(_name(entry["name"]), _name(entry["label"]), tuple(map(_name, _list(entry["layers"], 20_000))))


def _set(entry: Any) -> BundleSet:
    entry = _mapping(entry)
    images, digests = (_list(entry[name], MOST["images"]) for name in ("images", "digests"))
    label = entry["label"]
    if not isinstance(label, int) or label < -1 or (digests and len(digests) != len(images)):
        raise ValueError("a set of images has no right label or digests")
    if not all(isinstance(digest, str) and _DIGEST.fullmatch(digest) for digest in digests):
        raise ValueError("a digest is none")
    synset = None if entry["synset"] is None else _text(entry["synset"])
    return BundleSet(_text(entry["name"]), label, synset, tuple(map(_text, images)), tuple(digests))


def _entries(value: Mapping[str, Any], key: str) -> Iterator[Any]:
    return iter(_list(value[key], MOST[key]))


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"a table was wanted where there is {type(value).__name__}")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"a list of at most {most:,} was wanted where there is {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise ValueError(f"a text of at most {LONGEST_TEXT} characters was wanted")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("the name of a layer has characters that names of modules do not have")
    return value


def _count(value: Any, what: str, most: int = _SIDE) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= most:
        raise ValueError(f"{what} is no number from 1 to {most:,}")
    return value


def _float(value: Any) -> float:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("a number was wanted")
    return float(value)


def _floats(values: Any, count: int) -> tuple[float, ...]:
    found = tuple(map(_float, _list(values, count)))
    if len(found) not in (0, count):
        raise ValueError("there is not one mean and deviation for each channel")
    return found


def _file_name(name: str) -> str:
    if not re.fullmatch(r"(sets/)?[a-z0-9]+\.safetensors", name):
        raise ValueError("it names a file that no bundle has")
    return name


def _file(entry: Any) -> tuple[int, str]:
    entry = _mapping(entry)
    size, digest = entry["bytes"], entry["sha256"]
    if not isinstance(size, int) or size < 0 or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("the length or digest of a file is none")
    return size, digest
