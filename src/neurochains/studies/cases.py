"""The cases of a plan: one sub-network each, with an identifier that follows from all that decides its result.

Cases come in an order in which the one whose size another takes comes first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from neurochains.chains.plain import plain
from neurochains.studies.groups import Group, count_groups, groups
from neurochains.studies.plan import CONTROLS, Method, Model, Plan, Settings, Tasks, combined

__all__ = ["Case", "count_cases", "expand"]


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its identifier, what is run (JSON values), and the case whose number of filters it takes, if any.

    `spec` holds ``model``, ``task``, ``method``, ``options``, ``seed``, ``settings``, ``measures``.
    """

    id: str
    spec: Mapping[str, Any]
    like: str | None = None

    @property
    def kind(self) -> tuple[str, str]:
        """The names of model and method: cases of one kind take about as long."""
        return self.spec["model"]["name"], self.spec["method"]["name"]


def expand(plan: Plan) -> Iterator[Case]:
    """Yield the cases of a plan, model by model and task by task, each once.

    Raises:
        DataError: a folder of images cannot be read, or has too few classes.
        SettingsError: there is no such planted network.
    """
    ordered = _ordered(plan.methods)
    seen: set[str] = set()
    for entry in plan.tasks:
        for model in [None] if entry.planted is not None else plan.models:
            for group in groups(entry, plan.root):
                for task in _tasks(entry, group):
                    for case in _cases(plan, ordered, _model(model, task), task):
                        if case.id not in seen:
                            seen.add(case.id)
                            yield case


def count_cases(plan: Plan) -> int:
    """Return how many cases a plan has, without making them; cases that the plan names twice count twice."""
    each = len(plan.methods) * len(plan.settings) * len(plan.seeds)
    total = 0
    for entry in plan.tasks:
        models = 1 if entry.planted is not None else len(plan.models)
        total += count_groups(entry, plan.root) * entry.variants * models * each
    return total


def _cases(plan: Plan, methods: Sequence[Method], model: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[Case]:
    """Yield the cases of one model and one task."""
    for settings in plan.settings:
        for seed in plan.seeds:
            made: dict[str, Case] = {}
            for method in methods:
                base = None if method.like is None else made[method.like]
                made[method.name] = _case(plan, model, task, method, settings, seed, base)
            yield from made.values()


def _case(
    plan: Plan,
    model: Mapping[str, Any],
    task: Mapping[str, Any],
    method: Method,
    settings: Settings,
    seed: int,
    base: Case | None,
) -> Case:
    named = {"name": method.name, "method": method.method, "like": method.like}
    spec = {
        "model": model,
        "task": task,
        "method": named | ({"scope": method.scope} if method.method in CONTROLS else {}),
        "options": _options(method, settings, base),
        "settings": settings.name,
        "seed": seed,
        "measures": list(plan.measures),
    }
    like = None if base is None else base.id
    text = json.dumps([spec, like], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return Case(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:24], spec, like)


def _options(method: Method, settings: Settings, base: Case | None) -> dict[str, Any]:
    """Return the options of a case; a control has its own, and what it shares with the method it is like."""
    if method.method not in CONTROLS:
        return plain(combined(method, settings))
    shared = {} if base is None else {k: v for k, v in base.spec["options"].items() if k in ("units", "objective")}
    return plain({**shared, **method.options})


def _model(model: Model | None, task: Mapping[str, Any]) -> dict[str, Any]:
    if model is None:
        return {**task, "name": f"planted:{task['planted']}"}
    return {key: value for key, value in plain(asdict(model)).items() if value not in (None, False)}


def _tasks(entry: Tasks, group: Group) -> Iterator[dict[str, Any]]:
    """Yield the tasks of one group of classes, one for each draw and number of images; or of a planted network."""
    for seed in entry.draws:
        if entry.planted is not None:
            for noise in entry.noises:
                yield {"name": str(group[0]), "planted": group[0], "noise": float(noise), "seed": seed}
            continue
        source = {"shapes": True} if entry.shapes else {"images": entry.images}
        named = {"name": " / ".join(map(str, group)), **source, "classes": list(group)}
        for size in entry.sizes:
            yield {**named, "per_class": size, "held_out": entry.held_out, "seed": seed}


def _ordered(methods: Sequence[Method]) -> list[Method]:
    """Return the methods with each behind the one whose size it takes."""
    left, done = list(methods), []
    while left:
        ready = [entry for entry in left if entry.like is None or entry.like in {one.name for one in done}]
        done += ready
        left = [entry for entry in left if entry not in ready]
    return done
