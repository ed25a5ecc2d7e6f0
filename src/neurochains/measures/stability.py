"""Stability (E8): does a chain still answer like the original on images near those it was extracted on?

Nearest are the K unseen images (those that the task holds out) of smallest Euclidean distance in penultimate space of
the original, for each of the N given images. Over these N K neighbours, each counted as often as it is one:

- agreement: the share on which sub-network and original predict the same;
- accuracy of both, where labels are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.measures.cases import Case, Chains, Model, cases_of, check_counts, held_out_of, measure
from neurochains.measures.features import nearest, penultimate
from neurochains.measures.intervals import Interval, interval_of_mean
from neurochains.measures.tasks import run_scores, run_task

__all__ = ["NEIGHBOURS", "Stability", "StabilityRow", "measure_stability"]

NEIGHBOURS = (1, 2, 5, 10, 20, 50)


@dataclass(frozen=True, slots=True)
class StabilityRow:
    """The K nearest unseen neighbours: means over sub-networks; accuracies have no value where labels are unknown."""

    neighbours: int
    distance: Interval
    agreement: Interval
    accuracy: Interval
    accuracy_original: Interval


@dataclass(frozen=True, slots=True)
class Stability:
    """One row for each number of neighbours, and the agreement on the given images themselves."""

    given: Interval
    rows: tuple[StabilityRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all rows."""
        names = ("distance", "agreement", "accuracy", "accuracy_original")
        rows = [{name: getattr(row, name).to_json() for name in names} for row in self.rows]
        counts = [{"neighbours": row.neighbours, **found} for row, found in zip(self.rows, rows)]
        return plain({"given": self.given.to_json(), "rows": counts})


@measure("stability")
def measure_stability(
    model: Model, chain: Chains, task: Task | None = None, *, neighbours: Sequence[int] = NEIGHBOURS
) -> Stability:
    """Return the stability of chains; see `neurochains.measures.cases.cases_of`.

    Numbers of neighbours beyond the number of unseen images are left out, but for the smallest asked for, which then
    counts all of them.

    Raises:
        DataError: the task holds no images out.
        SettingsError: a number of neighbours is none.
    """
    counts = check_counts("neighbours", neighbours)
    found = [_measured(case, counts) for case in cases_of(model, chain, task)]
    fitting = [count for count in counts if all(count in rows for _, rows in found)] or counts[:1]
    rows = []
    for count in fitting:
        columns = [[rows[min(count, max(rows))][place] for _, rows in found] for place in range(4)]
        rows.append(StabilityRow(count, *(interval_of_mean(column) for column in columns)))
    return Stability(interval_of_mean([given for given, _ in found]), tuple(rows))


Means = tuple[float, float, float | None, float | None]


def _measured(case: Case, counts: Sequence[int]) -> tuple[float, dict[int, Means]]:
    """Return the agreement on the given images, and for each number of neighbours the means over them."""
    unseen = held_out_of(case)
    original, sub = run_task(case.network, case.task), run_scores(case.network, case.task, case.scores)
    assert original.held_out is not None
    assert sub.held_out is not None
    distances, order = nearest(penultimate(case.network, case.task.images), penultimate(case.network, unseen.images))
    first, second = original.held_out.argmax(-1), sub.held_out.argmax(-1)
    labels = torch.full_like(first, -1) if unseen.labels is None else unseen.labels.cpu()
    given = float((original.given.argmax(-1) == sub.given.argmax(-1)).double().mean())
    fitting = [count for count in counts if count <= order.shape[1]] or [order.shape[1]]
    return given, {k: _means(distances[:, :k], order[:, :k].flatten(), first, second, labels) for k in fitting}


def _means(distances: Tensor, chosen: Tensor, first: Tensor, second: Tensor, labels: Tensor) -> Means:
    known = chosen[labels[chosen] >= 0]
    right = [float((some[known] == labels[known]).double().mean()) if len(known) else None for some in (second, first)]
    return float(distances.mean()), float((first[chosen] == second[chosen]).double().mean()), right[0], right[1]
