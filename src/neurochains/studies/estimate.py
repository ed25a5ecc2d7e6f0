"""What a study will cost: how many cases there are, and about how long they take, from one short probe of each model.

The probe times one step, forward and backward through the scored network, on the images of the model's first task. A
method counts as so many of these steps; the budget method's number is the median that ``python -m benchmarks
extraction`` found. The estimate is one of the order of magnitude: how long a search takes depends on the images.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.edit.scores import ScoredNetwork
from neurochains.network import Network
from neurochains.studies.cases import Case, count_cases, expand
from neurochains.studies.plan import Plan
from neurochains.studies.runner import Runner

__all__ = ["Estimate", "estimate", "steps_of"]

BUDGET_STEPS = 280
PAPER_STEPS, PAPER_REFIT = 300, 100
REFIT = 60
MEASURING = 20  # steps that all measures of a case cost


@dataclass(frozen=True, slots=True)
class Estimate:
    """The cases of a plan by method, and about how many seconds they take one after the other.

    `steps` has the seconds of one step for each model that was probed; `seconds` is None without a probe.
    """

    cases: int
    by_method: Mapping[str, int]
    steps: Mapping[str, float]
    seconds: float | None

    def seconds_with(self, workers: int) -> float | None:
        """Return about how many seconds so many workers take."""
        return None if self.seconds is None else self.seconds / max(workers, 1)


def estimate(plan: Plan, *, probe: bool = True, most: int = 100_000) -> Estimate:
    """Return how many cases a plan has and about how long they take.

    Args:
        plan: of what.
        probe: load each model and time one step; otherwise only count.
        most: plans of more cases are counted without being made or probed.

    Raises:
        NeuroChainsError: a model or its first task cannot be loaded.
    """
    total = count_cases(plan)
    if total > most:
        return Estimate(total, {}, {}, None)
    by_method: Counter[str] = Counter()
    by_model: dict[str, list[Any]] = {}
    for case in expand(plan):
        by_method[case.spec["method"]["name"]] += 1
        entry = by_model.setdefault(case.spec["model"]["name"], [case, 0])
        entry[1] += steps_of(case)
    if not probe:
        return Estimate(sum(by_method.values()), by_method, {}, None)
    runner = Runner(plan.root)
    steps = {name: _step(*runner.prepare(case.spec)) for name, (case, _) in by_model.items()}
    seconds = sum(steps[name] * count for name, (_, count) in by_model.items())
    return Estimate(sum(by_method.values()), by_method, steps, seconds)


def steps_of(case: Case) -> int:
    """Return about how many steps on its images a case costs."""
    options, method = case.spec["options"], case.spec["method"]["method"]
    refit = options.get("refit")
    if method == "budget":
        return BUDGET_STEPS + MEASURING
    if method == "paper":
        return options.get("steps", PAPER_STEPS) + (PAPER_REFIT if refit is None else refit) + MEASURING
    return (REFIT if refit is None else refit) + MEASURING


def _step(network: Network, task: Any) -> float:
    """Return the seconds of one step on one thread, as a worker has; the second of two runs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(_timed(network, task.images) for _ in range(2))
    finally:
        torch.set_num_threads(threads)


def _timed(network: Network, images: Tensor) -> float:
    layers = network.scored()
    units = {layer.name: torch.ones(layer.units, device=network.device, requires_grad=True) for layer in layers}
    began = time.perf_counter()
    outputs = ScoredNetwork(network, layers=layers, blocks=())(network.check(images), units, {})[0]
    outputs.log_softmax(-1).sum().backward()
    return time.perf_counter() - began
