"""What an adversarial image might give itself away by: its path, and what the controls look at instead.

- ``paths``: the codes of all controlled layers behind each other;
- ``random gates``: as many bits, but nobody trained them: random projections of the layers' mean outputs, on where they
  are above their median on clean images;
- ``activations``: the mean outputs of the same layers in the network before decoupling;
- ``confidence``: the highest probability of an answer, which needs no training.

Shapes: N images, F filters of all controlled layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.decoupling.decoupled import Decoupled, evaluating

__all__ = ["CONFIDENCE", "FEATURES", "FeatureReader"]

CONFIDENCE = "confidence"
FEATURES = ("paths", "random gates", "activations", CONFIDENCE)
"""The names of all features; all but ``paths`` are controls."""

Features = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    logits: Tensor
    codes: Tensor
    means: Tensor


class FeatureReader:
    """Reads all features of images: `read` after it has seen clean images, whose medians the random gates need.

    Args:
        decoupled: the network.
        clean: images ``(N, C, H, W)`` as the network takes them.
        seed: of the random gates.
        batch: how many images are computed at once.
    """

    def __init__(self, decoupled: Decoupled, clean: Tensor, *, seed: int = 0, batch: int = 64) -> None:
        self._decoupled, self._plain, self._batch = decoupled, _plain(decoupled), batch
        generator = torch.Generator().manual_seed(seed)
        blocks = [torch.randn(count, count, generator=generator) for count in decoupled.filters.values()]
        self._projection_FF = torch.block_diag(*blocks)
        self._medians_F = (self._run(decoupled, clean).means @ self._projection_FF).median(0).values

    def read(self, images: Tensor) -> tuple[Features, Tensor]:
        """Return the features by name, ``(N, F)`` or ``(N, 1)``, and the logits ``(N, outputs)``."""
        run = self._run(self._decoupled, images)
        tables = {
            "paths": run.codes,
            "random gates": run.means @ self._projection_FF > self._medians_F,
            "activations": self._run(self._plain, images).means,
            CONFIDENCE: run.logits.softmax(1).max(1, keepdim=True).values,
        }
        return {name: table.float().numpy() for name, table in tables.items()}, run.logits

    def _run(self, network: Decoupled, images: Tensor) -> _Run:
        with evaluating(network):
            answers = [network.answer(part) for part in images.split(self._batch)]
        logits = torch.cat([answer.logits.float().cpu() for answer in answers])
        codes, means = (
            torch.cat([torch.cat(list(getattr(answer, name).values()), 1).float().cpu() for answer in answers])
            for name in ("codes", "means")
        )
        return _Run(logits, codes, means)


def _plain(decoupled: Decoupled) -> Decoupled:
    """Return the network before decoupling, read at the same layers: all gates are on for good."""
    network = decoupled.network
    with torch.random.fork_rng(devices=[]):
        made = Decoupled(decoupled.detach(), network, [network.layer(name) for name in decoupled.layers])
    for controller in made.controllers.values():
        controller.settled.fill_(1)
    return made
