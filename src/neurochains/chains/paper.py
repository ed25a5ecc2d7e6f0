"""The paper's method: scores and gates by Adam on Eq. 8, thresholds, refit (NeuroChains, sections 3.1 and 3.2).

1. Every filter has a score, 1 at first; every block with equal input and output shape a gate ``G = sigmoid(a / T)``,
   ``a = 0`` at first (Eq. 6, 7).
2. Adam minimises the mean divergence ``+ lam * sum |S| + lam_g * sum a`` (Eq. 8) at a fixed learning rate. Scores are
   clamped to be non-negative after each step, or to [0, 1]; gate logits to [-2, 2], since Eq. 8 is unbounded below.
3. It stops when the mean loss of the last 10 steps differs from that of the 10 before by less than 0.05, after 200
   steps at the earliest.
4. Filters with scores below the threshold and blocks with ``G < 0.5`` are removed; the other gates become 1.
5. The surviving scores are refitted on the divergence alone.

It runs the plain way, by multiplication at full width: it is the baseline that the budget method is measured against.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.budget import Round
from neurochains.chains.objectives import Objective
from neurochains.chains.refit import refit
from neurochains.chains.scores import Scores
from neurochains.edit.scores import ScoredNetwork
from neurochains.network.blocks import Block
from neurochains.network.layers import Layer
from neurochains.network.network import Network

__all__ = ["PaperSettings", "paper_scores"]

GATE_LIMIT = 2.0


@dataclass(frozen=True, slots=True)
class PaperSettings:
    """The constants of the paper's recipe, and the choices where it is silent.

    Attributes:
        lam, lam_g: weights of the scores' sum and of the gate logits' sum.
        temperature: of the gates (Eq. 6).
        threshold: scores below it are removed.
        steps: Adam steps at most; `settle` the loss difference at which it stops, after `least_steps`.
        refit: steps of the refit.
        high: the largest score allowed.
    """

    lam: float = 0.005
    lam_g: float = 0.01
    lr: float = 0.005
    temperature: float = 0.2
    threshold: float = 0.1
    steps: int = 300
    least_steps: int = 200
    settle: float = 0.05
    refit: int = 100
    high: float = float("inf")


def paper_scores(
    network: Network,
    images: Tensor,
    *,
    layers: Sequence[Layer],
    blocks: Sequence[Block],
    objective: Objective,
    settings: PaperSettings,
    size: int | None = None,
    report: Callable[[Round], None] | None = None,
) -> Scores:
    """Return the sub-network that the paper's recipe extracts.

    Args:
        network: the whole network.
        images: ``(B, C, H, W)``.
        layers: whose units are scored.
        blocks: which get a gate; none for the recipe without gates.
        objective: the divergence of Eq. 4.
        settings: see `PaperSettings`.
        size: keep this many units, those of the largest scores, instead of thresholding; fewer if fewer are above 0.
        report: called after each step.
    """
    scores, alphas = _optimise(network, images, layers, blocks, objective, settings, report)
    gates = {block.name: float(alpha >= 0) for block, alpha in zip(blocks, alphas, strict=True)}
    inside = {name for block in blocks if not gates[block.name] for name in block.layers}
    for layer, values in zip(layers, scores, strict=True):
        if layer.name in inside:
            values.zero_()
    kept = [values * (values >= settings.threshold) for values in scores] if size is None else _largest(scores, size)
    units = {layer.name: values for layer, values in zip(layers, kept, strict=True)}
    found = Scores(units, {name: gate for name, gate in gates.items() if gate == 0})
    return refit(network, images, found, objective=objective, steps=settings.refit, high=settings.high, polish=0)


def _optimise(
    network: Network,
    images: Tensor,
    layers: Sequence[Layer],
    blocks: Sequence[Block],
    objective: Objective,
    settings: PaperSettings,
    report: Callable[[Round], None] | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the scores of each layer and the gate logits after the descent on Eq. 8."""
    scored = ScoredNetwork(network, layers=layers, blocks=blocks)
    device, began = network.device, time.perf_counter()
    scores = [torch.ones(layer.units, device=device, requires_grad=True) for layer in layers]
    alphas = [torch.zeros((), device=device, requires_grad=True) for _ in blocks]
    adam = torch.optim.Adam([*scores, *alphas], lr=settings.lr)
    with torch.no_grad():
        original = network(images)
    losses: list[float] = []
    for step in range(1, settings.steps + 1):
        units = dict(zip((layer.name for layer in layers), scores, strict=True))
        gates = {b.name: torch.sigmoid(a / settings.temperature) for b, a in zip(blocks, alphas, strict=True)}
        divergence = objective(scored(images, units, gates)[0], original).mean()
        size = torch.stack([values.abs().sum() for values in scores]).sum()
        push = torch.stack(alphas).sum() if alphas else torch.zeros((), device=device)
        loss = divergence + settings.lam * size + settings.lam_g * push
        adam.zero_grad()
        loss.backward()
        adam.step()
        _clamp(scores, alphas, settings.high)
        losses.append(float(loss.detach()))
        if report:
            above = sum(int((values >= settings.threshold).sum()) for values in scores)
            report(Round(step, above, float(divergence.detach()), True, time.perf_counter() - began))
        if step >= settings.least_steps and _settled(losses, settings.settle):
            break
    return [values.detach().cpu() for values in scores], [alpha.detach().cpu() for alpha in alphas]


def _clamp(scores: Sequence[Tensor], alphas: Sequence[Tensor], high: float) -> None:
    with torch.no_grad():
        for values in scores:
            values.clamp_(0.0, high)
        for alpha in alphas:
            alpha.clamp_(-GATE_LIMIT, GATE_LIMIT)


def _settled(losses: Sequence[float], difference: float) -> bool:
    return abs(sum(losses[-10:]) - sum(losses[-20:-10])) / 10 < difference


def _largest(scores: Sequence[Tensor], size: int) -> list[Tensor]:
    """Return the scores with all but the `size` largest at 0; of equal ones, those of earlier layers stay."""
    values = torch.cat(list(scores))
    values[values.argsort(descending=True, stable=True)[size:]] = 0.0
    return list(values.split([len(part) for part in scores]))
