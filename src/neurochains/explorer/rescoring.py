"""What switching off does to scores and answers: measured again on the network without what is off.

1. The network is copied without what is switched off (`neurochains.edit.scale_kernels`).
2. The importances of its filters for the chosen image are measured beside those of the whole network, both for the
   whole network's own answer where the target is the loss.
3. Some images of the chosen one's set are answered by both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.circuits import Target, importance
from neurochains.circuits.probe import layers_to
from neurochains.data import Task
from neurochains.edit import scale_kernels
from neurochains.explorer.asking import Asked
from neurochains.explorer.desk import Desk
from neurochains.explorer.live import Off
from neurochains.explorer.view import UPLOAD, View
from neurochains.explorer.worker import stop_point
from neurochains.network import Filter, Network

__all__ = ["Rescored", "find", "rescore", "without"]

_OF_SET = 8


@dataclass(frozen=True, slots=True)
class Rescored:
    """Scores for the chosen image by layer name, of the whole network and without what is off, each ``(O,)``.

    Layers that no longer lead to the target score 0. `same` of `images` of the image's set keep their answer; `images`
    is 0 for a dropped picture.
    """

    before: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    same: int
    images: int

    def most(self, count: int) -> list[tuple[Filter, float, float]]:
        """Return the filters whose scores change most, with the score before and after."""
        rows = [
            (Filter(name, unit), float(old[unit]), float(self.after[name][unit]))
            for name, old in self.before.items()
            for unit in (self.after[name] - old).abs().topk(min(count, len(old))).indices.tolist()
        ]
        rows.sort(key=lambda row: -abs(row[2] - row[1]))
        return [row for row in rows[:count] if row[1] != row[2]]


def without(network: Network, off: Off) -> Network:
    """Return the network without what is switched off."""
    kernels: dict[str, Tensor] = {}
    for unit, column in off.kernels:
        shape = getattr(network.module, network.layer(unit.layer).weight).shape[:2]
        kernels.setdefault(unit.layer, torch.ones(shape))[unit.index, column] = 0.0
    filters: dict[str, Tensor] = {}
    for unit in off.filters:
        filters.setdefault(unit.layer, torch.ones(network.layer(unit.layer).units))[unit.index] = 0.0
    return scale_kernels(network, kernels, filters, skipped=sorted(off.blocks))


def find(desk: Desk, view: View, uploaded: str | None) -> Rescored | None:
    """Return what `rescore` found of a view, None where it was not asked yet."""
    return desk.rescored.find(_key(view, uploaded))


def rescore(desk: Desk, view: View, uploaded: str | None, tell: Callable[[str], None]) -> None:
    """Measure scores and answers without what is off, and keep them on the desk.

    Raises:
        Stopped: nobody waits for it any more.
        DataError, SettingsError, LayerError, ArtifactError: it cannot be measured; the message says why.
    """
    if not view.off or find(desk, view, uploaded) is not None:
        return
    tell("Measuring the scores again ...")
    image = desk.normalised(desk.pixels(view, uploaded))[None]
    task = Task(image, [int(desk.seen(view, uploaded).logits.argmax())])
    asked, network = Asked(desk, view), desk.network
    names = [layer.name for layer in asked.spans.layers]
    before = _scores(network, task, names, asked.settings)
    stop_point()
    after = _scores(without(network, Off.parse(view.off, network)), task, names, asked.settings)
    tell("Answering other images of the set ...")
    desk.rescored.put(_key(view, uploaded), Rescored(before, after, *_kept_answers(desk, view)))


def _scores(network: Network, task: Task, names: list[str], settings: Mapping[str, Any]) -> dict[str, Tensor]:
    leading = {layer.name for layer in layers_to(network, Target.parse(settings["target"], network))}
    known = [name for name in names if name in leading]
    found = importance(network, task, layers=known, **settings).filters
    return {name: found[name] if name in leading else torch.zeros(network.layer(name).units) for name in names}


def _kept_answers(desk: Desk, view: View) -> tuple[int, int]:
    """Return how many images of the chosen one's set are still answered as before, and of how many."""
    if view.image == UPLOAD:
        return 0, 0
    index = int(view.image.split(".")[0])
    count, same = min(_OF_SET, len(desk.bundle.sets[index].images)), 0
    for image in range(count):
        stop_point()
        other = view.having(image=f"{index}.{image}")
        pair = [desk.seen(other, None, ablated=ablated).logits.argmax() for ablated in (False, True)]
        same += int(torch.equal(*pair))
    return same, count


def _key(view: View, uploaded: str | None) -> tuple[Any, ...]:
    return (view.image if view.image != UPLOAD else uploaded, view.off, view.target, view.criterion)
