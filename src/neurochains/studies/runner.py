"""Running cases: what a worker does with each, keeping the networks and tasks that it met last."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from neurochains.chains import Chain, Scores
from neurochains.chains.plain import plain
from neurochains.chains.refit import refit
from neurochains.data import Task
from neurochains.errors import NeuroChainsError, SettingsError
from neurochains.extraction import extract
from neurochains.measures import control, measure_chain
from neurochains.measures.planted import planted
from neurochains.measures.planted_truth import Truth
from neurochains.network import Network, load_model, model_info
from neurochains.preprocess import Preprocess
from neurochains.studies.measured import case_row, filter_rows, flat

__all__ = ["Runner", "load_entry"]

MODELS, TASKS = 4, 8  # kept in memory
LONGEST = 2000  # characters of an error that are recorded
_CONTROLS = {
    ("magnitude", "layer"): "activation",
    ("magnitude", "network"): "activation_global",
    ("random", "layer"): "random",
    ("random", "network"): "random_global",
}
Value = TypeVar("Value")
Weights = Mapping[str, Tensor]


class Runner:
    """Runs cases one after the other; an error of a case is its result.

    Args:
        root: the folder that relative paths start from.
        device: where networks run; by default where the model is.
        weights: gives the weights of a model by its name in the plan; by default they are loaded as the plan says.

    Attributes:
        loaded: how many models were loaded so far.
    """

    def __init__(
        self,
        root: Path,
        *,
        device: str | None = None,
        weights: Callable[[str], Weights | None] | None = None,
    ) -> None:
        self._root = root
        self._device = device
        self.weights = weights or (lambda _: None)
        self._models: OrderedDict[str, Any] = OrderedDict()
        self._networks: OrderedDict[str, Any] = OrderedDict()
        self._tasks: OrderedDict[str, Any] = OrderedDict()
        self.loaded = 0

    def run(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """Return the result of a job, as JSON values: ``id``, ``status``, ``row``, ``filters``; or ``error``.

        A job holds the ``id`` and ``spec`` of a case, and in ``base`` the sub-network whose size it takes.
        """
        began = time.perf_counter()
        result: dict[str, Any] = {"id": job["id"], "status": "done"}
        try:
            result.update(self._result(job))
        except Exception as error:  # noqa: BLE001 - whatever a case dies of is recorded, and the others go on
            kind = type(error).__name__
            result.update(status="failed", error_type=kind, error=(str(error) or kind)[:LONGEST])
            result["deliberate"] = isinstance(error, NeuroChainsError)
        result["seconds_case"] = time.perf_counter() - began
        return plain(result)

    def prepare(self, spec: Mapping[str, Any]) -> tuple[Network, Task]:
        """Return the traced network and the task of a case."""
        if "planted" in spec["model"]:
            return self._planted(spec["task"])[:2]
        model = self._model(spec["model"])
        task = _kept(self._tasks, _key(spec["model"], spec["task"]), TASKS, lambda: self._task(spec, model))
        key = _key(spec["model"], list(task.images.shape[1:]))
        network = _kept(self._networks, key, MODELS, lambda: Network.trace(model, task.images[:2], device=self._device))
        return network, task

    def _result(self, job: Mapping[str, Any]) -> dict[str, Any]:
        spec = job["spec"]
        torch.manual_seed(spec["seed"])
        network, task = self.prepare(spec)
        objective = spec["options"].get("objective", "kl")
        if objective != "kl":
            task = task.unlabelled()
        searched = spec["method"]["method"] in ("budget", "paper")
        chain = _searched(network, task, job) if searched else _control(network, task, job)
        row = case_row(network, chain, measures=spec["measures"], objective=objective)
        if "planted" in spec["model"]:
            truth = self._planted(spec["task"])[2]
            row.update(flat({"planted": truth.recovery(chain.subnetwork.list_filters()).to_json()}))
        filters = filter_rows(network, task, chain.subnetwork, objective=objective, ablate=searched)
        return {"row": row, "filters": filters, "digest": network.digest}

    def _planted(self, task: Mapping[str, Any]) -> tuple[Network, Task, Truth]:
        def make() -> tuple[Network, Task, Truth]:
            made = planted(task["planted"], noise=task["noise"], seed=task["seed"])
            return Network.trace(made.model, made.task.images[:2], device=self._device), made.task, made.truth

        return _kept(self._networks, _key(task), MODELS, make)

    def _model(self, entry: Mapping[str, Any]) -> nn.Module:
        return _kept(self._models, _key(entry), MODELS, lambda: self._load(entry))

    def _load(self, entry: Mapping[str, Any]) -> nn.Module:
        self.loaded += 1
        return load_entry(entry, self._root, self.weights(entry["name"]))

    def _task(self, spec: Mapping[str, Any], model: nn.Module) -> Task:
        task = spec["task"]
        if task.get("shapes"):
            return _shapes(task)
        drawn = {key: task[key] for key in ("classes", "per_class", "held_out", "seed")}
        how = _preprocess(spec["model"], model)
        return Task.from_folder(self._root / task["images"], model=model, preprocess=how, **drawn)


def load_entry(entry: Mapping[str, Any], root: Path, weights: Weights | None = None) -> nn.Module:
    """Return the model that an entry of a plan names, with other weights if there are any given.

    Raises:
        ModelError: it cannot be loaded.
    """
    path, colon, function = entry["model"].rpartition(":")
    name = f"{root / path}{colon}{function}" if path.endswith(".py") else entry["model"]
    if weights is None:
        file = root / entry["weights"] if "weights" in entry else None
        return load_model(name, weights=file, pretrained=not entry.get("random_weights", False))
    model = load_model(name, pretrained=False)
    model.load_state_dict(weights)
    return model


def _searched(network: Network, task: Task, job: Mapping[str, Any]) -> Chain:
    """Return the chain that a search finds."""
    spec, base = job["spec"], job.get("base")
    options = dict(spec["options"])
    if base is not None:
        options["size"] = len(base["index"])
    return extract(
        network,
        task,
        method=spec["method"]["method"],
        seed=spec["seed"],
        controls=False,
        single_image=True,  # a plan that asks for it means it
        **options,
    )


def _control(network: Network, task: Task, job: Mapping[str, Any]) -> Chain:
    """Return a sub-network of the size of another's, chosen by the size of its maps or at random, with its refit."""
    spec, base = job["spec"], job["base"]
    began = time.perf_counter()
    method = spec["method"]
    like = _scores(network, base, spec["options"].get("units", ["filters"]))
    found = control(_CONTROLS[method["method"], method["scope"]], network, task.images, like, seed=spec["seed"])
    steps = spec["options"].get("refit", base["refit"])
    objective = spec["options"].get("objective", "kl")
    found = refit(network, task.images, found, objective=objective, steps=steps)
    seconds = time.perf_counter() - began
    metrics = measure_chain(
        network, task, found, objective=objective, controls=False, faithfulness=False, seconds=False, seed=spec["seed"]
    )
    settings = {"method": method["method"], "refit": steps, "seed": spec["seed"], "size": like.kept}
    return Chain(network, task, found, settings, {**metrics, "seconds": seconds})


def _scores(network: Network, base: Mapping[str, Any], units_of: Sequence[str]) -> Scores:
    """Return the sub-network that a control takes its size from."""
    units = {layer.name: torch.zeros(layer.units) for layer in network.scored(units_of)}
    for name, index, score in zip(base["layer"], base["index"], base["score"], strict=True):
        units[name][index] = score
    return Scores(units, dict.fromkeys(base["skipped"], 0.0))


def _shapes(task: Mapping[str, Any]) -> Task:
    """Return a task of the built-in shapes; what is held out is of another split."""
    classes = task["classes"]
    given = Task.shapes(task["per_class"] * len(classes), seed=task["seed"], classes=classes)
    if not task["held_out"]:
        return given
    held = Task.shapes(task["held_out"] * len(classes), seed=task["seed"], split="val", classes=classes)
    parts = {"names": given.names, "pixels": given.pixels, "digests": given.digests}
    return Task(given.images, given.labels, given.class_names, **parts, held_out=held)


def _preprocess(entry: Mapping[str, Any], model: nn.Module) -> Preprocess | None:
    """Return how a model's images are prepared: as it says, but for what the plan says."""
    info = model_info(model)
    known = None if info is None else info.preprocess
    given: dict[str, Any] = {key: tuple(entry[key]) for key in ("mean", "std") if key in entry}
    if "input_size" in entry:
        side = entry["input_size"]
        given["size"] = (side, side) if isinstance(side, int) else tuple(side)
    if known is not None:
        return replace(known, **given, **({"resize": given["size"]} if "size" in given else {}))
    if not given:
        return None
    if set(given) != {"mean", "std", "size"}:
        raise SettingsError(f"{entry['name']} does not say how images are prepared: give input_size, mean and std.")
    return Preprocess(**given)


def _kept(store: OrderedDict[str, Value], key: str, most: int, make: Callable[[], Value]) -> Value:
    """Return the value under a key, made if it is not there; the one that was not used longest goes."""
    if key not in store:
        store[key] = make()
        while len(store) > most:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]


def _key(*parts: Any) -> str:
    return repr(parts)
