"""The metrics that every chain carries, as one dict for JSON."""

from __future__ import annotations

from typing import Any

from neurochains.chains.objectives import Objective
from neurochains.chains.scores import Scores
from neurochains.data.task import Task
from neurochains.measures.controls import measure_controls
from neurochains.measures.faithfulness import leave_one_out
from neurochains.measures.sizes import measure_inference, measure_parity, measure_sizes
from neurochains.measures.tasks import compare_tasks, run_scores, run_task
from neurochains.network.network import Network

__all__ = ["measure_chain"]


def measure_chain(
    network: Network,
    task: Task,
    scores: Scores,
    *,
    objective: str | Objective = "kl",
    controls: bool = True,
    faithfulness: bool = True,
    seconds: bool = True,
    seed: int = 0,
    steps: int = 60,
) -> dict[str, Any]:
    """Return all that is measured of a sub-network on a task; what cannot be measured is None.

    The numbers of `Sizes` and `Fidelity` stand at the top, those of `Fidelity` on held-out images under ``held_out``;
    then ``parity``, ``faithfulness`` (`LeaveOneOut`), the times of `Seconds`, and under ``controls`` the fidelity of
    each control. All but the times is the same for the same seed.

    Args:
        network: the whole network.
        task: the images; those held out are only measured on.
        scores: the sub-network.
        objective: what the divergence is: a name in `OBJECTIVES`, or a callable.
        controls: whether controls are refitted and measured, which takes about as long as four refits.
        faithfulness: whether each filter is left out in turn, which takes about half a forward pass for each.
        seconds: whether inference is timed.
        seed: what the controls draw at random.
        steps: of the controls' refit.

    Raises:
        DataError: the task's images are not what the network was traced for.
        SettingsError: there is no such objective.
    """
    original = run_task(network, task)
    fidelity = compare_tasks(original, run_scores(network, task, scores), task, objective=objective)
    metrics = {
        **measure_sizes(network, task.images, scores).to_json(),
        **fidelity.to_json(),
        "parity": measure_parity(network, task.images, scores),
    }
    if faithfulness:
        left_out = leave_one_out(network, task.images, scores, objective=objective, original=original.given)
        metrics["faithfulness"] = left_out.to_json()
    if seconds:
        metrics.update(measure_inference(network, task.images, scores).to_json())
    if controls:
        measured = measure_controls(
            network, task, scores, objective=objective, steps=steps, seed=seed, original=original
        )
        metrics["controls"] = {name: one.to_json() for name, one in measured.items()}
    return metrics
