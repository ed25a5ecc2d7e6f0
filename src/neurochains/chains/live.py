"""The sub-network while it is searched for: living units, their scores as one vector, and a compact network to run.

Shapes: n living units, B images, K outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.companions import Companions
from neurochains.chains.objectives import Objective, kl_divergence
from neurochains.chains.scores import Scores
from neurochains.edit.compact import CompactNetwork
from neurochains.edit.fold import fold_norms
from neurochains.network.layers import Layer
from neurochains.network.network import Network

__all__ = ["LiveNetwork", "State"]

RECOMPACT = 0.75  # compact again when a quarter of the units that the compact network holds has gone


@dataclass(frozen=True, slots=True)
class State:
    """What to go back to: the living units, their scores, the blocks left out, and the network that holds them."""

    alive: Tensor
    places: Tensor
    scores: Tensor
    skipped: tuple[str, ...]
    small: CompactNetwork
    held: int
    packed: int


class LiveNetwork:
    """A network whose units leave one after the other; it gets smaller, and faster, as they go."""

    def __init__(
        self,
        network: Network,
        images: Tensor,
        objective: Objective,
        *,
        layers: Sequence[Layer],
        scores: Scores | None = None,
    ) -> None:
        self.network = network
        self.layers = tuple(layers)
        self.objective = objective
        self.images = _channels_last(network.check(images))
        self.device = network.device
        with torch.no_grad():
            self.original = network(self.images)
        self.skipped: tuple[str, ...] = scores.skipped if scores else ()
        values = torch.cat([(scores.units[layer.name] if scores else torch.ones(layer.units)) for layer in layers])
        self.total = len(values)
        self._ends = torch.tensor([layer.units for layer in layers]).cumsum(0)
        self._companions = Companions(network, self.layers)
        self.alive = values.nonzero().flatten()
        self.scores = values[self.alive].to(self.device)
        self.compact()

    def __len__(self) -> int:
        return len(self.alive)

    @property
    def share(self) -> float:
        """The share of the units that are still computed."""
        return self._held / self.total

    def compact(self) -> None:
        """Rewrite the network on the units that live now, and those that share a channel with one of them."""
        held = self._companions.join(self.alive)
        self._small = CompactNetwork(self.network, self._kept(held), layers=self.layers, skipped=self.skipped)
        fold_norms(self._small.graph)
        if self.images.ndim == 4:
            self._small.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self._held, self._packed = len(held), len(self.alive)
        self._places = torch.searchsorted(held, self.alive).to(self.device)

    def logits(self, scores: Tensor, images: Tensor | None = None) -> Tensor:
        """Return the outputs ``(B, K)`` for scores ``(n,)``, or one row of them for each image ``(B, n)``."""
        if scores.shape[-1] < self._held:
            empty = scores.new_zeros(*scores.shape[:-1], self._held)
            scores = empty.index_copy(scores.ndim - 1, self._places, scores)
        widths = [len(self._small.kept[layer.name]) for layer in self.layers]
        parts = dict(zip((layer.name for layer in self.layers), scores.split(widths, -1), strict=True))
        return self._small(self.images if images is None else images, parts)

    def divergence(self, scores: Tensor) -> Tensor:
        """Return the mean divergence from the original outputs."""
        return self.objective(self.logits(scores), self.original).mean()

    @property
    def outputs(self) -> Tensor:
        """The outputs ``(B, K)`` with the scores of now, run without gradients."""
        with torch.no_grad():
            return self.logits(self.scores)

    def drop(self, gone: Tensor) -> None:
        """Remove the units of a mask ``(n,)``."""
        stay = ~gone
        self.alive = self.alive[stay.cpu()]
        self.scores = self.scores[stay]
        self._places = self._places[stay]
        if len(self.alive) < RECOMPACT * self._packed:
            self.compact()

    def skip(self, block: str, gone: Tensor) -> None:
        """Leave a block out, and with it the units of a mask ``(n,)``."""
        self.skipped = (*self.skipped, block)
        self.alive, self.scores = self.alive[~gone.cpu()], self.scores[~gone]
        self.compact()

    def members(self, names: Sequence[str]) -> Tensor:
        """Return the mask ``(n,)`` of the living units of some layers."""
        owners = torch.searchsorted(self._ends, self.alive, right=True)
        chosen = torch.tensor([layer.name in names for layer in self.layers])
        return chosen[owners].to(self.device)

    def save(self) -> State:
        """Return what `restore` needs to come back to this point."""
        return State(self.alive, self._places, self.scores, self.skipped, self._small, self._held, self._packed)

    def restore(self, state: State) -> None:
        """Go back to a saved point."""
        self.alive, self._places, self.scores = state.alive, state.places, state.scores
        self.skipped, self._small = state.skipped, state.small
        self._held, self._packed = state.held, state.packed

    def lost(self, outputs: Tensor) -> Tensor:
        """Return on which images ``(B,)`` the prediction is not the original's; on none, where outputs are no classes.

        `outputs` are ``(B, K)``.
        """
        if self.objective is not kl_divergence:
            return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
        return outputs.argmax(-1) != self.original.argmax(-1)

    @contextmanager
    def repeating(self, places: Tensor, times: int) -> Iterator[None]:
        """Let some images count more often, for a while."""
        images, original = self.images, self.original
        rows = torch.cat([torch.arange(len(images), device=places.device), places.repeat(times - 1)])
        self.images, self.original = _channels_last(images[rows]), original[rows]
        try:
            yield
        finally:
            self.images, self.original = images, original

    def result(self) -> Scores:
        """Return the sub-network as scores at full width."""
        values = torch.zeros(self.total)
        values[self.alive] = self.scores.detach().cpu()
        parts = values.split([layer.units for layer in self.layers])
        units = {layer.name: part.clone() for layer, part in zip(self.layers, parts, strict=True)}
        return Scores(units, dict.fromkeys(self.skipped, 0.0))

    def _kept(self, held: Tensor) -> dict[str, Tensor]:
        owners = torch.searchsorted(self._ends, held, right=True)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), self._ends[:-1]])
        return {layer.name: held[owners == i] - starts[i] for i, layer in enumerate(self.layers)}


def _channels_last(images: Tensor) -> Tensor:
    """Return images in the layout that convolutions run fastest on; their values are the same."""
    return images.contiguous(memory_format=torch.channels_last) if images.ndim == 4 else images
