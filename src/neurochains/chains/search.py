"""The search for a sub-network, by either method, from a network and images to scores and a certificate."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from neurochains.chains.ablation import leave_one_out_divergence
from neurochains.chains.blocks import skip_blocks
from neurochains.chains.budget import BudgetSettings, Round, Search
from neurochains.chains.certificate import certify
from neurochains.chains.goal import Goal
from neurochains.chains.live import LiveNetwork
from neurochains.chains.objectives import Objective
from neurochains.chains.paper import PaperSettings, paper_scores
from neurochains.chains.refit import refit_live
from neurochains.chains.scores import Scores
from neurochains.chains.shrink import ShrinkSettings, shrink
from neurochains.network.layers import Layer
from neurochains.network.network import Network

__all__ = ["Effort", "Found", "ScoreRange", "SearchSettings", "find_subnetwork"]

QUICK_END = 0.2  # a quick search leaves the shrinkage when no larger share of the units could fade at a time
MANY = 100  # units: from so many on, fading is the cheaper way to remove some
SIZE_POLISH = 10  # Gauss-Newton steps where a size was asked for: there, all that can be gained is a better fit
Effort = Literal["quick", "thorough"]
ScoreRange = Literal["unbounded", "unit", "binary"]
Follow = Callable[[str, Round], None]


@dataclass(frozen=True, slots=True)
class SearchSettings:
    """What a search is told; see `neurochains.extraction.extract` for the meaning of each."""

    method: Literal["budget", "paper"] = "budget"
    effort: Effort = "quick"
    score_range: ScoreRange = "unbounded"
    gates: bool = False
    refit: int = 20
    seed: int = 0
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    shrink: ShrinkSettings = field(default_factory=ShrinkSettings)
    paper: PaperSettings = field(default_factory=PaperSettings)


@dataclass(frozen=True, slots=True)
class Found:
    """A sub-network: its scores, the divergence without each kept unit, how it was found, and in what time."""

    scores: Scores
    leave_one_out: dict[str, Tensor]
    history: tuple[Round, ...]
    seconds: float


def find_subnetwork(
    network: Network,
    images: Tensor,
    *,
    layers: tuple[Layer, ...],
    objective: Objective,
    goal: Goal,
    settings: SearchSettings,
    follow: Follow | None = None,
) -> Found:
    """Return the smallest sub-network that was found to keep the goal on the images ``(B, C, H, W)``."""
    began = time.perf_counter()
    problem = _Problem(network, network.check(images), layers, objective, goal, settings, follow or _ignore)
    finder = _by_budget if settings.method == "budget" else _by_paper
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        scores, table, history = finder(problem)
    return Found(scores, table, tuple(history), time.perf_counter() - began)


@dataclass(frozen=True, slots=True)
class _Problem:
    """What a search is given."""

    network: Network
    images: Tensor
    layers: tuple[Layer, ...]
    objective: Objective
    goal: Goal
    settings: SearchSettings
    follow: Follow


Parts = tuple[Scores, dict[str, Tensor], list[Round]]


def _by_budget(problem: _Problem) -> Parts:
    settings, goal, follow = problem.settings, problem.goal, problem.follow
    live = LiveNetwork(problem.network, problem.images, problem.objective, layers=problem.layers)
    ranged = replace(settings.budget, **_range(settings.score_range))
    search = Search(live, goal, ranged, seed=settings.seed, report=lambda entry: follow("eliminating", entry))
    if settings.gates:
        skip_blocks(search)
    thorough = settings.effort == "thorough"
    if search.tunable:
        _shrink(search, settings.shrink if thorough else replace(settings.shrink, share_end=QUICK_END), settings.refit)
    if thorough or not search.tunable or (goal.is_size and search.room()):
        _eliminate(search, settings.refit)
    if search.tunable:
        polish = SIZE_POLISH if goal.is_size and settings.refit else None
        refit_live(live, steps=settings.refit, high=search.settings.high, polish=polish)
    search.report = lambda entry: follow("certifying", entry)
    search.note(search.run_with(live.scores), kept=True)
    if not goal.is_size:
        search.trim()
    table = certify(live, goal, settle=search.trim if thorough else None, regain=search.regain)
    return live.result(), table, search.history


def _shrink(search: Search, settings: ShrinkSettings, steps: int, *, least: float = 0.05) -> None:
    """Shrink, and while many units are left refit and shrink again, since a better fit makes room for more to fade.

    Ends when less than a share `least` of the units went: from many units, the rounds of the certificate are dear.
    """
    while True:
        before = len(search.live)
        shrink(search, settings)
        if len(search.live) < MANY or len(search.live) > (1 - least) * before or not search.room():
            break
        refit_live(search.live, steps=steps, high=search.settings.high)
        settings = replace(settings, share=2 * settings.share_end)


def _eliminate(search: Search, steps: int, *, most: int = 4) -> None:
    """Eliminate and polish in turns, since a better fit makes room to remove more."""
    for _ in range(most):
        before = len(search.live)
        search.run()
        search.polish(steps // 6)
        if len(search.live) == before or not search.room():
            break


def _by_paper(problem: _Problem) -> Parts:
    network, settings, goal = problem.network, problem.settings, problem.goal
    history: list[Round] = []

    def note(entry: Round) -> None:
        history.append(entry)
        problem.follow("optimising", entry)

    scores = paper_scores(
        network,
        problem.images,
        layers=problem.layers,
        blocks=network.blocks if settings.gates else (),
        objective=problem.objective,
        settings=replace(
            settings.paper, refit=settings.refit, high=_range(settings.score_range).get("high", float("inf"))
        ),
        size=goal.least if goal.is_size else None,
        report=note,
    )
    if settings.score_range == "binary":
        scores = Scores({name: (values > 0).float() for name, values in scores.units.items()}, scores.gates)
    table = leave_one_out_divergence(network, problem.images, scores, objective=problem.objective)
    return scores, table, history


def _range(score_range: ScoreRange) -> dict[str, float]:
    """Return the bounds of a kept score."""
    if score_range == "binary":
        return {"low": 1.0, "high": 1.0}
    return {"high": 1.0} if score_range == "unit" else {}


def _ignore(stage: str, entry: Round) -> None:
    """Follow nothing."""
