"""Rankings: one number for each kernel that leads to the target, and the circuit of the largest.

Every criterion of `CRITERIA` is a ranking. All rankings are compared at the same number of kernels *without* dead ends:
from the top, so many are taken that what is connected just fits. `random` and ``worst`` (the least important by
activation x gradient) are there to be beaten; ``curvature`` is what the budget method starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.circuits.criteria import CRITERIA, Criterion
from neurochains.circuits.importance import Importance, importance
from neurochains.circuits.problem import Kept, Problem, largest_within
from neurochains.circuits.targets import Target
from neurochains.circuits.thresholds import hierarchical, hierarchical_within
from neurochains.data import Task
from neurochains.edit import OUTPUT, cut

__all__ = ["RANKINGS", "Question", "curvature", "rank", "thresholded"]


@dataclass(frozen=True, eq=False)
class Question:
    """What a ranking is asked: the problem, and its images and target as importances want them."""

    problem: Problem
    task: Task
    target: str | Target
    seed: int = 0

    def importance(self, criterion: str | Criterion) -> Importance:
        """Return the importance of filters and kernels for the target.

        A logit, or a difference of two, is the one output of the network that is cut there.
        """
        problem = self.problem
        if problem.readout.layer == OUTPUT:
            return importance(cut(problem.network, problem.readout), self.task, target="logit:0", criterion=criterion)
        return importance(problem.network, self.task, target=self.target, criterion=criterion)


Ranking = Callable[[Question, float], Kept]
"""Finds a circuit of at most a fraction of the kernels."""

RANKINGS: dict[str, Ranking] = {}


def rank(values: Mapping[str, Tensor], question: Question, keep: float) -> Kept:
    """Return the circuit of the largest values, a fraction of the kernels at most."""
    edges = question.problem.edges
    return largest_within(values, edges.leading, _size(question, keep), edges)


def thresholded(question: Question, thresholds: tuple[float, float]) -> Kept:
    """Return the circuit that two thresholds give, for filters and for kernels; see `hierarchical`."""
    found = question.importance("activation_gradient")
    filters, kernels = thresholds
    return Kept.of(hierarchical(found, question.problem.edges, filters=filters, kernels=kernels))


def curvature(problem: Problem, kept: Kept, *, probes: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return what the removal of each kernel costs the target's map, to second order: by layer ``(O, I)``.

    ``1/2 s^2 sum |dm/ds|^2`` over all images and positions m, estimated without bias: the squared derivative of the
    map added up with random signs, averaged over some draws of the signs.
    """
    totals = {name: torch.zeros_like(values) for name, values in kept.scores.items()}
    for images in problem.batches():
        scores = {name: values.clone().requires_grad_(True) for name, values in kept.scores.items()}
        with torch.enable_grad():
            maps = problem.run(images, kept, scores)
        for draw in range(probes):
            signs = torch.randint(0, 2, maps.shape, generator=generator).to(maps) * 2 - 1
            slopes = torch.autograd.grad(maps, list(scores.values()), signs, retain_graph=draw + 1 < probes)
            for name, slope in zip(scores, slopes, strict=True):
                totals[name] += slope.square().cpu()
    return {name: total * kept.scores[name].square() / (2 * probes) for name, total in totals.items()}


def _enter(name: str, ranking: Ranking) -> None:
    RANKINGS[name] = ranking


def _topk(question: Question, keep: float) -> Kept:
    return rank(question.importance("activation_gradient").kernels, question, keep)


def _hierarchical(question: Question, keep: float) -> Kept:
    found = question.importance("activation_gradient")
    return Kept.of(hierarchical_within(found, question.problem.edges, _size(question, keep)))


def _curvature(question: Question, keep: float) -> Kept:
    generator = torch.Generator().manual_seed(question.seed)
    found = curvature(question.problem, question.problem.everything(), probes=8, generator=generator)
    return rank(found, question, keep)


def _worst(question: Question, keep: float) -> Kept:
    values = question.importance("activation_gradient").kernels
    return rank({name: -value for name, value in values.items()}, question, keep)


def _by_criterion(name: str) -> Ranking:
    def ranking(question: Question, keep: float) -> Kept:
        options = {"force": {"keep": keep}, "random": {"seed": question.seed}}.get(name, {})
        return rank(question.importance(CRITERIA[name].having(**options)).kernels, question, keep)

    return ranking


def _size(question: Question, keep: float) -> int:
    return question.problem.edges.share(keep)


for _name, _ranking in (("topk", _topk), ("hierarchical", _hierarchical), ("curvature", _curvature)):
    _enter(_name, _ranking)
for _name in CRITERIA:
    if _name != "activation_gradient":  # which is called topk
        _enter(_name, _by_criterion(_name))
_enter("worst", _worst)
