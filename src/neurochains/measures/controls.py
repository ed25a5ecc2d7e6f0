"""Controls: sub-networks that were not searched for, to hold a chain against.

`CONTROLS` names functions ``(network, images, scores, seed) -> Scores``, each with as many filters as the chain:

- ``random``: in each layer as many as the chain keeps there, drawn at random;
- ``random_global``: drawn at random over all layers;
- ``activation``: in each layer as many as the chain keeps there, those with the largest maps (L2 over images and
  positions, behind the activation that follows where there is one);
- ``activation_global``: those with the largest maps relative to the mean of their layer, over all layers;
- ``complement``: all that the chain does not keep, however many these are.

Two rules keep controls from being straw men. Where the numbers by layer are given, a depthwise layer takes units whose
source is kept before others. Where they are not, each layer that no skip can replace keeps at least one filter, and
blocks of which nothing is kept are skipped; not those with units that are not scored, such as attention where only
hidden units are.

All but the complement get the refit that the chain got.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor

from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.refit import refit
from neurochains.chains.scores import Scores
from neurochains.data.task import Task
from neurochains.edit.scores import tap
from neurochains.errors import SettingsError, did_you_mean
from neurochains.measures.tasks import TaskFidelity, TaskOutputs, compare_tasks, run_scores, run_task
from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.operations import KEEPING, NORMALISING

__all__ = ["CONTROLS", "Control", "control", "map_sizes", "measure_controls"]

Control = Callable[[Network, Tensor, Scores, int], Scores]

CONTROLS: dict[str, Control] = {}
NOT_REFITTED = frozenset({"complement"})
BATCH = 4  # images whose maps, of all layers, are held at a time


def measure_controls(
    network: Network,
    task: Task,
    scores: Scores,
    *,
    objective: str | Objective = "kl",
    steps: int = 60,
    seed: int = 0,
    names: Iterable[str] | None = None,
    original: TaskOutputs | None = None,
) -> dict[str, TaskFidelity]:
    """Return how faithful the controls of a chain are, refitted on the task's given images.

    Args:
        network: the whole network.
        task: the images; those held out are only measured on.
        scores: the chain's.
        objective: what the refit lowers: a name in `OBJECTIVES`, or a callable.
        steps: of the refit; 0 leaves scores at 1.
        seed: what is drawn at random.
        names: which controls; all if None.
        original: the original's outputs; computed if None.

    Raises:
        SettingsError: there is no such control or objective.
    """
    find_objective(objective)
    original = run_task(network, task) if original is None else original
    measured = {}
    for name in list(CONTROLS) if names is None else list(names):
        found = control(name, network, task.images, scores, seed=seed)
        if steps and name not in NOT_REFITTED and found.kept:
            found = refit(network, task.images, found, objective=objective, steps=steps)
        measured[name] = compare_tasks(original, run_scores(network, task, found), task, objective=objective)
    return measured


def control(name: str, network: Network, images: Tensor, scores: Scores, *, seed: int = 0) -> Scores:
    """Return a control of a chain before any refit: scores of 1 and 0.

    Raises:
        SettingsError: there is no such control.
    """
    if name not in CONTROLS:
        raise SettingsError(
            f"No control is called {name!r}; there are {', '.join(CONTROLS)}. {did_you_mean(name, CONTROLS)}"
        )
    return CONTROLS[name](network, images, scores, seed)


def map_sizes(network: Network, images: Tensor, layers: Sequence[Layer]) -> dict[str, Tensor]:
    """Return the L2 norm of each unit's map over all images and positions: ``(units,)`` by layer name.

    A map counts behind its activation where one operation that treats every value alike is all that reads it.
    """
    tapped = tap(network, [layer.name for layer in layers])
    squares = {layer.name: torch.zeros(layer.units) for layer in layers}
    with torch.no_grad():
        for some in network.check(images).split(BATCH):
            maps = tapped(some)[1]
            for layer in layers:
                values = _activated(layer, maps[layer.name]).movedim(layer.axis, 0).flatten(1)
                squares[layer.name] += values.square().sum(1).cpu()
    return {name: values.sqrt() for name, values in squares.items()}


def _enter(function: Control) -> Control:
    CONTROLS[function.__name__.removesuffix("_control")] = function
    return function


@_enter
def random_control(network: Network, _images: Tensor, scores: Scores, seed: int) -> Scores:
    """Return as many filters of each layer, drawn at random."""
    return _by_quota(network, scores, _drawn(scores, seed))


@_enter
def random_global_control(network: Network, _images: Tensor, scores: Scores, seed: int) -> Scores:
    """Return as many filters, drawn at random over all layers."""
    return _over_all(network, scores, _drawn(scores, seed))


@_enter
def activation_control(network: Network, images: Tensor, scores: Scores, _seed: int) -> Scores:
    """Return as many filters of each layer, those with the largest maps."""
    return _by_quota(network, scores, map_sizes(network, images, _layers(network, scores)))


@_enter
def activation_global_control(network: Network, images: Tensor, scores: Scores, _seed: int) -> Scores:
    """Return as many filters, those with the largest maps relative to the mean of their layer."""
    sizes = map_sizes(network, images, _layers(network, scores))
    return _over_all(network, scores, {name: some / some.mean().clamp_min(1e-12) for name, some in sizes.items()})


@_enter
def complement_control(_network: Network, _images: Tensor, scores: Scores, _seed: int) -> Scores:
    """Return all filters that are not kept."""
    return scores.complement()


def _drawn(scores: Scores, seed: int) -> dict[str, Tensor]:
    """Return a random worth for each unit."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(len(values), generator=generator) for name, values in scores.units.items()}


def _by_quota(network: Network, scores: Scores, worth: Mapping[str, Tensor]) -> Scores:
    """Keep the units of most worth, in each layer as many as the chain keeps; the chain's blocks stay skipped."""
    layers = _layers(network, scores)
    kept: dict[str, Tensor] = {}
    for layer in layers:
        order = worth[layer.name].argsort(descending=True, stable=True)
        if layer.kind == "depthwise":
            order = order[_fed(network, layer, kept)[order].argsort(descending=True, stable=True)]
        kept[layer.name] = order[: int(scores.units[layer.name].count_nonzero())]
    return Scores(Scores.from_filters(layers, kept).units, dict(scores.gates))


def _fed(network: Network, layer: Layer, kept: Mapping[str, Tensor]) -> Tensor:
    """Return, for each unit of a depthwise layer, 1 where a filter that it reads is kept, or none is scored."""
    chosen = {name: set(indices.tolist()) for name, indices in kept.items()}
    sources = network.sources(layer.name)
    fed = [any(f.index in chosen.get(f.layer, {f.index}) for f in filters) for filters in sources]
    return torch.tensor(fed).int()


def _over_all(network: Network, scores: Scores, worth: Mapping[str, Tensor]) -> Scores:
    """Keep the units of most worth, as many as the chain keeps, with one in each layer that no skip can replace."""
    layers = _layers(network, scores)
    blocks = _skippable(network, scores)
    skippable = {name for names in blocks.values() for name in names}
    flat = torch.cat([_with_leader(worth[la.name], first=la.name not in skippable) for la in layers])
    chosen = torch.zeros(len(flat))
    chosen[flat.argsort(descending=True, stable=True)[: scores.kept]] = 1.0
    parts = chosen.split([layer.units for layer in layers])
    units = {layer.name: part.clone() for layer, part in zip(layers, parts, strict=True)}
    return Scores(
        units, {block: 0.0 for block, names in blocks.items() if not any(units[name].any() for name in names)}
    )


def _skippable(network: Network, scores: Scores) -> dict[str, list[str]]:
    """Return, for each block all of whose units are scored, the names of its layers with units."""
    inside = {block.name: [layer.name for layer in network.units_in(block)] for block in network.blocks}
    return {block: names for block, names in inside.items() if names and scores.units.keys() >= set(names)}


def _with_leader(worth: Tensor, *, first: bool) -> Tensor:
    """Return the worth of a layer's units, that of the best one beyond all others if it has to come first."""
    if not first:
        return worth
    return torch.where(torch.arange(len(worth)) == worth.argmax(), torch.inf, worth)


def _layers(network: Network, scores: Scores) -> list[Layer]:
    return [network.layer(name) for name in scores.units]


def _activated(layer: Layer, values: Tensor) -> Tensor:
    """Return a layer's map behind the activation that alone reads it, if one does."""
    if len(layer.site.users) != 1:
        return values
    (user,) = layer.site.users
    if user.target not in KEEPING - NORMALISING or list(user.all_input_nodes) != [layer.site]:
        return values
    return user.target(values, *user.args[1:], **user.kwargs)  # type: ignore[operator]
