"""Paths: the chains of filters through which a sub-network reaches the answer of a class.

1. Each kernel between kept units contributes to each class (`contributions`).
2. The positive contributions into each unit, and into the class, are normalised to shares.
3. A chain is the path from an input channel to the class with the largest product of shares (dynamic programming, in
   order of the layers). Where no path of positive contributions begins at the input, it may begin at any filter that
   none enters: one that answers with its bias.
4. The next chain is the best path that shares no filter with the earlier ones in the upper half of the layers with
   kept filters; if a path has none there, its last filter is not used again.

The shares of a residual stream skip no filter: the stream itself is passed through and has no share.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.chains.contributions import OUTPUT, Contributions, contributions
from neurochains.chains.scores import Scores
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.network.layers import Filter
from neurochains.network.network import INPUT, Network

__all__ = ["Path", "Step", "find_paths", "paths"]


@dataclass(frozen=True, slots=True)
class Step:
    """One filter of a path; `share` is its part of all that speaks for the class in the *next* step, from 0 to 1.

    `label` is the paper label, such as ``"L4B1C2_48"``; the `score` of an input channel is 1.
    """

    filter: Filter
    label: str
    score: float
    share: float


@dataclass(frozen=True, slots=True)
class Path:
    """One chain: kept filters in order, from the input to the logit of a class.

    Attributes:
        label: the class, an output index.
        name: the class as the task calls it.
        entry: the input channel that it begins at; None if it begins at a filter that no positive contribution enters.
        steps: the filters in order of execution.
        product: of all shares, of `entry` too.
    """

    label: int
    name: str
    entry: Step | None
    steps: tuple[Step, ...]
    product: float

    @property
    def filters(self) -> tuple[Filter, ...]:
        """The filters in order of execution."""
        return tuple(step.filter for step in self.steps)

    def __str__(self) -> str:
        return " > ".join([step.label for step in self.steps] + [self.name])


def paths(network: Network, task: Task, scores: Scores, k: int = 3) -> dict[int, list[Path]]:
    """Return the `k` best chains of each class of the task, the best first; fewer where there are no more.

    The classes are the labels of the task; of images without labels, what the original network predicts.

    Raises:
        SettingsError: ``k`` is no positive number.
    """
    if k < 1:
        raise SettingsError(f"Wanted a number of paths of 1 or more, not {k}.")
    return find_paths(network, task, scores, contributions(network, task, scores), k)


def find_paths(network: Network, task: Task, scores: Scores, found: Contributions, k: int = 3) -> dict[int, list[Path]]:
    """Return what `paths` does, of contributions that are known already."""
    result = {}
    for place, label in enumerate(found.classes):
        routes = _Chart(found, place).routes(k)
        result[label] = [_path(network, task, scores, found, label, route) for route in routes]
    return result


def share_out(found: Contributions, place: int) -> dict[tuple[str, str], Tensor]:
    """Return ``(T, S)`` by (source, target layer): the positive contributions to a class as shares of each target."""
    positive = {pair: block[place].clamp_min(0) for pair, block in found.kernels.items()}
    totals: dict[str, Tensor] = {}
    for (_, target), block in positive.items():
        totals[target] = totals[target] + block.sum(1) if target in totals else block.sum(1)
    return {pair: block / totals[pair[1]].clamp_min(1e-300)[:, None] for pair, block in positive.items()}


_Unit = tuple[str, int]  # a layer and a place among its kept units
_Route = list[tuple[_Unit, float]]  # the way to a class, from the input on: units with their shares of the next


class _Chart:
    """The shares of one class, on which the best way to the class is found."""

    def __init__(self, found: Contributions, place: int) -> None:
        shares = share_out(found, place)
        into = {name: [source for source in found.units if (source, name) in shares] for name in found.units}
        self.units = found.units
        self.goal: _Unit = (OUTPUT, place)
        self.senders = {
            name: [(source, at) for source in sources for at in range(len(found.units[source]))]
            for name, sources in into.items()
        }
        self.shares_TS = {
            name: torch.cat([shares[source, name] for source in sources], 1)
            for name, sources in into.items()
            if sources
        }

    def routes(self, k: int) -> list[_Route]:
        """Return at most `k` ways from the input to the class, apart from each other in the upper half."""
        layers = [name for name in self.units if name not in (INPUT, OUTPUT)]
        upper = set(layers[len(layers) // 2 :])
        banned: set[_Unit] = set()
        routes: list[_Route] = []
        while len(routes) < k:
            route = self.best(banned) or self.best(banned, anywhere=True)
            if not route:
                break
            routes.append(route)
            units = [unit for unit, _ in route]
            banned |= {unit for unit in units if unit[0] in upper} or {units[-1]}
        return routes

    def best(self, banned: set[_Unit], *, anywhere: bool = False) -> _Route:
        """Return the way with the largest product of shares; empty if there is none.

        Args:
            banned: the units that it may not use.
            anywhere: whether it may begin at a unit that nothing positive enters.
        """
        reached: dict[str, Tensor] = {}
        came: dict[_Unit, tuple[_Unit, float]] = {}
        for name, units in self.units.items():
            starts = name == INPUT or (anywhere and name != OUTPUT)
            reached[name] = torch.full((len(units),), 0.0 if starts else -torch.inf, dtype=torch.float64)
            if name in self.shares_TS:
                self._reach(name, reached, came)
            for layer, place in banned:
                if layer == name:
                    reached[name][place] = -torch.inf
        return self._back(came) if reached[OUTPUT][self.goal[1]] > -torch.inf else []

    def _reach(self, name: str, reached: dict[str, Tensor], came: dict[_Unit, tuple[_Unit, float]]) -> None:
        """Enter the best product into each unit of a layer; units that nothing positive enters stay as they are."""
        shares_TS = self.shares_TS[name]
        before_S = torch.cat([reached[source] for source in dict.fromkeys(unit[0] for unit in self.senders[name])])
        logs, columns = (shares_TS.log() + before_S).max(1)
        entered = (shares_TS > 0).any(1)
        reached[name] = torch.where(entered, logs, reached[name])
        for place in entered.nonzero().flatten().tolist():
            column = int(columns[place])
            came[name, place] = (self.senders[name][column], float(shares_TS[place, column]))

    def _back(self, came: Mapping[_Unit, tuple[_Unit, float]]) -> _Route:
        route: _Route = []
        unit = self.goal
        while unit in came:
            unit, share = came[unit]
            route.append((unit, share))
        return route[::-1]


def _path(network: Network, task: Task, scores: Scores, found: Contributions, label: int, route: _Route) -> Path:
    steps = []
    for (layer, place), share in route:
        unit = Filter(layer, int(found.units[layer][place]))
        score = 1.0 if layer == INPUT else float(scores.units[layer][unit.index])
        steps.append(Step(unit, network.label(unit), score, share))
    entry = steps.pop(0) if steps[0].filter.layer == INPUT else None
    product = math.prod(share for _, share in route)
    return Path(label, task.label_name(label), entry, tuple(steps), product)
