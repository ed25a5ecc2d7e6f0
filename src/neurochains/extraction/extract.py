"""From a model and a task to a chain with its certificate, measures and controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor, nn

from neurochains.chains import Chain, Scores
from neurochains.chains.goal import Goal
from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.search import find_subnetwork
from neurochains.data import Task
from neurochains.errors import DataError, FidelityError, SettingsError, did_you_mean
from neurochains.extraction.follow import Follower, Progress
from neurochains.extraction.options import Options
from neurochains.extraction.patches import search_patches, shared_goal, with_patches
from neurochains.measures import measure_chain
from neurochains.measures.fidelity import has_classes
from neurochains.memory import kept_memory
from neurochains.network import Network, load_model
from neurochains.network.layers import Layer

__all__ = ["extract"]


def extract(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    *,
    single_image: bool = False,
    controls: bool = True,
    device: str | torch.device | None = None,
    progress: Callable[[Progress], None] | None = None,
    **options: Any,
) -> Chain:
    """Return the smallest sub-network, of exactly copied filters, that keeps a model's outputs on a task's images.

    Give one goal, `fidelity`, `agreement` or `size`; without any it is ``fidelity=0.05``.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network. It is never changed.
        task: the images; a tensor ``(N, C, H, W)`` counts as a task without labels.
        single_image: allow a task of one image, which nearly any few filters fit.
        controls: whether controls of the same size are refitted and measured.
        device: where to run; by default where the model is.
        progress: called now and then.
        **options: fidelity: the mean divergence allowed on the task's images (KL in nats).
            agreement: the share of predictions to keep, above 0, at most 1.
            size: how many filters to end at: a number, or a fraction as a float.
            method: ``"budget"`` (`neurochains.chains.budget`, the default) or ``"paper"`` (`neurochains.chains.paper`).
            effort: of ``"budget"``: ``"quick"`` ends when less than 15 % of the units could fade at once,
            ``"thorough"`` goes on to 2 %, then removes more in small rounds.
            units: what is scored: ``"filters"``, ``"hidden"`` units of linear layers, attention ``"heads"``, and the
            ``"patches"`` of a vision transformer, for each image apart (`neurochains.chains.patches`); one or several.
            With patches alone, the fidelity holds for each image; with other units, which may use half of it, on
            average.
            objective: the divergence: ``"kl"`` for classifiers, ``"mse"`` for regression, ``"cosine"`` for embeddings,
            or a callable ``(outputs, original) -> (N,)``.
            score_range: ``"unbounded"`` (never negative), ``"unit"`` ([0, 1]) or ``"binary"`` (0 or 1).
            gates: whether whole blocks may be skipped; by default no for ``"budget"``, yes for ``"paper"``.
            steps: of ``"paper"``, at most (300); for ``"budget"`` the Gauss-Newton steps of a round (5).
            refit: Adam steps on the scores of what survives: 20, if thorough 60, for ``"paper"`` 100. The controls get
            the same, or 60 where nothing is said.
            lam, lam_g, threshold: of ``"paper"``: the weights of Eq. 8 (.005, .01), and the score below which a filter
            goes (.1).
            seed: of everything random; the same seed on the same machine gives the same chain, bit for bit.

    Raises:
        SettingsError: an option has a value it cannot have.
        DataError: the images do not fit the model.
        FidelityError: the goal is out of reach.
        ModelError: the model cannot be traced.
        LayerError: it has nothing to score.
    """
    chosen = _options(options)
    task = Task.of(task)
    _check_single(task, single_image)
    network = _network(model, task, device)
    layers = network.scored(chosen.shared_units) if chosen.shared_units else ()
    goal = chosen.goal(sum(layer.units for layer in layers))
    objective = find_objective(chosen.objective)
    outputs = _check_outputs(network, task)
    _check_objective(objective, outputs, goal)
    settings = chosen.search()
    steps = settings.paper.steps if settings.method == "paper" else None
    follow = Follower(progress, total=sum(layer.units for layer in layers), least=goal.least, steps=steps)
    with kept_memory():
        chain = Chain(network, task, Scores({}), chosen.to_json(goal))
        if layers:
            chain = _with_units(chain, layers, shared_goal(goal, chosen), chosen, controls, follow)
        if "patches" in chosen.units:
            chain = _with_patches(chain, goal, chosen, controls, follow)
    _check_reached(chain.metrics, goal, chosen)
    return chain


def _with_units(
    chain: Chain, layers: tuple[Layer, ...], goal: Goal, chosen: Options, controls: bool, follow: Follower
) -> Chain:
    """Return a chain with the units that a search keeps, and their measures."""
    network, images, objective = chain.network, chain.task.images, find_objective(chosen.objective)
    settings = chosen.search()
    found = find_subnetwork(
        network, images, layers=layers, objective=objective, goal=goal, settings=settings, follow=follow
    )
    follow.stage("measuring")
    metrics = measure_chain(
        network,
        chain.task,
        found.scores,
        objective=objective,
        controls=controls,
        seed=settings.seed,
        steps=chosen.control_refit,
    )
    metrics["seconds"] = found.seconds
    history = [asdict(entry) for entry in found.history]
    return Chain(network, chain.task, found.scores, chain.settings, metrics, found.leave_one_out, history)


def _with_patches(chain: Chain, goal: Goal, chosen: Options, controls: bool, follow: Follower) -> Chain:
    """Return a chain whose images also keep only some patches; its measures are then those of both."""
    found = search_patches(
        chain.network, chain.task, chain.subnetwork, goal=goal, options=chosen, controls=controls, follow=follow
    )
    metrics = with_patches(chain.metrics, found.metrics)
    metrics["seconds"] = (chain.metrics.get("seconds") or 0.0) + found.seconds
    history = [*chain.history, *found.history]
    return replace(chain, metrics=metrics, history=history, patches=found.kept)


def _options(given: dict[str, Any]) -> Options:
    known = Options.__dataclass_fields__
    for name in given:
        if name not in known:
            raise SettingsError(
                f"extract has no option {name!r}; there are {', '.join(known)}. {did_you_mean(name, known)}"
            )
    return Options(**given)


def _network(model: nn.Module | str | Network, task: Task, device: str | torch.device | None) -> Network:
    if isinstance(model, Network):
        if device is not None and torch.device(device).type != model.device.type:
            raise SettingsError(f"A traced network stays on {model.device}; give device={device!r} to Network.trace.")
        return model
    module = load_model(model) if isinstance(model, str) else model
    return Network.trace(module, task.images[:2], device=device)


def _check_single(task: Task, allowed: bool) -> None:
    if len(task) == 1 and not allowed:
        raise DataError(
            "The task has one image, which nearly any few filters fit: the chain would say little about the network. "
            "Give several images, or allow it with single_image=True (--single-image)."
        )


def _check_outputs(network: Network, task: Task) -> Tensor:
    """Return the outputs ``(N, K)``; refuse labels without an output, and outputs that are not finite."""
    if task.labels is not None:
        task.check_outputs(network.outputs)
    with torch.no_grad():
        outputs = network(task.images)
    sound = torch.isfinite(outputs).flatten(1).all(1)
    if not sound.all():
        bad = [name for name, fine in zip(task.names, sound.tolist(), strict=True) if not fine]
        raise DataError(f"The model answers with NaN or infinite outputs to {len(bad)} images, such as {bad[0]}.")
    return outputs


def _check_objective(objective: Objective, outputs: Tensor, goal: Goal) -> None:
    """Refuse an agreement without classes, and a callable that is no divergence of each image."""
    if goal.agreement and not has_classes(outputs, objective):
        raise SettingsError(
            f"An agreement needs a classifier: two outputs or more, not compared by mse or cosine. This model has "
            f"{outputs.shape[-1]} outputs. Give a fidelity instead."
        )
    with torch.no_grad():
        divergence = objective(outputs, outputs)
    if not isinstance(divergence, Tensor) or divergence.shape != outputs.shape[:1]:
        came = tuple(divergence.shape) if isinstance(divergence, Tensor) else type(divergence).__name__
        raise SettingsError(
            f"An objective gives one number for each of {len(outputs)} images, ({len(outputs)},); got {came}. "
            "Leave the mean over the images out."
        )


def _check_reached(metrics: dict[str, Any], goal: Goal, options: Options) -> None:
    reached = metrics["divergence"]
    if options.certified and reached > goal.divergence * (1 + 1e-4):
        raise FidelityError(
            f"The smallest divergence that was reached is {reached:.4g}, above the fidelity {goal.divergence:.4g}. "
            "Ask for a larger one; with method='paper', a smaller lam keeps more filters."
        )
    if goal.agreement and (metrics["agreement"] or 0) < goal.agreement:
        raise FidelityError(
            f"The sub-network keeps {metrics['agreement']:.2f} of the predictions, below {goal.agreement:.2f}. "
            "Ask for less, or use method='budget'."
        )
