"""What the tables of a study say about one sub-network: one row for the case, one for each of its filters.

The case's row holds sizes, fidelity (that on held-out images behind ``held_out_``), parity, faithfulness and times,
under the names of `Chain.metrics` with nested ones joined by ``_``; and, as lists, the measures of each image. A
filter's row holds its score and what happens without it, where the method searched for it:

- ``divergence``: the mean divergence from the original that is left without the filter;
- ``drop``: by how much the probability of the original class falls, on the average (E2);
- ``moved``: the mean KL from the outputs with the filter to those without (E2b);
- ``changed``: the share of images with ``Q < 0`` of Eq. 9 without it (E3b).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from neurochains.chains import OBJECTIVES, Chain, Scores
from neurochains.chains.ablation import leave_one_out_outputs
from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.plain import plain
from neurochains.data import Task
from neurochains.measures import TaskOutputs, measure_outputs, quotient, run_scores, run_task
from neurochains.measures.fidelity import has_classes
from neurochains.network import Network
from neurochains.studies.further import further

__all__ = ["case_row", "filter_rows", "flat"]

FILTER_COLUMNS = ("divergence", "drop", "moved", "changed")


def case_row(
    network: Network, chain: Chain, *, measures: list[str], objective: str | Objective = "kl"
) -> dict[str, Any]:
    """Return the measured columns of a case, as JSON values.

    Args:
        network: the whole network.
        chain: the sub-network, with its metrics.
        measures: names in `neurochains.studies.further.MEASURES`.
        objective: what the divergence is.
    """
    task = chain.task
    each = measure_outputs(*_outputs(network, task, chain.subnetwork), task.labels, objective=objective).per_image
    images = {f"image_{name}": values for name, values in each.to_json().items() if values is not None}
    asked: dict[str, Any] = {}
    for name in measures:
        asked.update(further(name, network, chain))
    own = {"skipped": list(chain.subnetwork.skipped), "refit": chain.settings.get("refit")}
    return plain({**flat(chain.metrics), **own, **images, **asked})


def filter_rows(
    network: Network, task: Task, scores: Scores, *, objective: str | Objective = "kl", ablate: bool = True
) -> dict[str, list[Any]]:
    """Return the columns of a sub-network's filters, layer by layer: ``layer``, ``label``, ``index``, ``score``, ...

    Args:
        network: the whole network.
        task: the images that filters are left out on.
        scores: the sub-network.
        objective: what the divergence is.
        ablate: leave each filter out in turn, which takes about half a forward pass for each.
    """
    kept = scores.list_filters()
    rows: dict[str, list[Any]] = {
        "layer": [unit.layer for unit in kept],
        "label": [network.label(unit) for unit in kept],
        "index": [unit.index for unit in kept],
        "score": [float(scores.units[unit.layer][unit.index]) for unit in kept],
    }
    found = _left_out(network, task.images, scores, objective) if ablate else {}
    for column in FILTER_COLUMNS:
        rows[column] = [found.get((unit.layer, unit.index), {}).get(column) for unit in kept]
    return plain(rows)


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under one name each.

    >>> flat({"kl": 0.1, "held_out": {"kl": 0.2}})
    {'kl': 0.1, 'held_out_kl': 0.2}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        found.update(flat(value, f"{name}_") if isinstance(value, Mapping) else {name: value})
    return found


def _outputs(network: Network, task: Task, scores: Scores) -> tuple[Tensor, Tensor]:
    """Return what the network and the sub-network give for the task's images."""
    given = Task(task.images, task.labels)
    original, sub = run_task(network, given), run_scores(network, given, scores)
    return original.given, sub.given


def _left_out(
    network: Network, images: Tensor, scores: Scores, objective: str | Objective
) -> dict[tuple[str, int], dict[str, float]]:
    """Return what happens without each filter, by layer and index."""
    whole = TaskOutputs(run_task(network, Task(images)).given).given
    before = run_task(lambda some: scores.run(network, some), Task(images)).given
    found = {}
    for some in leave_one_out_outputs(network, images, scores):
        for unit, outputs in zip(some.units.tolist(), some.outputs.cpu(), strict=True):
            found[some.layer, unit] = _without(whole, before, outputs, objective)
    return found


def _without(whole: Tensor, before: Tensor, after: Tensor, objective: str | Objective) -> dict[str, float]:
    """Return the measures of one filter from outputs ``(N, K)``: of the network, the sub-network, and without it."""
    whole, before, after = whole.double(), before.double(), after.double()
    row = {"divergence": float(find_objective(objective)(after, whole).mean())}
    if has_classes(whole, objective):
        first = whole.argmax(-1, keepdim=True)
        fall = before.softmax(-1).gather(-1, first) - after.softmax(-1).gather(-1, first)
        signs = quotient(whole, after)
        taken = signs[~torch.isnan(signs)]
        row["drop"] = float(fall.mean())
        row["moved"] = float(OBJECTIVES["kl"](after, before).mean())
        row["changed"] = float((taken < 0).double().mean()) if len(taken) else float("nan")
    return row
