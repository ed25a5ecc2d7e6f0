"""Further measures that a plan can ask for: those that need images held out, or attacks.

`MEASURES` names functions from a network, a chain and its task to columns of the case:

- ``stability`` (E8): ``agreement_K``, ``accuracy_K``, ... on the K nearest unseen neighbours of each image;
- ``locality`` (E9): ``penultimate_distance``, ``pattern_distance``, ... of the two kinds of neighbours;
- ``robustness`` (E10): ``NETWORK_ATTACK_KIND_RADIUS`` (radius in 255ths), the mean probability of the true class of the
  original and of the sub-network; and as lists, behind ``images_``, that of each image. The controls of this analysis
  are cases of their own, see the methods of a plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from neurochains.chains import Chain
from neurochains.data import Task
from neurochains.measures.locality import measure_locality
from neurochains.measures.robustness import measure_robustness
from neurochains.measures.stability import measure_stability
from neurochains.network import Network

__all__ = ["MEASURES", "further"]

Measure = Callable[[Network, Chain, Task], Mapping[str, Any]]


def further(name: str, network: Network, chain: Chain) -> dict[str, Any]:
    """Return the columns of a further measure, each behind the measure's name."""
    return {f"{name}_{key}": value for key, value in MEASURES[name](network, chain, chain.task).items()}


def _stability(network: Network, chain: Chain, task: Task) -> dict[str, Any]:
    found = measure_stability(network, chain, task)
    columns: dict[str, Any] = {"given": found.given.value}
    for row in found.rows:
        for name in ("distance", "agreement", "accuracy", "accuracy_original"):
            columns[f"{name}_{row.neighbours}"] = getattr(row, name).value
    return columns


def _locality(network: Network, chain: Chain, task: Task) -> dict[str, Any]:
    found = measure_locality(network, chain, task)
    columns: dict[str, Any] = {"neighbours": found.neighbours, "common": found.common.value}
    for kind in ("penultimate", "pattern"):
        for name in ("distance", "spread", "same_class", "agreement"):
            columns[f"{kind}_{name}"] = getattr(getattr(found, kind), name).value
    return columns


def _robustness(network: Network, chain: Chain, task: Task) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for row in measure_robustness(network, chain, task, controls=(), seed=int(chain.settings.get("seed") or 0)).rows:
        if row.network in ("original", "chain"):
            held = "" if row.images == "given" else "_held_out"
            name = f"{row.network}_{row.attack}_{row.kind}_{255 * row.eps:g}".replace(" ", "_")
            columns[f"{name}{held}"] = row.mean.value
            columns[f"{name}{held}_accuracy"] = row.accuracy.value
            if not held:
                columns[f"images_{name}"] = row.probability[0].tolist()
    return columns


MEASURES: dict[str, Measure] = {"locality": _locality, "robustness": _robustness, "stability": _stability}
