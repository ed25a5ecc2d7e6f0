"""Robustness (E10): does a sub-network withstand attacks that mislead the original, or is it only not the one attacked?

A sub-network that was fitted on the very images that are attacked may answer well because it has learnt them by heart,
and an attack made for another network need not mislead it. So, for each attack and radius:

- *transfer*: images attacked for the original, given to the original, to the sub-network and to its controls;
- *white box*: images attacked for each of these networks itself;
- both on the given images and on those held out, whose answers nothing was fitted to;
- controls: sub-networks of the same size, at random and by activation, with the same refit; and the original with its
  answers restricted to the classes of the task, which is as hard to lead astray to others.

What is reported is the probability of the true class (of the original's prediction where that is unknown), and how
often it is the largest. Attacks work on pixels in [0, 1], the normalisation being inside (`neurochains.attacks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.attacks import Attack, fgsm, on_pixels, pgd
from neurochains.chains.parity import in_batches
from neurochains.chains.plain import plain
from neurochains.chains.refit import refit
from neurochains.data import Task
from neurochains.errors import DataError, SettingsError, did_you_mean
from neurochains.measures.cases import Case, Chains, Model, cases_of, measure
from neurochains.measures.controls import control
from neurochains.measures.intervals import Interval, bootstrap
from neurochains.preprocess import Preprocess

__all__ = ["EPSILONS", "METHODS", "Robustness", "RobustnessRow", "measure_robustness"]

EPSILONS = (2 / 255, 4 / 255, 8 / 255)
METHODS: dict[str, tuple[Attack, dict[str, int]]] = {
    "fgsm": (fgsm, {}),
    "pgd-10": (pgd, {"steps": 10}),
    "pgd-20": (pgd, {"steps": 20}),
}
"""Attacks by name, with their options; steps of PGD are a quarter of the radius long."""
CONTROLS = ("random", "activation")
ORIGINAL, CHAIN, RESTRICTED = "original", "chain", "original, restricted"

Run = Callable[[Tensor], Tensor]
Key = tuple[str, str, str, float, str]


@dataclass(frozen=True, slots=True, eq=False)
class RobustnessRow:
    """One network under one attack: `probability` of the true class and `right`, whether it is the largest.

    Both hold a tensor ``(N,)`` for each sub-network. `kind` is ``"clean"``, ``"transfer"`` or ``"white box"``; `images`
    ``"given"`` or ``"held out"``.
    """

    network: str
    attack: str
    kind: str
    eps: float
    images: str
    probability: tuple[Tensor, ...]
    right: tuple[Tensor, ...]

    @property
    def mean(self) -> Interval:
        """The mean probability of the true class, with its interval over sub-networks."""
        return _mean(self.probability)

    @property
    def accuracy(self) -> Interval:
        """The share of images answered rightly, with its interval over sub-networks."""
        return _mean(self.right)

    def to_json(self) -> dict[str, Any]:
        """Return what was done, and the means with their intervals."""
        named = {name: getattr(self, name) for name in ("network", "attack", "kind", "eps", "images")}
        return plain({**named, "probability": self.mean.to_json(), "accuracy": self.accuracy.to_json()})


@dataclass(frozen=True, slots=True, eq=False)
class Robustness:
    """All rows: networks, attacks, kinds, radii and images."""

    rows: tuple[RobustnessRow, ...]

    def row(self, network: str, attack: str, kind: str, eps: float, images: str = "given") -> RobustnessRow:
        """Return one row.

        Raises:
            SettingsError: there is none.
        """
        for row in self.rows:
            if (row.network, row.attack, row.kind, row.eps, row.images) == (network, attack, kind, eps, images):
                return row
        raise SettingsError(f"There is no row for {network}, {attack}, {kind}, eps {eps:.4g}, {images} images.")

    def to_json(self) -> list[dict[str, Any]]:
        """Return all rows."""
        return [row.to_json() for row in self.rows]


@measure("robustness")
def measure_robustness(
    model: Model,
    chain: Chains,
    task: Task | None = None,
    *,
    attacks: Sequence[str] = ("fgsm", "pgd-10"),
    eps: Sequence[float] = EPSILONS,
    controls: Sequence[str] = CONTROLS,
    preprocess: Preprocess | None = None,
    steps: int = 60,
    seed: int = 0,
) -> Robustness:
    """Return how chains, their original and controls answer to attacked images.

    Args:
        model: the model of the chains, or None.
        chain: one or several.
        task: whose images are attacked; None for each chain's own.
        attacks: names in `METHODS`.
        eps: radii in the maximum norm, pixels being in [0, 1].
        controls: names in `neurochains.measures.CONTROLS`.
        preprocess: how pixels become the network's input; as the model says if None.
        steps: of the controls' refit.
        seed: of random starts and random controls.

    Raises:
        SettingsError: there is no such attack or control, or it is not known how pixels are normalised.
        DataError: the images are not such as the normalisation gives, or the outputs are no classes.
    """
    for name in attacks:
        if name not in METHODS:
            known = ", ".join(METHODS)
            raise SettingsError(f"No attack is called {name!r}; there are {known}. {did_you_mean(name, METHODS)}")
    rows: dict[Key, list[tuple[Tensor, Tensor]]] = {}
    for case in cases_of(model, chain, task):
        how = _preprocess(case, preprocess)
        networks = _networks(case, controls, steps, seed, how)
        for where, images in _images(case.task).items():
            for key, found in _attacked(case, networks, images, how, (attacks, eps, seed)):
                rows.setdefault((*key, where), []).append(found)
    return Robustness(tuple(RobustnessRow(*key, *map(tuple, zip(*found))) for key, found in rows.items()))


def _images(task: Task) -> dict[str, Task]:
    return {"given": task} if task.held_out is None else {"given": task, "held out": task.held_out}


def _networks(case: Case, controls: Sequence[str], steps: int, seed: int, how: Preprocess) -> dict[str, Run]:
    """Return all networks that are attacked, from pixels to logits."""
    network, images = case.network, case.task.images
    if network.outputs < 2:
        raise DataError(f"Attacks lead to other classes, but this model has {network.outputs} output.")
    found: dict[str, Run] = {ORIGINAL: network, CHAIN: case.scores.compact(network)}
    for name in controls:
        scores = control(name, network, images, case.scores, seed=seed)
        found[name] = (refit(network, images, scores, steps=steps) if steps else scores).compact(network)
    if case.task.classes:
        found[RESTRICTED] = _restricted(network, case.task.classes)
    return {name: on_pixels(run, how) for name, run in found.items()}


def _restricted(network: Run, classes: Sequence[int]) -> Run:
    """Return a network whose logits of all but some classes are too low to matter."""

    def run(images: Tensor) -> Tensor:
        logits = network(images)
        other = torch.ones(logits.shape[-1], dtype=torch.bool, device=logits.device)
        other[list(classes)] = False
        return logits.masked_fill(other, -1e4)

    return run


def _attacked(
    case: Case,
    networks: Mapping[str, Run],
    task: Task,
    how: Preprocess,
    settings: tuple[Sequence[str], Sequence[float], int],
) -> list[tuple[tuple[str, str, str, float], tuple[Tensor, Tensor]]]:
    """Return what each network answers to clean images, to those attacked for the original, and for itself."""
    attacks, radii, seed = settings
    pixels = _pixels(task.images, how).to(case.network.device)
    labels = _labels(case, task).to(pixels.device)
    found = [((name, "none", "clean", 0.0), _answers(run, pixels, labels)) for name, run in networks.items()]
    for attack in attacks:
        make, options = METHODS[attack]
        further = options if make is fgsm else {**options, "seed": seed}
        for eps in radii:
            moved = {name: make(run, pixels, labels, eps=eps, **further) for name, run in networks.items()}
            for name, run in networks.items():
                found.append(((name, attack, "transfer", eps), _answers(run, moved[ORIGINAL], labels)))
                found.append(((name, attack, "white box", eps), _answers(run, moved[name], labels)))
    return found


def _answers(run: Run, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of the right class, and whether it is the largest: ``(N,)`` each."""
    logits, labels = in_batches(run, pixels), labels.cpu()
    probability = logits.double().softmax(-1).gather(-1, labels[:, None]).squeeze(-1)
    return probability, (logits.argmax(-1) == labels).double()


def _labels(case: Case, task: Task) -> Tensor:
    """Return the class of each image: the true one, or what the original predicts where that is unknown."""
    predicted = in_batches(case.network, task.images).argmax(-1)
    return predicted if task.labels is None else torch.where(task.labels.cpu() >= 0, task.labels.cpu(), predicted)


def _pixels(images: Tensor, how: Preprocess) -> Tensor:
    """Return images as pixels in [0, 1].

    Raises:
        DataError: some would lie outside: they were prepared in another way.
    """
    mean, std = (torch.tensor(values).to(images).view(-1, 1, 1) for values in (how.mean, how.std))
    pixels = images * std + mean
    if float(pixels.min()) < -1e-3 or float(pixels.max()) > 1 + 1e-3:
        raise DataError(
            f"With mean {how.mean} and std {how.std} the images give pixels from {float(pixels.min()):.3g} to "
            f"{float(pixels.max()):.3g}, outside [0, 1]. Pass the preprocess= that they were prepared with."
        )
    return pixels.clamp(0, 1)


def _preprocess(case: Case, preprocess: Preprocess | None) -> Preprocess:
    info = case.network.info
    found = preprocess or (None if info is None else info.preprocess)
    if found is None:
        raise SettingsError(
            "Attacks move pixels, but it is not known how this model's images are normalised. Pass preprocess=, "
            "such as Preprocess(size=(32, 32), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))."
        )
    return found


def _mean(groups: Sequence[Tensor]) -> Interval:
    return bootstrap(groups, lambda drawn: float(torch.cat(list(drawn)).mean()), draws=300)
