"""Locality (E9): which unseen images are near, by what the last layer reads or by which units of the first layer fire?

For each given image the K nearest unseen ones are found twice: by Euclidean distance in penultimate space, and by
Hamming's distance of the first layer's ReLU pattern. Compared are the Euclidean distances (mean and standard deviation)
of both kinds of neighbours in penultimate space, how many neighbours both have in common, on how many the original
predicts what it predicts for the image itself, and on how many the sub-network answers like the original.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.measures.cases import Case, Chains, Model, cases_of, check_counts, held_out_of, measure
from neurochains.measures.features import nearest, penultimate, relu_pattern
from neurochains.measures.intervals import Interval, interval_of_mean
from neurochains.measures.tasks import run_scores, run_task

__all__ = ["Locality", "Neighbourhood", "measure_locality"]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The neighbours of one kind; means over sub-networks.

    `distance` and `spread` are mean and standard deviation of the Euclidean distance in penultimate space, relative to
    the mean distance of all unseen images; `same_class` is the share on which the original predicts as for the image,
    `agreement` that on which the sub-network predicts like the original.
    """

    distance: Interval
    spread: Interval
    same_class: Interval
    agreement: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the means with their intervals."""
        return {name: getattr(self, name).to_json() for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Locality:
    """Both kinds of `neighbours` nearest images, and the share of them that the two have in common."""

    neighbours: int
    penultimate: Neighbourhood
    pattern: Neighbourhood
    common: Interval

    def to_json(self) -> dict[str, Any]:
        """Return all numbers."""
        kinds = {"penultimate": self.penultimate.to_json(), "pattern": self.pattern.to_json()}
        return plain({"neighbours": self.neighbours, **kinds, "common": self.common.to_json()})


@measure("locality")
def measure_locality(model: Model, chain: Chains, task: Task | None = None, *, neighbours: int = 10) -> Locality:
    """Return how the two kinds of neighbours differ; see `neurochains.measures.cases.cases_of`.

    Args:
        model: the model of the chains, or None.
        chain: one or several.
        task: with images held out; None for each chain's own.
        neighbours: how many; all unseen images where there are fewer.

    Raises:
        DataError: the task holds no images out.
        SettingsError: `neighbours` is not 1 or more.
    """
    (count,) = check_counts("neighbours", [neighbours])
    found = [_measured(case, count) for case in cases_of(model, chain, task)]
    near, alike = (
        Neighbourhood(*(interval_of_mean([one[kind][place] for one in found]) for place in range(4)))
        for kind in ("penultimate", "pattern")
    )
    return Locality(count, near, alike, interval_of_mean([one["common"][0] for one in found]))


def _measured(case: Case, count: int) -> dict[str, tuple[float, ...]]:
    unseen = held_out_of(case)
    network, images = case.network, case.task.images
    features = penultimate(network, images), penultimate(network, unseen.images)
    orders = {
        "penultimate": nearest(*features)[1][:, :count],
        "pattern": nearest(relu_pattern(network, images), relu_pattern(network, unseen.images))[1][:, :count],
    }
    distances = torch.cdist(features[0].double(), features[1].double())
    original, sub = run_task(network, case.task), run_scores(network, case.task, case.scores)
    assert original.held_out is not None
    assert sub.held_out is not None
    answers = original.given.argmax(-1), original.held_out.argmax(-1), sub.held_out.argmax(-1)
    found = {kind: _means(distances, order, *answers) for kind, order in orders.items()}
    both = (orders["penultimate"][:, :, None] == orders["pattern"][:, None]).any(2)
    return {**found, "common": (float(both.double().mean()),)}


def _means(distances: Tensor, order: Tensor, own: Tensor, unseen: Tensor, sub: Tensor) -> tuple[float, ...]:
    chosen = distances.gather(1, order) / distances.mean().clamp_min(1e-12)
    same, agree = unseen[order] == own[:, None], sub[order] == unseen[order]
    spread = float(chosen.std()) if chosen.numel() > 1 else 0.0
    return float(chosen.mean()), spread, float(same.double().mean()), float(agree.double().mean())
