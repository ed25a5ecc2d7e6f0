"""Variation: what becomes of a chain when one thing about its extraction is changed (E5, E6, E7, spread over seeds).

These measures extract again, with the settings of the chain given but for one, by the `extract` that they are handed:
`neurochains.extract`, or anything that is called like it.

- `measure_gates` (E5): with and without gates on blocks;
- `measure_classes` (E6): on 1, 2, ... classes of the task, and on one class against the rest, where the divergence is
  that of the probabilities of the class and of all others together;
- `measure_samples` (E7): on n images of each class; how well the chain does on images that were held out;
- `measure_seeds`: with other seeds; sizes, and how many filters two chains share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from neurochains.chains import OBJECTIVES, Chain
from neurochains.chains.objectives import Objective
from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.errors import DataError, SettingsError
from neurochains.measures.cases import Case, Chains, Extract, Model, cases_of, check_counts, measure
from neurochains.measures.intervals import Interval, interval_of_mean
from neurochains.measures.overlap import overlap
from neurochains.measures.tasks import measure_fidelity

__all__ = [
    "Seeds",
    "Variation",
    "VariationRow",
    "against_the_rest",
    "measure_classes",
    "measure_gates",
    "measure_samples",
    "measure_seeds",
    "settings_of",
]

_ASKED = ("fidelity", "agreement", "size", "method", "units", "objective", "score_range", "gates", "refit", "seed")
_PAPER = ("lam", "lam_g", "threshold", "steps")


@dataclass(frozen=True, slots=True)
class VariationRow:
    """The chains under one condition: means over them, with intervals.

    The accuracies and the agreement are those on held-out images; without any they have no value.
    """

    condition: str
    filters: Interval
    layers: Interval
    blocks_skipped: Interval
    divergence: Interval
    agreement: Interval
    accuracy: Interval
    accuracy_original: Interval

    def to_json(self) -> dict[str, Any]:
        """Return the condition and the means."""
        names = [name for name in self.__dataclass_fields__ if name != "condition"]
        return {"condition": self.condition, **{name: getattr(self, name).to_json() for name in names}}


@dataclass(frozen=True, slots=True)
class Variation:
    """One row for each condition, in order."""

    rows: tuple[VariationRow, ...]

    def row(self, condition: str) -> VariationRow:
        """Return the row of a condition.

        Raises:
            SettingsError: there is none.
        """
        for row in self.rows:
            if row.condition == condition:
                return row
        raise SettingsError(
            f"There is no row {condition!r}; there are {', '.join(row.condition for row in self.rows)}."
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return all rows."""
        return plain([row.to_json() for row in self.rows])


@dataclass(frozen=True, slots=True)
class Seeds:
    """The spread over seeds: numbers of filters by chain and seed, and the mean overlap of two seeds' chains."""

    sizes: tuple[tuple[int, ...], ...]
    overlap: Interval

    @property
    def deviation(self) -> Interval:
        """The standard deviation of the size over seeds, relative to its mean, averaged over chains."""
        each = [torch.tensor(sizes, dtype=torch.float64) for sizes in self.sizes]
        return interval_of_mean([float(sizes.std() / sizes.mean()) for sizes in each])

    def to_json(self) -> dict[str, Any]:
        """Return sizes, deviation and overlap."""
        return plain({"sizes": self.sizes, "deviation": self.deviation.to_json(), "overlap": self.overlap.to_json()})


def settings_of(chain: Chain) -> dict[str, Any]:
    """Return the options of `neurochains.extract` that a chain was extracted with.

    Raises:
        SettingsError: its objective was a callable, which is not saved with a chain.
    """
    known = {name: chain.settings[name] for name in _ASKED if chain.settings.get(name) is not None}
    known.update({name: chain.settings["paper"][name] for name in _PAPER if "paper" in chain.settings})
    if known.get("objective", "kl") not in OBJECTIVES:
        raise SettingsError(
            f"The chain was extracted with an objective of its own, {known['objective']!r}, which cannot be used again "
            f"by its name. Extract with one of {', '.join(OBJECTIVES)}."
        )
    return known


def against_the_rest(output: int) -> Objective:
    """Return the objective of one class against the rest: ``KL`` of (its probability, that of all others), Eq. 5."""

    def objective(outputs: Tensor, original: Tensor) -> Tensor:
        p, q = (_two(values, output) for values in (original, outputs))
        return F.kl_div(q, p, reduction="none", log_target=True).sum(-1)

    objective.__name__ = f"output_{output}_against_the_rest"
    return objective


@measure("gates")
def measure_gates(model: Model, chain: Chains, task: Task | None = None, *, extract: Extract) -> Variation:
    """Return chains extracted with and without gates; see the module for what is measured."""
    cases = cases_of(model, chain, task)
    conditions = {"with gates": True, "without gates": False}
    return Variation(
        tuple(
            _row(name, [(case, _again(case, extract, case.task, gates=gates)) for case in cases])
            for name, gates in conditions.items()
        )
    )


@measure("classes")
def measure_classes(
    model: Model, chain: Chains, task: Task | None = None, *, extract: Extract, most: int = 10
) -> Variation:
    """Return chains on the first 1, 2, ... classes of the task, at most `most`, then on each class against the rest.

    Raises:
        DataError: a task has no labels.
    """
    cases = cases_of(model, chain, task)
    classes = [_classes(case.task) for case in cases]
    rows = []
    for count in range(1, min(most, min(map(len, classes))) + 1):
        some = [(case, _of_classes(case.task, known[:count])) for case, known in zip(cases, classes)]
        rows.append(_row(f"{count} classes", [(case, _again(case, extract, part)) for case, part in some]))
    for place in range(min(most, min(map(len, classes)))):
        found = [
            (case, _again(case, extract, case.task, objective=against_the_rest(known[place])))
            for case, known in zip(cases, classes)
        ]
        names = dict.fromkeys(case.task.label_name(known[place]) for case, known in zip(cases, classes))
        rows.append(_row(f"{' or '.join(names)} against the rest", found))
    return Variation(tuple(rows))


@measure("samples")
def measure_samples(
    model: Model,
    chain: Chains,
    task: Task | None = None,
    *,
    extract: Extract,
    counts: Sequence[int] = (1, 2, 5, 10, 20),
) -> Variation:
    """Return chains on the first n images of each class of the task, for some n; larger ones than there are left out.

    Raises:
        DataError: a task has no labels.
        SettingsError: a count is none, or all are larger than the classes.
    """
    cases, rows = cases_of(model, chain, task), []
    for count in check_counts("counts", counts):
        parts = [_first_of_each(case.task, count) for case in cases]
        if any(part is None for part in parts):
            continue
        again = [(case, _again(case, extract, part)) for case, part in zip(cases, parts) if part is not None]
        rows.append(_row(f"{count} of each class", again))
    if not rows:
        raise SettingsError(f"No class has {min(counts)} images. Ask for fewer, or make a larger task.")
    return Variation(tuple(rows))


@measure("seeds")
def measure_seeds(
    model: Model, chain: Chains, task: Task | None = None, *, extract: Extract, seeds: Sequence[int] = (0, 1, 2)
) -> Seeds:
    """Return how chains differ from seed to seed.

    Raises:
        SettingsError: there are fewer than two seeds.
    """
    if len(set(seeds)) < 2:
        raise SettingsError(f"A spread takes two seeds or more; got {list(seeds)}.")
    sizes, overlaps = [], []
    for case in cases_of(model, chain, task):
        again = [_again(case, extract, case.task, seed=seed) for seed in seeds]
        shared = overlap([one.subnetwork.units for one in again])
        sizes.append(tuple(one.subnetwork.kept for one in again))
        overlaps.append(float(sum(shared[a, b] for a, b in combinations(range(len(again)), 2))))
    pairs = len(seeds) * (len(seeds) - 1) / 2
    return Seeds(tuple(sizes), interval_of_mean([value / pairs for value in overlaps]))


def _again(case: Case, extract: Extract, task: Task, **changes: Any) -> Chain:
    options = {**settings_of(case.chain), **changes}
    return extract(case.network, task, controls=False, single_image=True, **options)


def _row(condition: str, found: Iterable[tuple[Case, Chain]]) -> VariationRow:
    """Return the row of some chains, measured on the held-out images of the cases they came from."""
    pairs = list(found)
    held = [_held_out(case, chain) for case, chain in pairs]

    def mean(values: Callable[[Chain], float | None]) -> Interval:
        return interval_of_mean([values(chain) for _, chain in pairs])

    return VariationRow(
        condition,
        mean(lambda chain: chain.subnetwork.kept),
        mean(lambda chain: len(chain.filters)),
        mean(lambda chain: len(chain.subnetwork.skipped)),
        mean(lambda chain: chain.metrics.get("divergence")),
        *(interval_of_mean([one[place] for one in held]) for place in range(3)),
    )


def _held_out(case: Case, chain: Chain) -> tuple[float | None, float | None, float | None]:
    """Return agreement and accuracies on held-out images of the classes that a chain was extracted on."""
    held = case.task.held_out
    if held is None:
        return None, None, None
    if held.labels is not None and chain.task.classes:
        rows = [row for row, label in enumerate(held.labels.tolist()) if label in chain.task.classes]
        held = held.subset(rows) if rows else None
    if held is None:
        return None, None, None
    found = measure_fidelity(case.network, held, chain.subnetwork).given
    return found.agreement, found.accuracy, found.accuracy_original


def _classes(task: Task) -> tuple[int, ...]:
    if not task.classes:
        raise DataError("Numbers of classes and of images of each need labels, but the task has none. Label it.")
    return task.classes


def _of_classes(task: Task, classes: Sequence[int]) -> Task:
    rows = task.by_class()
    return task.subset([row for label in classes for row in rows[label]])


def _first_of_each(task: Task, count: int) -> Task | None:
    """Return the first images of each class; None where one has fewer."""
    rows = task.by_class()
    if any(len(rows[label]) < count for label in _classes(task)):
        return None
    return task.subset([row for label in rows for row in rows[label][:count]])


def _two(outputs: Tensor, output: int) -> Tensor:
    """Return the log probabilities ``(B, 2)`` of one output and of all others together."""
    logs = F.log_softmax(outputs, -1)
    rest = torch.cat([logs[:, :output], logs[:, output + 1 :]], 1).logsumexp(1)
    return torch.stack([logs[:, output], rest], 1)
