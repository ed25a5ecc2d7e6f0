"""A task's outputs and fidelity: on the given images and, where there are any, on those held out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from neurochains.chains.objectives import Objective
from neurochains.chains.parity import in_batches
from neurochains.chains.scores import Scores
from neurochains.data.task import Task
from neurochains.measures.fidelity import Fidelity, measure_outputs
from neurochains.network.network import Network

__all__ = ["TaskFidelity", "TaskOutputs", "compare_tasks", "measure_fidelity", "run_scores", "run_task"]


@dataclass(frozen=True, slots=True, eq=False)
class TaskOutputs:
    """What a network gives for a task's images: ``(N, K)`` on the CPU, and the same for those held out."""

    given: Tensor
    held_out: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TaskFidelity:
    """Fidelity on a task's images, and on those held out."""

    given: Fidelity
    held_out: Fidelity | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers on the given images, and under ``held_out`` the same on the others, if there are any."""
        held = {} if self.held_out is None else {"held_out": self.held_out.to_json()}
        return {**self.given.to_json(), **held}


def run_task(network: Callable[[Tensor], Tensor], task: Task) -> TaskOutputs:
    """Return what a network, or any other callable, gives for the images of a task, without gradients."""
    held = None if task.held_out is None else in_batches(network, task.held_out.images)
    return TaskOutputs(in_batches(network, task.images), held)


def run_scores(network: Network, task: Task, scores: Scores) -> TaskOutputs:
    """Return what a sub-network, compacted, gives for the images of a task."""
    small = scores.compact(network)
    return run_task(lambda images: small(network.check(images)), task)


def compare_tasks(
    original: TaskOutputs, sub: TaskOutputs, task: Task, *, objective: str | Objective = "kl"
) -> TaskFidelity:
    """Return how faithful the outputs of a sub-network are to the original's; `measure_outputs` says what of them."""
    given = measure_outputs(original.given, sub.given, task.labels, objective=objective)
    if original.held_out is None or sub.held_out is None or task.held_out is None:
        return TaskFidelity(given)
    return TaskFidelity(
        given, measure_outputs(original.held_out, sub.held_out, task.held_out.labels, objective=objective)
    )


def measure_fidelity(
    network: Network, task: Task, scores: Scores, *, objective: str | Objective = "kl"
) -> TaskFidelity:
    """Return how faithful a sub-network is on a task.

    Raises:
        DataError: the task's images are not what the network was traced for.
        SettingsError: there is no such objective.
    """
    return compare_tasks(run_task(network, task), run_scores(network, task, scores), task, objective=objective)
