"""Planted networks: convolutional networks written by hand, whose true circuit is known.

``planted(name)`` returns a model, a task and the truth. A name is a variant and a size, such as ``"residual-small"``:

- ``plain``: edges, corners, shapes, one layer after the other, with shadows, silent filters and an opposed pair around;
- ``copies``: some true parts are there twice, at another scale;
- ``inhibition``: a mark beside a shape holds it back;
- ``residual``: a block adds corners to the stream of edges, and shapes read both;
- ``concatenated``: shapes read edges and corners side by side;
- ``trained``: further filters all around, trained on other classes by gradient descent.

What is true, and why nothing smaller will do, is said and proved in `neurochains.measures.planted_truth`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from neurochains.data.task import Task
from neurochains.errors import SettingsError, did_you_mean
from neurochains.measures.planted_designs import SIZES, VARIANTS, Design, design_of
from neurochains.measures.planted_images import NOTHING, Pair, Sheet, draw_sheet
from neurochains.measures.planted_networks import add_noise, build
from neurochains.measures.planted_trained import train_around
from neurochains.measures.planted_truth import Truth, least_divergence
from neurochains.measures.planted_wiring import COPY, TRAINED_CLASSES, Wiring, wire

__all__ = ["Planted", "planted", "planted_names"]


class Planted(NamedTuple):
    """A network in eval mode without gradients, the task that its circuit answers, and the truth about it."""

    model: nn.Module
    task: Task
    truth: Truth


def planted_names() -> tuple[str, ...]:
    """Return the names that `planted` knows, by variant and size.

    >>> planted_names()[:3]
    ('plain-small', 'plain-medium', 'plain-large')
    """
    return tuple(f"{variant}-{size}" for variant in VARIANTS for size in SIZES)


def planted(name: str, *, noise: float = 0.0, seed: int = 0) -> Planted:
    """Return a planted network, its task and the truth about it.

    Args:
        name: one of `planted_names`.
        noise: the standard deviation of normal noise on all weights of the convolutions, as a part of the root mean
            square of those that are not 0.
        seed: of decoys, the order of channels, the places of shapes, training and noise.

    Raises:
        SettingsError: there is no such name, or a number is out of range.
    """
    variant, size = _parsed(name)
    if not (isinstance(noise, (int, float)) and 0 <= noise < math.inf):
        raise SettingsError(f"noise is a number, 0 or more, such as 0.05; got {noise!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise SettingsError(f"seed is a whole number, 0 or more; got {seed!r}.")
    design = design_of(variant, size)
    dice = np.random.default_rng([seed, VARIANTS.index(variant), SIZES.index(size)])
    wiring = wire(variant, design, dice)
    sheet, held_out = (draw_sheet(design, dice, marks=variant == "inhibition") for _ in range(2))
    class_names = (NOTHING, *design.shapes, *(TRAINED_CLASSES if variant == "trained" else ()))
    with torch.random.fork_rng(devices=[]):
        model = build(variant, wiring)
        if variant == "trained":
            train_around(model, wiring, torch.from_numpy(sheet.images), seed=seed)
    task = sheet.task(class_names, held_out=held_out.task(class_names))
    truth = _truth(wiring, design, sheet, model, task)
    return Planted(add_noise(model, noise, torch.Generator().manual_seed(seed)) if noise else model, task, truth)


def _parsed(name: str) -> tuple[str, str]:
    known = planted_names()
    if name not in known:
        raise SettingsError(
            f"No planted network is called {name!r}; there are {', '.join(known)}. {did_you_mean(str(name), known)}"
        )
    variant, _, size = name.rpartition("-")
    return variant, size


def _truth(wiring: Wiring, design: Design, sheet: Sheet, model: nn.Module, task: Task) -> Truth:
    assert task.labels is not None
    circuits = {shape: wiring.circuit(shape) for shape in design.asked_shapes}
    everything = frozenset[str]().union(*circuits.values())
    originals = sorted(name for name in everything if not name.startswith(COPY))
    groups = [frozenset(wiring.place(n) for n in (name, COPY + name) if n in everything) for name in originals]
    witnesses = tuple(
        tuple((p.whole, p.changed) for p in sheet.pairs if _is_witness(name, p, design)) for name in originals
    )
    with torch.no_grad():
        outputs = model(task.images)
    return Truth(
        filters=frozenset(wiring.place(name) for name in originals),
        alike=tuple(groups),
        by_class={shape: _places(wiring, names) for shape, names in circuits.items()},
        names={wiring.place(name): name for name in everything},
        witnesses=witnesses,
        least_kl=least_divergence(outputs, task.labels, witnesses),
    )


def _places(wiring: Wiring, names: Iterable[str]) -> frozenset[tuple[str, int]]:
    return frozenset(wiring.place(name) for name in names)


def _is_witness(name: str, pair: Pair, design: Design) -> bool:
    """Return whether a true part is what tells the images of a pair apart, in its own layer."""
    part = name.removeprefix("relay of ")
    if part == pair.shape:
        return True
    if pair.missing < 0:
        return part == "mark"
    glyphs = [glyph for row in design.rows(pair.shape) for glyph in row]
    row = design.shapes[pair.shape][pair.missing // 2]
    return part in (glyphs[pair.missing], row)
