"""What other commands found, opened on the desk as the panels ask for it: chains, circuits, decoupled networks."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from neurochains.chains import Chain, load_chain
from neurochains.circuits import Circuit, load_circuit
from neurochains.decoupling import Decoupled, bundled_names, load_decoupled
from neurochains.edit import OUTPUT
from neurochains.network import Filter, Network

__all__ = ["ChainRun", "CircuitRun", "DecoupledRun", "Found", "Run", "open_run"]

Found: TypeAlias = Chain | Circuit | Decoupled
"""What other commands write."""

_PATHS = 3
_CHAIN = (("kl", "KL", ".3f"), ("agreement", "agreement", ".0%"), ("accuracy", "accuracy", ".0%"))
_CIRCUIT = (("pearson", "correlation with the whole network's map", ".2f"),)


class ChainRun:
    """A chain on the desk."""

    has_paths = True

    def __init__(self, name: str, chain: Chain) -> None:
        self.name, self.chain = name, chain

    @property
    def network(self) -> Network:
        """The network that it is a part of."""
        return self.chain.network

    @property
    def units(self) -> tuple[Filter, ...]:
        """Its filters, layer by layer."""
        return tuple(self.chain.subnetwork.list_filters())

    @property
    def words(self) -> str:
        """Its size, its metrics, and the blocks that it skips."""
        scores = self.chain.subnetwork
        numbers = [f"{scores.kept:,} of {scores.total:,} filters", *_numbers(self.chain.metrics, _CHAIN)]
        skipped = f" Skipped blocks: {', '.join(scores.skipped)}." if scores.skipped else ""
        return f"{'; '.join(numbers)}.{skipped}"

    @torch.no_grad()
    def logits(self, image: Tensor) -> Tensor:
        """Return its outputs ``(outputs,)`` for an image ``(C, H, W)``."""
        return self.chain.subnetwork.run(self.network, image[None])[0].float().cpu()

    def paths(self) -> dict[int, list[Any]]:
        """Return the best paths of each class, by output."""
        return self.chain.paths(_PATHS)


class CircuitRun:
    """A circuit on the desk."""

    has_paths = False

    def __init__(self, name: str, circuit: Circuit) -> None:
        self.name, self.circuit = name, circuit

    @property
    def network(self) -> Network:
        """The network that it is a part of."""
        return self.circuit.network

    @property
    def units(self) -> tuple[Filter, ...]:
        """Its filters, layer by layer."""
        return tuple(Filter(name, int(unit)) for name, kept in self.circuit.filters.items() for unit in kept)

    @property
    def words(self) -> str:
        """Its target, its size, and how well it gives the target's map."""
        size = f"{self.circuit.size:,} kernels between {len(self.units):,} filters"
        return "; ".join([f"target {self.circuit.target}", size, *_numbers(self.circuit.metrics, _CIRCUIT)]) + "."

    @torch.no_grad()
    def logits(self, image: Tensor) -> Tensor | None:
        """Return its outputs ``(outputs,)`` for an image ``(C, H, W)``; None if its target lies inside the network."""
        return self._whole(image[None])[0].float().cpu() if self.circuit.readout.layer == OUTPUT else None

    def paths(self) -> dict[int, list[Any]]:
        """Return nothing: a circuit is of one target, not of classes."""
        return {}

    @cached_property
    def _whole(self) -> Network:
        return self.circuit.as_network()


class DecoupledRun:
    """A decoupled network on the desk: which of its filters are on depends on the image."""

    has_paths = False

    def __init__(self, name: str, decoupled: Decoupled) -> None:
        self.name, self.decoupled = name, decoupled

    @property
    def network(self) -> Network:
        """The network that it was made from."""
        return self.decoupled.network

    @property
    def words(self) -> str:
        """How many filters are switched."""
        sizes = self.decoupled.filters
        return f"A decoupled network: {sum(sizes.values()):,} filters in {len(sizes)} layers are switched by the image."

    def logits(self, image: Tensor) -> Tensor:
        """Return its outputs ``(outputs,)`` for an image ``(C, H, W)``."""
        return self.decoupled.predict(image[None])[0]

    def frequency(self, images: Tensor) -> dict[str, Tensor]:
        """Return by layer ``(O,)`` the share of some images ``(N, C, H, W)`` that each switched filter is on for."""
        return {name: codes.double().mean(0) for name, codes in self.decoupled.codes(images).items()}


Run: TypeAlias = ChainRun | CircuitRun | DecoupledRun
"""A part of the network that was found."""


def open_run(place: Found | str | os.PathLike[str], model: nn.Module | None = None, *, usual: str = "chain") -> Run:
    """Return a chain, a circuit or a decoupled network as the panels ask for it.

    Args:
        place: it, or the folder that it was saved to; a decoupled network of the package by its name.
        model: of the network; by default it is loaded by the name in the folder.
        usual: what one without a folder is called.

    Raises:
        ArtifactError: none is there, it is damaged, or the model is not known.
        ModelError: the model cannot be loaded.
    """
    if isinstance(place, Chain):
        return ChainRun(usual, place)
    if isinstance(place, Circuit):
        return CircuitRun(usual, place)
    if isinstance(place, Decoupled):
        return DecoupledRun(usual, place)
    folder = Path(place)
    if str(place) in bundled_names():
        return DecoupledRun(str(place), load_decoupled(str(place), model=model))
    for inside in (folder, folder / "network"):  # what `Decoupled.save` and what the command wrote
        if (inside / "decoupled.json").is_file():
            return DecoupledRun(folder.name, load_decoupled(inside, model=model))
    if (folder / "circuit.json").is_file():
        return CircuitRun(folder.name, load_circuit(folder, model=model))
    return ChainRun(folder.name, load_chain(folder, model=model))


def _numbers(metrics: Any, wanted: Any) -> list[str]:
    return [f"{name} {metrics[key]:{form}}" for key, name, form in wanted if isinstance(metrics.get(key), (int, float))]
