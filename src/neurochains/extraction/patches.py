"""The patches of a chain: searched on the network that the other units have left, measured beside controls."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.goal import Goal
from neurochains.chains.parity import in_batches
from neurochains.chains.patch_network import PatchedNetwork
from neurochains.chains.patch_selections import PatchRecipe, attended_patches, paper_patches, random_patches
from neurochains.chains.patches import PatchRound, find_patches, kept_tokens
from neurochains.chains.scores import Scores
from neurochains.data import Task
from neurochains.edit.tokens import TokenNetwork
from neurochains.extraction.follow import Follower
from neurochains.extraction.options import Options
from neurochains.measures import Fidelity, measure_outputs
from neurochains.network import Network
from neurochains.network.costs import measure_seconds

__all__ = ["PatchSearch", "search_patches", "shared_goal", "with_patches"]

UNITS_SHARE = 0.5
"""Of the divergence allowed, what other units may use before patches are searched."""


@dataclass(frozen=True, slots=True)
class PatchSearch:
    """What a search of patches gives: ``(N, L, T)`` bool for all tokens, the metrics of the whole chain, the rounds."""

    kept: Tensor
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    seconds: float


def shared_goal(goal: Goal, options: Options) -> Goal:
    """Return the goal of the other units, which leaves a part of the divergence to the patches."""
    if "patches" not in options.units or not math.isfinite(goal.divergence):
        return goal
    return Goal(divergence=UNITS_SHARE * goal.divergence, agreement=goal.agreement, least=goal.least)


def search_patches(
    network: Network,
    task: Task,
    scores: Scores,
    *,
    goal: Goal,
    options: Options,
    controls: bool,
    follow: Follower,
) -> PatchSearch:
    """Return the patches that each image keeps in the sub-network of some scores, and what they are worth.

    Raises:
        ModelError: the network has no tokens that could be dropped.
    """
    reduced = Network.trace(scores.compact(network), task.images[:2]) if scores.units else network
    tokens, images = TokenNetwork(reduced), network.check(task.images)
    original = in_batches(network, images)
    rounds: list[PatchRound] = []
    began = time.perf_counter()
    if options.method == "paper":
        kept = paper_patches(tokens, images, _recipe(options))
        minimal = None
    else:
        follow.stage("patches")
        found = find_patches(tokens, images, fidelity=goal.limit, original=original, report=rounds.append)
        kept, minimal = found.kept, float(found.minimal.float().mean())
    seconds = time.perf_counter() - began
    follow.stage("measuring")
    small = PatchedNetwork(reduced, kept_tokens(kept, tokens.tokens.special))
    fidelity = _fidelity(small, images, small.kept, original, task)
    metrics = {
        **fidelity.to_json(),
        "patches": {**sizes_of(kept), "minimal": minimal, **_seconds(network, small, images)},
    }
    if controls:
        others = {
            "random_patches": random_patches(kept, seed=options.seed),
            "attended_patches": attended_patches(tokens, images, kept),
        }
        metrics["controls"] = {
            name: _fidelity(small, images, kept_tokens(other, tokens.tokens.special), original, task).to_json()
            for name, other in others.items()
        }
    return PatchSearch(small.kept.cpu(), metrics, [_entry(entry) for entry in rounds], seconds)


def with_patches(units: dict[str, Any], patches: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of a chain of both; what the units alone reach, with all patches, goes under ``units``."""
    if not units:
        return patches
    alone = {name: value for name, value in units.items() if name in patches or name in ("held_out", "controls")}
    rest = {name: value for name, value in units.items() if name not in ("held_out", "controls")}
    return {**rest, **patches, "units": alone}


def sizes_of(kept: Tensor) -> dict[str, Any]:
    """Return how many patches are kept ``(N, L, P)``, over all images and blocks, and the share dropped."""
    dropped = 1 - kept.double().mean((1, 2))
    return {
        "kept": int(kept.sum()),
        "of": kept.numel(),
        "dropped_median": float(dropped.median()),
        "dropped_least": float(dropped.min()),
        "kept_by_block": kept.sum(2).double().mean(0).tolist(),
        "patches": kept.shape[2],
    }


def _recipe(options: Options) -> PatchRecipe:
    chosen = {"steps": options.steps, "lam": options.lam, "threshold": options.threshold}
    return PatchRecipe(**{name: value for name, value in chosen.items() if value is not None})


def _fidelity(small: PatchedNetwork, images: Tensor, kept: Tensor, original: Tensor, task: Task) -> Fidelity:
    with torch.no_grad():
        outputs = small(images, kept.to(images.device))
    return measure_outputs(original, outputs.cpu(), task.labels)


def _seconds(network: Network, small: PatchedNetwork, images: Tensor) -> dict[str, Any]:
    """Return the median seconds of a forward pass on all images, for the original and for the hard run."""
    original, dropped = (measure_seconds(form, images, repeats=3) for form in (network.module, small))
    return {"seconds_original": original, "seconds_dropped": dropped, "seconds_images": len(images)}


def _entry(entry: PatchRound) -> dict[str, Any]:
    values = {"step": entry.step, "divergence": entry.divergence, "seconds": entry.seconds, "dropped": entry.dropped}
    return {"stage": "patches", **values}
