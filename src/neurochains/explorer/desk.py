"""The desk: what all pages of one explorer share, none of it a user's: bundle, chains, the network once it is needed.

What a user chose is in the address of the page (`View`), so that two users at a time see their own. Here are only
caches of what follows from it, each of a limited size.
"""

from __future__ import annotations

import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neurochains.chains import find_model
from neurochains.circuits import Bundle, Circuit
from neurochains.data import Task
from neurochains.decoupling import Decoupled
from neurochains.errors import DataError, LayerError
from neurochains.explorer.live import Off, Seen, run
from neurochains.explorer.runs import Found, Run, open_run
from neurochains.explorer.view import View
from neurochains.network import Filter, Network

__all__ = ["Desk", "Kept"]

Array = NDArray[Any]
Value = TypeVar("Value")
_SEEN_BYTES, _WEIGHT_BYTES, _ANSWER_BYTES = 2**28, 2**27, 2**28


class Kept:
    """The values that were made last, at most so many; a value is made once, however many ask for it at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """Return the value of a key, made if it is not there."""
        with self._lock:
            if key not in self._found:
                self._found[key] = make()
                while len(self._found) > self._most:
                    self._found.popitem(last=False)
            self._found.move_to_end(key)
            return self._found[key]

    def put(self, key: Hashable, value: Any) -> None:
        """Enter a value."""
        with self._lock:
            self._found.pop(key, None)
            self.get(key, lambda: value)

    def find(self, key: Hashable) -> Any:
        """Return the value of a key, None where it was not made."""
        with self._lock:
            return self.get(key, lambda: None) if key in self._found else None

    def has(self, key: Hashable) -> bool:
        """Return whether a value is there."""
        return key in self._found


class Desk:
    """A bundle opened for exploring.

    Args:
        bundle: what `prepare` wrote.
        chains: chains, circuits and decoupled networks of the same network, or the folders of their runs.
        model: of the bundle; where it is None, loaded by its name when it is needed, if it is one of the zoo's.

    Raises:
        ArtifactError: the model or a chain is of another network, or cannot be read.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        chains: Sequence[Found | str | os.PathLike[str]] = (),
        model: nn.Module | Network | None = None,
    ) -> None:
        self.bundle = bundle
        self._model = model
        self._lock = threading.RLock()
        self._network: Network | None = None
        if model is not None:
            bundle.check_model(model)
        self.runs: tuple[Run, ...] = tuple(self._run(place, number) for number, place in enumerate(chains, 1))
        self.answers = Kept(max(2, min(12, _ANSWER_BYTES // max(1, 4 * bundle.spans.kernels))))
        self.measured = Kept(64)
        self.graphs = Kept(6)
        self.paths = Kept(64)
        self.subfeatures = Kept(16)
        self.rescored = Kept(16)
        self._seen = Kept(max(2, min(32, _SEEN_BYTES // max(1, self._map_bytes()))))
        self._projections = Kept(3)
        self.pictures = Kept(2048)
        self._weights = Kept(max(1, min(256, _WEIGHT_BYTES // max(1, self._weight_bytes()))))
        self._readers: dict[Filter, list[tuple[str, int]]] | None = None
        self._sources = Kept(512)

    @property
    def network(self) -> Network:
        """The traced network, loaded when it is first needed.

        Raises:
            ArtifactError: the model is not known, or has other weights.
            ModelError: it cannot be loaded.
        """
        with self._lock:
            if self._network is None:
                self._network = self._open()
            return self._network

    def task(self, places: Sequence[tuple[int, int]]) -> Task:
        """Return images of the bundle, as (set, image), as the network takes them."""
        pixels = torch.from_numpy(np.stack([self.bundle.picture(*place) for place in places]))
        sets = [self.bundle.sets[index] for index, _ in places]
        labels = torch.tensor([known.label for known in sets])
        names = [known.images[image] for known, (_, image) in zip(sets, places)]
        return Task(self.normalised(pixels), labels, names=names, pixels=pixels)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels ``(..., C, H, W)`` as the network takes them.

        Raises:
            DataError: the bundle does not know how.
        """
        document = self.bundle.document
        if not document.mean:
            raise DataError(
                "The bundle does not know how pixels become inputs of its network: prepare it with preprocess=."
            )
        mean, std = (torch.tensor(values)[:, None, None] for values in (document.mean, document.std))
        return (pixels.float() / 255 - mean) / std

    def pixels(self, view: View, uploaded: str | None = None) -> Tensor:
        """Return the chosen image, uint8 ``(C, H, W)``.

        Raises:
            DataError: there is no such image.
        """
        from neurochains.explorer.uploads import read_kept

        if view.image == "upload":
            return read_kept(uploaded, self.bundle.document.input_shape)
        index, image = (int(part) for part in view.image.split("."))
        return torch.from_numpy(self.bundle.picture(index, image).copy())

    def seen(self, view: View, uploaded: str | None = None, *, ablated: bool = False) -> Seen:
        """Return what a pass of the chosen image shows, with what is switched off left out if `ablated`."""
        off = view.off if ablated else ()
        key = (view.image if view.image != "upload" else uploaded, off)
        return self._seen.get(key, lambda: self._pass(view, uploaded, off))

    def seen_in(self, key: Hashable, pixels: Tensor, off: Sequence[str] = ()) -> Seen:
        """Return what a pass of other pixels ``(C, H, W)`` shows."""
        off_known = Off.parse(off, self.network)
        return self._seen.get((key, tuple(off)), lambda: run(self.network, self.normalised(pixels), off_known))

    def sources(self, layer: str) -> tuple[tuple[Filter, ...], ...]:
        """Return, for each input channel of a layer over all groups, the filters that it comes from."""
        return self._sources.get(layer, lambda: self.bundle.sources(layer))

    def readers(self, unit: Filter) -> list[tuple[str, int]]:
        """Return what reads a filter: layers, and which of their input channels over all groups."""
        with self._lock:
            if self._readers is None:
                self._readers = {}
                for layer in self.bundle.spans.layers:
                    for channel, units in enumerate(self.sources(layer.name)):
                        for one in units:
                            self._readers.setdefault(one, []).append((layer.name, channel))
            return self._readers.get(unit, [])

    def weights(self, layer: str) -> Array:
        """Return the kernels of a layer, as `Bundle.weights` does."""
        return self._weights.get(layer, lambda: self.bundle.weights(layer))

    def places(self, layer: str, kind: str) -> Array:
        """Return the places of a layer's filters in a projection, ``(O, 2)``; on a grid where it was not made."""
        known = self._projections.get(kind, dict)
        if layer not in known:
            known[layer] = self._place(layer, kind)
        return known[layer]

    def unit(self, text: str) -> Filter | None:
        """Return the filter of a text, None where there is none."""
        try:
            return self.bundle.filter(text) if text else None
        except LayerError:
            return None

    def label(self, unit: Filter) -> str:
        """Return a filter's paper label; of a channel of the image, its colour."""
        if unit.layer == "input":
            colours = ("red", "green", "blue") if self.bundle.document.input_shape[0] == 3 else ("grey",)
            return colours[unit.index] if unit.index < len(colours) else f"input {unit.index}"
        return f"{self.bundle.layer(unit.layer).label}_{unit.index}"

    def shown(self, view: View) -> list[int]:
        """Return the numbers of the chains and circuits that a view shows."""
        return [int(number) for number in view.chains if int(number) < len(self.runs)]

    def title(self, number: int) -> str:
        """Return what a chain or circuit is called; with its number where others are called the same."""
        name = self.runs[number].name
        return name if sum(run.name == name for run in self.runs) == 1 else f"{name} ({number + 1})"

    def names_of_outputs(self) -> dict[int, str]:
        """Return what outputs are called, as far as the sets say."""
        short = self.bundle.names.short
        return {known.label: short[index] for index, known in enumerate(self.bundle.sets) if known.label >= 0}

    def _open(self) -> Network:
        if isinstance(self._model, Network):
            return self._model
        origin = self.bundle.document.provenance.get("model", {})
        model = self._model or find_model(origin, None, self.bundle.folder.place, kind="bundle")
        network = Network.trace(model, torch.zeros(1, *self.bundle.document.input_shape))
        self.bundle.check_model(network)
        return network

    def _run(self, place: Found | str | os.PathLike[str], number: int) -> Run:
        kind = type(place).__name__.lower() if isinstance(place, (Circuit, Decoupled)) else "chain"
        model = self._model if isinstance(self._model, nn.Module) else None
        found = open_run(place, model, usual=f"{kind} {number}")
        self.bundle.check_model(found.network)
        return found

    def _pass(self, view: View, uploaded: str | None, off: Sequence[str]) -> Seen:
        network = self.network
        return run(network, self.normalised(self.pixels(view, uploaded)), Off.parse(off, network))

    def _place(self, layer: str, kind: str) -> Array:
        try:
            return self.bundle.projection(layer, kind)
        except OSError:
            return self.bundle.projection(layer, "grid")

    def _weight_bytes(self) -> int:
        return max((4 * math.prod((*x.shape, *x.kernel)) for x in self.bundle.spans.layers), default=0)

    def _map_bytes(self) -> int:
        sizes = [(layer.units + layer.inputs, layer.map_size or (1, 1)) for layer in self.bundle.layers]
        return sum(4 * channels * height * width for channels, (height, width) in sizes)
