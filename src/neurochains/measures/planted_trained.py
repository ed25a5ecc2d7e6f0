"""Filters trained by gradient descent around a planted circuit.

In each layer some filters start at random and learn, by Adam on the cross entropy, to tell three further classes
(stripes, a blob, a frame) from the shapes of the task. They read everything in front of them, the true parts too, but
no true part reads them, and of the logits only the further ones do. So the planted circuit stays what it is, in the
midst of filters that were found by no design.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from neurochains.measures.planted_networks import SIDE
from neurochains.measures.planted_wiring import MARGIN, TRAINED, TRAINED_CLASSES, Wiring

__all__ = ["further_images", "train_around"]

_LAYERS = ("edges", "corners", "shapes")
_STEPS, _EACH, _RATE = 150, 6, 0.01
_GAIN = 4.0 * SIDE  # of the further logits, so that they get off the ground at this rate


def train_around(module: nn.Module, wiring: Wiring, images: Tensor, *, seed: int) -> None:
    """Fill in the trained filters of a planted network, in place.

    Args:
        module: of the variant ``trained``.
        wiring: its wiring.
        images: ``(N, 1, 20, 20)``, those of the task, which the further logits have to stay low on.
        seed: of the first weights and of the images of the further classes.
    """
    generator, dice = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    rows = {layer: _trained_rows(wiring, layer) for layer in _LAYERS}
    learnt = {layer: _first_weights(module, layer, rows[layer], generator) for layer in _LAYERS}
    further = [len(wiring.logits) - len(TRAINED_CLASSES) + place for place in range(len(TRAINED_CLASSES))]
    learnt["head"] = torch.rand(len(further), len(rows["shapes"]), generator=generator)
    with torch.enable_grad():
        for weight in learnt.values():
            weight.requires_grad_(True)
        adam = torch.optim.Adam(list(learnt.values()), lr=_RATE)
        for _ in range(_STEPS):
            shown, labels = further_images(dice, _EACH)
            chosen = torch.from_numpy(dice.integers(len(images), size=2 * _EACH))
            batch = torch.cat([torch.from_numpy(shown), images[chosen]])
            wanted = torch.cat([torch.from_numpy(labels), torch.full((len(chosen),), len(further))])
            logits = _further_logits(module, learnt, rows, batch)
            rest = torch.zeros(len(batch), 1)  # stands for all classes of the task, on whose images it wins by far
            rest[len(shown) :] -= MARGIN
            adam.zero_grad()
            F.cross_entropy(torch.cat([logits, rest], 1), wanted).backward()
            adam.step()
    _write(module, learnt, rows, further)


def further_images(dice: np.random.Generator, each: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return ``each`` images ``(N, 1, 20, 20)`` of every further class, and which of them each shows."""
    images = np.zeros((each * len(TRAINED_CLASSES), SIDE, SIDE), dtype=np.float32)
    for number, image in enumerate(images):
        top, left = (int(start) for start in dice.integers(0, SIDE - 9, 2))
        patch = image[top : top + 9, left : left + 9]
        if number // each == 0:
            patch[:: int(dice.integers(2, 4))] = 1.0
        elif number // each == 1:
            patch[1 : int(dice.integers(5, 9)), 1 : int(dice.integers(5, 9))] = 1.0
        else:
            patch[:] = 1.0
            patch[1:-1, 1:-1] = 0.0
    return images[:, None], np.repeat(np.arange(len(TRAINED_CLASSES)), each)


def _trained_rows(wiring: Wiring, layer: str) -> Tensor:
    return torch.tensor([place for place, unit in enumerate(wiring.layers[layer]) if unit.name.startswith(TRAINED)])


def _first_weights(module: nn.Module, layer: str, rows: Tensor, generator: torch.Generator) -> Tensor:
    """Return random weights ``(rows, I, K, K)`` of the variance that keeps maps at their scale."""
    inputs = list(module.get_parameter(f"{layer}.weight").shape[1:])
    return torch.randn([len(rows), *inputs], generator=generator) * math.sqrt(2 / math.prod(inputs))


def _further_logits(module: nn.Module, learnt: dict[str, Tensor], rows: dict[str, Tensor], images: Tensor) -> Tensor:
    """Return the further logits ``(B, 3)``, those of the task being worth 0 here."""
    maps = images
    for layer in ("edges", "corners"):
        conv = module.get_submodule(layer)
        weight = conv.weight.detach().index_copy(0, rows[layer], learnt[layer])  # type: ignore[operator, union-attr]
        maps = F.relu(F.conv2d(maps, weight, conv.bias, padding="same"))  # type: ignore[arg-type]
    shapes = F.relu(F.conv2d(maps, learnt["shapes"], padding="same")).mean((2, 3))
    return _GAIN * shapes @ learnt["head"].T - 3 * MARGIN  # -2 of them by the bias, -1 by "nothing"


def _write(module: nn.Module, learnt: dict[str, Tensor], rows: dict[str, Tensor], further: list[int]) -> None:
    """Put what was learnt into the module; the logits at a scale at which they win where they should."""
    state = module.state_dict()
    for layer in _LAYERS:
        state[f"{layer}.weight"][rows[layer]] = learnt[layer].detach()
    for place, output in enumerate(further):
        state["head.weight"][output, rows["shapes"]] = _GAIN * learnt["head"][place].detach()
    module.load_state_dict(state)
