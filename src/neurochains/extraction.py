"""Extraction: from a model and a task to a chain with its certificate, measures and controls."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from neurochains.chains.budget import BudgetSettings, Round
from neurochains.chains.chain import Chain
from neurochains.chains.goal import Goal, make_goal
from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.paper import PaperSettings
from neurochains.chains.search import Found, ScoreRange, SearchSettings, find_subnetwork
from neurochains.data import Task
from neurochains.errors import DataError, FidelityError, SettingsError, did_you_mean
from neurochains.measures.summary import measure_chain
from neurochains.network.network import Network
from neurochains.network.zoo import load_model

__all__ = ["Progress", "extract"]

METHODS = ("budget", "paper")
RANGES = ("unbounded", "unit", "binary")
UNITS = ("filters", "hidden")
_PAPER = PaperSettings()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an extraction is: the stage, a step of about so many, and what is known of the sub-network by then."""

    stage: str
    step: int
    steps: int
    divergence: float | None = None
    filters: int | None = None
    seconds_left: float | None = None


def extract(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    *,
    fidelity: float | None = None,
    agreement: float | None = None,
    size: int | float | None = None,
    method: str = "budget",
    units: Sequence[str] = ("filters",),
    objective: str | Objective = "kl",
    score_range: str = "unbounded",
    gates: bool | None = None,
    steps: int | None = None,
    refit: int | None = None,
    lam: float = _PAPER.lam,
    lam_g: float = _PAPER.lam_g,
    threshold: float = _PAPER.threshold,
    single_image: bool = False,
    controls: bool = True,
    seed: int = 0,
    device: str | torch.device | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Chain:
    """Return the smallest sub-network, of exactly copied filters, that keeps a model's outputs on a task's images.

    Give one goal: `fidelity`, `agreement` or `size`; without any it is ``fidelity=0.05``.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network. It is never changed.
        task: the images; a tensor ``(N, C, H, W)`` counts as a task without labels.
        fidelity: the mean divergence allowed on the task's images (KL in nats).
        agreement: the share of predictions to keep, above 0, at most 1.
        size: how many filters to end at: a number, or a fraction as a float.
        method: ``"budget"`` (`neurochains.chains.budget`) or ``"paper"`` (`neurochains.chains.paper`).
        units: what is scored: ``"filters"``, ``"hidden"`` units of linear layers, or both.
        objective: the divergence: ``"kl"`` for classifiers, ``"mse"`` for regression, ``"cosine"`` for embeddings, or a
            callable ``(outputs, original) -> (N,)``.
        score_range: ``"unbounded"`` (never negative), ``"unit"`` ([0, 1]) or ``"binary"`` (0 or 1).
        gates: whether whole blocks may be skipped; by default not for ``"budget"``, and for ``"paper"`` yes.
        steps: of ``"paper"``, at most (300); for ``"budget"`` the rounds' Gauss-Newton steps (3).
        refit: Adam steps on the scores of what survives: 60, for ``"paper"`` 100. The controls get the same.
        lam: weight of the scores' sum in ``"paper"``.
        lam_g: weight of the gate logits' sum in ``"paper"``.
        threshold: below which ``"paper"`` removes a filter.
        single_image: allow a task of one image, which nearly any few filters fit.
        controls: whether controls of the same size are refitted and measured.
        seed: of everything random; the same seed on the same machine gives the same chain, bit for bit.
        device: where to run; by default where the model is.
        progress: called now and then.

    Raises:
        SettingsError: an option has a value it cannot have.
        DataError: the images do not fit the model.
        FidelityError: the goal is out of reach.
        ModelError: the model cannot be traced or has nothing to score.
    """
    task = Task.of(task)
    _check_choice("method", method, METHODS)
    _check_choice("score_range", score_range, RANGES)
    _check_units(units)
    measure = find_objective(objective)
    _check_task(task, single_image)
    network = _network(model, task, device)
    layers = network.scored(units)
    if task.labels is not None:
        task.check_outputs(network.outputs)
    total = sum(layer.units for layer in layers)
    goal = make_goal(fidelity=fidelity, agreement=agreement, size=size, total=total)
    _check_outputs(network, task, goal)
    settings = _settings(method, score_range, gates, steps, refit, lam, lam_g, threshold, seed)
    follow = _Follower(progress, total, goal, settings)
    found = find_subnetwork(
        network, task.images, layers=layers, objective=measure, goal=goal, settings=settings, follow=follow
    )
    follow.stage("measuring")
    metrics = measure_chain(
        network, task, found.scores, objective=objective, controls=controls, seed=seed, steps=settings.refit
    )
    _check_reached(metrics, goal, asked=fidelity is not None or method == "budget")
    asked = {"fidelity": fidelity, "agreement": agreement, "size": size}
    if all(value is None for value in asked.values()):
        asked["fidelity"] = goal.divergence
    return _chain(network, task, found, metrics, settings, {**asked, "units": list(units), "objective": _name(objective)})


def _chain(
    network: Network, task: Task, found: Found, metrics: dict[str, Any], settings: SearchSettings, asked: dict[str, Any]
) -> Chain:
    options = asdict(settings)
    del options["paper" if settings.method == "budget" else "budget"]
    metrics = {**metrics, "seconds": found.seconds}
    history = [asdict(entry) for entry in found.history]
    return Chain(network, task, found.scores, {**asked, **options}, metrics, found.leave_one_out, history)


def _network(model: nn.Module | str | Network, task: Task, device: str | torch.device | None) -> Network:
    if isinstance(model, Network):
        return model
    module = load_model(model) if isinstance(model, str) else model
    return Network.trace(module, task.images[:2], device=device)


def _settings(
    method: str,
    score_range: Any,
    gates: bool | None,
    steps: int | None,
    refit: int | None,
    lam: float,
    lam_g: float,
    threshold: float,
    seed: int,
) -> SearchSettings:
    for name, value in (("steps", steps), ("refit", refit)):
        if value is not None and value < 0:
            raise SettingsError(f"{name} is a number of steps, 0 or more; got {value}.")
    if min(lam, lam_g, threshold) < 0:
        raise SettingsError(f"lam, lam_g and threshold cannot be negative; got {lam}, {lam_g} and {threshold}.")
    paper = PaperSettings(lam=lam, lam_g=lam_g, threshold=threshold)
    budget = BudgetSettings()
    if steps is not None:
        paper, budget = replace(paper, steps=steps), replace(budget, polish=steps)
    return SearchSettings(
        method="paper" if method == "paper" else "budget",
        score_range=score_range,
        gates=method == "paper" if gates is None else gates,
        refit=(100 if method == "paper" else 60) if refit is None else refit,
        seed=seed,
        budget=budget,
        paper=paper,
    )


class _Follower:
    """Turns the rounds of a search into reports, with an estimate of the time left."""

    def __init__(
        self, progress: Callable[[Progress], None] | None, total: int, goal: Goal, settings: SearchSettings
    ) -> None:
        self._progress = progress
        self._total = total
        self._steps = settings.paper.steps if settings.method == "paper" else 0
        self._end = max(goal.least, math.ceil(0.04 * total))  # where searches usually end; only for the estimate

    def __call__(self, stage: str, entry: Round) -> None:
        if self._progress is None:
            return
        step, steps = (entry.step, self._steps) if self._steps else (self._done(entry.filters), 100)
        share = step / max(steps, 1)
        left = entry.seconds * (1 - share) / share if 0 < share and stage != "certifying" else None
        divergence = entry.divergence if math.isfinite(entry.divergence) else None
        self._progress(Progress(stage, step, steps, divergence, entry.filters, left))

    def stage(self, name: str) -> None:
        """Report that a stage begins."""
        if self._progress is not None:
            self._progress(Progress(name, 100, 100))

    def _done(self, filters: int) -> int:
        """Return the share of the way, in percent, with sizes counted in logarithms."""
        way = math.log(self._total / self._end) if self._total > self._end else 1.0
        return min(99, max(0, round(100 * math.log(self._total / max(filters, 1)) / way)))


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SettingsError(f"{name} is one of {', '.join(known)}; got {value!r}. {did_you_mean(str(value), known)}")


def _check_units(units: Sequence[str]) -> None:
    if isinstance(units, str) or not units:
        raise SettingsError(f'units is a sequence such as ("filters",); got {units!r}.')
    for unit in units:
        _check_choice("each of units", unit, UNITS)


def _check_task(task: Task, single_image: bool) -> None:
    if len(task) == 1 and not single_image:
        raise DataError(
            "The task has one image, which nearly any few filters fit: the chain would say little about the network. "
            "Give several images, or allow it with single_image=True (--single-image)."
        )


def _check_outputs(network: Network, task: Task, goal: Goal) -> None:
    with torch.no_grad():
        outputs = network(task.images)
    if not torch.isfinite(outputs).all():
        bad = (~torch.isfinite(outputs).all(-1)).nonzero().flatten().tolist()
        raise DataError(f"The model answers with NaN or infinite outputs to {len(bad)} images: {task.names[bad[0]]}, ...")
    if goal.agreement and network.outputs < 2:
        raise SettingsError("An agreement needs a classifier; this model has one output. Give a fidelity instead.")


def _check_reached(metrics: dict[str, Any], goal: Goal, *, asked: bool) -> None:
    reached = metrics["kl"]
    if asked and reached is not None and reached > goal.divergence * (1 + 1e-6):
        raise FidelityError(
            f"The smallest divergence that was reached is {reached:.4g}, above the fidelity {goal.divergence:.4g}. "
            "Ask for a larger one, or for method='budget'; for method='paper', a smaller lam keeps more filters."
        )
    if goal.agreement and (metrics["agreement"] or 0) < goal.agreement:
        raise FidelityError(
            f"The sub-network keeps {metrics['agreement']:.2f} of the predictions, below {goal.agreement:.2f}. "
            "Ask for less, or for method='budget'."
        )


def _name(objective: str | Objective) -> str:
    return objective if isinstance(objective, str) else getattr(objective, "__name__", type(objective).__name__)
