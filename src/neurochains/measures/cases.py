"""What the measures of the papers' analyses are taken on: one chain or several, each with its network and its task.

Every measure is a function of ``(model, chain, task)``. `MEASURES` names them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from neurochains.chains import Chain, Scores
from neurochains.data import Task
from neurochains.errors import DataError, SettingsError
from neurochains.network import Network, load_model
from neurochains.network.network import weight_digest
from neurochains.network.zoo import prepare

__all__ = [
    "MEASURES",
    "Case",
    "Chains",
    "Extract",
    "Measure",
    "Model",
    "cases_of",
    "held_out_of",
    "measure",
    "one_case",
]

Chains = Chain | Sequence[Chain]
Model = nn.Module | Network | str | None
Extract = Callable[..., Chain]
"""What extracts again: `neurochains.extract`, or anything that is called like it."""

Measure = Callable[..., Any]
MEASURES: dict[str, Measure] = {}
"""The measures by name: each takes ``(model, chain, task)``; those that extract again also ``extract=``."""

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One sub-network with its network and the images it is measured on."""

    network: Network
    task: Task
    scores: Scores
    chain: Chain


def measure(name: str) -> Callable[[Function], Function]:
    """Return the decorator that enters a measure into `MEASURES`."""

    def enter(function: Function) -> Function:
        MEASURES[name] = function
        return function

    return enter


def cases_of(model: Model, chain: Chains, task: Task | None) -> list[Case]:
    """Return one case for each chain.

    Args:
        model: of which the chains are, or its name; None takes the network of each chain.
        chain: one, or several.
        task: what they are measured on; None takes the task of each chain.

    Raises:
        DataError: there is no chain, or one is of another model.
    """
    chains = [chain] if isinstance(chain, Chain) else list(chain)
    if not chains:
        raise DataError("Wanted at least one chain to measure, but got none.")
    digest = _digest(model)
    for number, one in enumerate(chains):
        if digest is not None and one.network.digest != digest:
            raise DataError(
                f"Chain {number} is of a model with other weights than the one given: digests "
                f"{one.network.digest[:12]} and {digest[:12]}. Pass its own model, or None for that of each chain."
            )
    return [Case(one.network, one.task if task is None else task, one.subnetwork, one) for one in chains]


def one_case(model: Model, chain: Chain, task: Task | None) -> Case:
    """Return the case of one chain; errors are those of `cases_of`, and DataError for several."""
    if not isinstance(chain, Chain):
        raise DataError(f"Wanted one chain, but got {type(chain).__name__}. Measure one chain at a time.")
    return cases_of(model, chain, task)[0]


def held_out_of(case: Case) -> Task:
    """Return the images of a case that were held out.

    Raises:
        DataError: there are none.
    """
    if case.task.held_out is None:
        raise DataError(
            "This measure takes images that the chain was not extracted on, but the task has none held out. "
            "Make the task with held_out=, or pass another one."
        )
    return case.task.held_out


def check_counts(name: str, counts: Sequence[int]) -> list[int]:
    """Return some whole numbers of 1 or more in ascending order, each once.

    Raises:
        SettingsError: there are none, or others.
    """
    if not counts or any(isinstance(count, bool) or not isinstance(count, int) or count < 1 for count in counts):
        raise SettingsError(f"{name} are whole numbers of 1 or more; got {list(counts)}.")
    return sorted(set(counts))


def _digest(model: Model) -> str | None:
    if model is None or isinstance(model, Network):
        return None if model is None else model.digest
    module = load_model(model) if isinstance(model, str) else model
    with torch.no_grad():
        return weight_digest(prepare(module))
