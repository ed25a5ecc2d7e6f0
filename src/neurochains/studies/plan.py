"""The plan of a study: models x tasks x methods x settings x seeds.

A plan is a TOML file, a mapping of the same form, or a `Plan` made in Python. A name alone stands for a table with that
name: ``models = ["shapes:vgg"]``, ``methods = ["budget", "random"]``.

- ``models``: ``model`` (what `neurochains.load_model` takes), ``name`` in the tables, ``weights``, ``random_weights``,
  and for models that do not say how images are prepared ``input_size``, ``mean`` and ``std``.
- ``tasks``: ``images`` (a folder), ``shapes = true`` (the built-in data) or ``planted`` (names, or "all"). For the
  first two ``pairs`` says which classes go together: a list of lists, "all", or how many are drawn at random; ``each``
  of how many classes (2), ``classes`` from which, ``per_class`` images of each (10; a list makes a task for each
  number), ``held_out`` more (0), drawn by ``seed`` (0; or a list, for several draws). Planted networks bring their own
  model and images, and take ``noise`` (0; or a list) and ``seed``.
- ``methods``: ``method`` is budget, paper, magnitude or random; ``like`` names another method of the plan whose number
  of filters is taken over, case by case. Magnitude and random need it; ``scope`` of theirs is "layer" (as many in each
  layer) or "network" (over all). The rest are options of `neurochains.extract`.
- ``settings``: options for all methods; each table is run with each method.
- ``seeds``: of the search and of what is drawn at random.
- ``measures``: names of further measures: locality, robustness and stability, see `neurochains.studies.further`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neurochains.errors import SettingsError, did_you_mean
from neurochains.studies.checks import (
    FLAG,
    NOISE,
    NUMBERS,
    TEXT,
    TEXTS,
    Check,
    Place,
    check_keys,
    check_table,
    counts,
    whole,
)
from neurochains.studies.plan_file import read_toml

__all__ = ["CONTROLS", "METHODS", "Method", "Model", "Plan", "Settings", "Tasks", "combined", "read_plan"]

METHODS = ("budget", "paper", "magnitude", "random")
CONTROLS = ("magnitude", "random")
SCOPES = ("layer", "network")
_SIDES = Check("one or two whole numbers", lambda value: whole(1).holds(value) or _is_pair(value))
_PAIRS = Check('"all", a number of 1 or more, or a list of lists of classes', lambda value: _are_pairs(value))
_PLANTED = Check('"all", a name or a list of names', lambda value: TEXT.holds(value) or TEXTS.holds(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of a plan: what `neurochains.load_model` takes, and what it is called in the tables."""

    model: str
    name: str = ""
    weights: str | None = None
    random_weights: bool = False
    input_size: int | tuple[int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.model)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tasks:
    """Some tasks of a plan: groups of classes of a folder or of the built-in shapes, or planted networks."""

    images: str | None = None
    shapes: bool = False
    planted: str | tuple[str, ...] | None = None
    pairs: str | int | tuple[tuple[str | int, ...], ...] = "all"
    each: int = 2
    classes: tuple[str | int, ...] | None = None
    per_class: int | tuple[int, ...] = 10
    held_out: int = 0
    seed: int | tuple[int, ...] = 0
    noise: float | tuple[float, ...] = 0.0

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of images of each class."""
        return self.per_class if isinstance(self.per_class, tuple) else (self.per_class,)

    @property
    def noises(self) -> tuple[float, ...]:
        """The levels of noise on the weights of planted networks."""
        return self.noise if isinstance(self.noise, tuple) else (self.noise,)

    @property
    def draws(self) -> tuple[int, ...]:
        """The seeds that images are drawn by; groups of classes are drawn by the first."""
        return self.seed if isinstance(self.seed, tuple) else (self.seed,)

    @property
    def variants(self) -> int:
        """How many tasks there are of each group of classes, or of each planted network."""
        return len(self.draws) * len(self.sizes if self.planted is None else self.noises)


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One method of a plan: how sub-networks are found, and what it is called in the tables."""

    method: str
    name: str = ""
    like: str | None = None
    scope: str = "layer"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.method)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Options of `neurochains.extract` for all methods, and what they are called in the tables."""

    name: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A checked plan; `root` is the folder that its relative paths start from."""

    name: str = ""
    models: tuple[Model, ...] = ()
    tasks: tuple[Tasks, ...] = ()
    methods: tuple[Method, ...] = (Method(method="budget", name="budget"),)
    settings: tuple[Settings, ...] = (Settings(),)
    seeds: tuple[int, ...] = (0,)
    measures: tuple[str, ...] = ()
    root: Path = Path()

    @classmethod
    def of(cls, value: Plan | Mapping[str, Any] | str | os.PathLike[str]) -> Plan:
        """Return a plan from itself, a mapping or the path of a TOML file.

        Raises:
            SettingsError: it has an unknown key, or a value that cannot be; says where.
            ArtifactError: the file cannot be read.
        """
        if isinstance(value, Plan):
            return _checked(value, Place())
        return _plan(value, Place(), Path()) if isinstance(value, Mapping) else read_plan(value)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON holds it, without the folder it lies in."""
        return {key: value for key, value in asdict(self).items() if key != "root"}


def read_plan(path: str | os.PathLike[str]) -> Plan:
    """Return the plan in a TOML file.

    Raises:
        SettingsError: it is no TOML, has an unknown key, or a value that cannot be; says on which line.
        ArtifactError: the file cannot be read.
    """
    values, lines = read_toml(path)
    return _plan(values, Place(str(path), lines), Path(path).absolute().parent)


def _plan(values: Any, place: Place, root: Path) -> Plan:
    known = ("name", "models", "tasks", "methods", "settings", "seeds", "measures")
    table = check_keys(values, place, known)
    made: dict[str, Any] = {"root": root}
    readers = {"models": _model, "tasks": _tasks, "methods": _method, "settings": _settings}
    for key, reader in readers.items():
        if key in table:
            entries = _listed(table[key], place.inside(key))
            made[key] = tuple(reader(entry, place.inside(key, at)) for at, entry in enumerate(entries))
    simple: dict[str, Check] = {"name": TEXT, "seeds": counts(0), "measures": TEXTS}
    given = check_table({key: table[key] for key in simple if key in table}, place, simple)
    if "seeds" in given and not isinstance(given["seeds"], tuple):
        given["seeds"] = (given["seeds"],)
    return _checked(Plan(**made, **given), place)


def _listed(value: Any, place: Place) -> Sequence[Any]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise place.error(f"{place} must be a list of tables, at least one: [[{place.way[-1]}]]; got {value!r}.")
    return value


def _model(value: Any, place: Place) -> Model:
    checks = {"model": TEXT, "name": TEXT, "weights": TEXT, "random_weights": FLAG}
    checks |= {"input_size": _SIDES, "mean": NUMBERS, "std": NUMBERS}
    if value is not None and not isinstance(value, (str, Mapping)):
        raise place.error(
            f"{place} must name its model, since each worker loads it itself: shapes:vgg, torchvision:resnet50 or "
            f"path/to/file.py:function; got {type(value).__name__}."
        )
    table = check_table({"model": value} if isinstance(value, str) else value, place, checks)
    if "model" not in table:
        raise place.error(f'{place} names no model. Give it: model = "torchvision:resnet50".')
    return Model(**table)


def _tasks(value: Any, place: Place) -> Tasks:
    checks: dict[str, Check] = {"images": TEXT, "shapes": FLAG, "planted": _PLANTED, "pairs": _PAIRS, "classes": TEXTS}
    checks |= {"each": whole(1), "per_class": counts(1), "held_out": whole(0), "seed": counts(0), "noise": NOISE}
    table = check_table({"images": value} if isinstance(value, str) else value, place, checks)
    sources = [key for key in ("images", "shapes", "planted") if table.get(key)]
    if len(sources) != 1:
        came = " and ".join(sources) or "none of them"
        raise place.error(f"{place} needs one of images, shapes and planted; got {came}.")
    planted = {"planted", "noise", "seed"}
    others = set(table) - planted if table.get("planted") else set(table) & {"noise"}
    if others:
        what = "planted networks, which bring their images" if table.get("planted") else "images, which get no noise"
        raise place.error(f"{place} is of {what}; leave {', '.join(sorted(others))} out.")
    return Tasks(**table)


def _method(value: Any, place: Place) -> Method:
    own: dict[str, Check] = {"method": TEXT, "name": TEXT, "like": TEXT, "scope": TEXT}
    table = {"method": value} if isinstance(value, str) else value
    table = check_keys(table, place, (*own, *_options()))
    given = check_table({key: table[key] for key in own if key in table}, place, own)
    if given.get("method") not in METHODS:
        hint = did_you_mean(str(given.get("method", "")), METHODS)
        came = repr(given["method"]) if "method" in given else "none"
        raise place.error(
            f"method of {place} must be one of {', '.join(METHODS)}; got {came}. {hint}".rstrip(), "method"
        )
    if given.get("scope", "layer") not in SCOPES:
        raise place.error(f"scope of {place} must be one of {', '.join(SCOPES)}; got {given['scope']!r}.", "scope")
    options = {key: entry for key, entry in table.items() if key not in own}
    _check_control(given, options, place)
    return Method(**given, options=options)


def _check_control(given: Mapping[str, Any], options: Mapping[str, Any], place: Place) -> None:
    """Refuse what a control cannot be told, and a scope for what is none."""
    control = given["method"] in CONTROLS
    if control and "like" not in given:
        raise place.error(f'{place} is a control, so it needs the method whose size it takes: like = "budget".')
    if control and set(options) - {"refit"}:
        raise place.error(f"{place} is a control and takes only refit, not {', '.join(sorted(options))}.")
    if not control and "scope" in given:
        raise place.error(f"scope of {place} says how controls are drawn; {given['method']} is none.", "scope")


def _settings(value: Any, place: Place) -> Settings:
    table = check_keys(value, place, ("name", *_options()))
    name = check_table({key: table[key] for key in ("name",) if key in table}, place, {"name": TEXT}).get("name")
    options = {key: entry for key, entry in table.items() if key != "name"}
    return Settings(name=name or ", ".join(f"{key} {entry}" for key, entry in options.items()), options=options)


def _options() -> tuple[str, ...]:
    """Return the options of an extraction that a plan may set."""
    from neurochains.extraction.options import Options  # it imports torch

    return tuple(name for name in Options.__dataclass_fields__ if name not in ("method", "seed"))


def _checked(plan: Plan, place: Place) -> Plan:
    """Return a plan whose parts fit each other."""
    if not plan.tasks:
        raise place.error('The plan has no tasks. Give some: [[tasks]] with images = "folder" or shapes = true.')
    if not plan.models and any(entry.planted is None for entry in plan.tasks):
        raise place.error('The plan has no models. Give some: [[models]] with model = "torchvision:resnet50".')
    for key in ("models", "methods", "settings"):
        _check_names([entry.name for entry in getattr(plan, key)], place.inside(key))
    _check_measures(plan.measures, place)
    _check_likes(plan.methods, place)
    _check_options(plan, place)
    return plan


def _check_names(names: Sequence[str], place: Place) -> None:
    twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
    if twice is not None:
        raise place.inside(names.index(twice, names.index(twice) + 1)).error(
            f"Two entries of {place} are called {twice!r}. Give one another name: name = ..."
        )


def _check_measures(names: Sequence[str], place: Place) -> None:
    from neurochains.studies.further import MEASURES  # it imports torch

    for name in names:
        if name not in MEASURES:
            known = ", ".join(MEASURES)
            raise place.error(
                f"There is no measure {name!r}; there are {known}. {did_you_mean(name, MEASURES)}", "measures"
            )


def _check_likes(methods: Sequence[Method], place: Place) -> None:
    """Refuse methods that take the size of none, or of themselves in a circle."""
    bases = {entry.name: entry.like for entry in methods}
    for at, entry in enumerate(methods):
        here = place.inside("methods", at)
        if entry.like is not None and entry.like not in bases:
            hint = did_you_mean(entry.like, bases)
            raise here.error(f"like of {here} names no method of the plan: {entry.like!r}. {hint}".rstrip(), "like")
        seen, name = {entry.name}, entry.like
        while name is not None:
            if name in seen:
                raise here.error(f"{here} takes its size from {name!r}, which takes it from it: a circle.", "like")
            seen.add(name)
            name = bases[name]


def _check_options(plan: Plan, place: Place) -> None:
    """Refuse options that an extraction would refuse, for every method with every settings."""
    from neurochains.extraction.options import Options

    for at, method in enumerate(plan.methods):
        for settings in plan.settings:
            if method.method in CONTROLS:
                continue
            here = place.inside("methods", at)
            try:
                Options(method=method.method, **combined(method, settings))  # type: ignore[arg-type]
            except SettingsError as error:
                named = f" with settings {settings.name!r}" if settings.name else ""
                raise here.error(f"{here}{named}: {error}") from error
            except TypeError as error:
                raise here.error(f"{here}: an option has the wrong type: {error}.") from error


def combined(method: Method, settings: Settings) -> dict[str, Any]:
    """Return the options of a method with some settings: its own come first, a size taken over replaces any goal."""
    goals = ("fidelity", "agreement", "size")
    options = {**settings.options, **method.options}
    if any(goal in method.options for goal in goals):
        options = {key: value for key, value in options.items() if key not in goals or key in method.options}
    if method.like is not None:
        options = {key: value for key, value in options.items() if key not in goals}
    return options


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(whole(1).holds(one) for one in value)


def _are_pairs(value: Any) -> bool:
    if isinstance(value, str):
        return value == "all"
    return whole(1).holds(value) or (
        isinstance(value, Sequence) and bool(value) and all(TEXTS.holds(group) for group in value)
    )
