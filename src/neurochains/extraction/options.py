"""The options of an extraction, checked, and what they mean for the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from neurochains.chains.budget import BudgetSettings
from neurochains.chains.goal import Goal, make_goal
from neurochains.chains.objectives import Objective, find_objective
from neurochains.chains.paper import PaperSettings
from neurochains.chains.plain import plain
from neurochains.chains.search import SearchSettings
from neurochains.errors import SettingsError, did_you_mean

__all__ = ["Options"]

METHODS = ("budget", "paper")
EFFORTS = ("quick", "thorough")
REFIT = {"quick": 20, "thorough": 60}  # of the budget method
RANGES = ("unbounded", "unit", "binary")
UNITS = ("filters", "hidden", "heads", "patches")
PAPER_ONLY = ("lam", "lam_g", "threshold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of `neurochains.extract`, under the same names.

    Raises:
        SettingsError: an option has a value it cannot have.
    """

    fidelity: float | None = None
    agreement: float | None = None
    size: int | float | None = None
    method: Literal["budget", "paper"] = "budget"
    effort: Literal["quick", "thorough"] = "quick"
    units: Sequence[str] = ("filters",)
    objective: str | Objective = "kl"
    score_range: Literal["unbounded", "unit", "binary"] = "unbounded"
    gates: bool | None = None
    steps: int | None = None
    refit: int | None = None
    lam: float | None = None
    lam_g: float | None = None
    threshold: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _check_choice("method", self.method, METHODS)
        _check_choice("effort", self.effort, EFFORTS)
        if self.effort == "thorough" and self.method == "paper":
            raise SettingsError("effort='thorough' belongs to method='budget'; method='paper' takes a number of steps.")
        _check_choice("score_range", self.score_range, RANGES)
        if isinstance(self.units, str) or not self.units:
            raise SettingsError(f'units is a sequence such as ("filters",); got {self.units!r}.')
        for unit in self.units:
            _check_choice("each of units", unit, UNITS)
        _check_patches(self)
        for name in ("steps", "refit", "seed"):
            _check_count(name, getattr(self, name))
        for name in PAPER_ONLY:
            _check_weight(name, getattr(self, name))
            if getattr(self, name) is not None and self.method != "paper":
                raise SettingsError(f"{name} belongs to method='paper'; method={self.method!r} takes a goal instead.")
        make_goal(fidelity=self.fidelity, agreement=self.agreement, size=self.size, total=2**62)
        find_objective(self.objective)

    @property
    def shared_units(self) -> tuple[str, ...]:
        """The units that all images share: all but patches."""
        return tuple(unit for unit in self.units if unit != "patches")

    def goal(self, total: int) -> Goal:
        """Return the goal for a network with so many scored units."""
        return make_goal(fidelity=self.fidelity, agreement=self.agreement, size=self.size, total=total)

    @property
    def certified(self) -> bool:
        """Whether the goal is promised: always by the budget method, by the paper's only if it was named."""
        return self.method == "budget" or self.fidelity is not None

    def search(self) -> SearchSettings:
        """Return what the search is told."""
        paper = self.method == "paper"
        chosen = {name: getattr(self, name) for name in (*PAPER_ONLY, "steps", "refit")}
        literal = replace(PaperSettings(), **{name: value for name, value in chosen.items() if value is not None})
        polish = {} if self.steps is None else {"polish": self.steps}
        return SearchSettings(
            method=self.method,
            effort=self.effort,
            score_range=self.score_range,
            gates=paper if self.gates is None else self.gates,
            refit=literal.refit if paper or self.refit is not None else REFIT[self.effort],
            seed=self.seed,
            budget=replace(BudgetSettings(), **polish),
            paper=literal,
        )

    @property
    def control_refit(self) -> int:
        """The Adam steps that a control gets: as many as a chain, and as in a thorough search where nothing is said."""
        return self.search().refit if self.method == "paper" or self.refit is not None else REFIT["thorough"]

    def to_json(self, goal: Goal) -> dict[str, Any]:
        """Return all settings in force, for the record, as JSON holds them: no limit is None."""
        search = asdict(self.search())
        for other in ("paper",) if self.method == "budget" else ("budget", "shrink", "effort"):
            del search[other]
        asked = {"fidelity": self.fidelity, "agreement": self.agreement, "size": self.size}
        if all(value is None for value in asked.values()):
            asked["fidelity"] = goal.divergence
        name = self.objective if isinstance(self.objective, str) else getattr(self.objective, "__name__", "callable")
        return plain({**asked, "units": list(self.units), "objective": name, **search})


def _check_patches(options: Options) -> None:
    if "patches" not in options.units:
        return
    if options.size is not None:
        raise SettingsError("size counts units that all images share; patches are found by a fidelity or an agreement.")
    if options.objective != "kl":
        raise SettingsError(f"Patches keep the answers of a classifier: objective='kl'; got {options.objective!r}.")


def _check_count(name: str, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise SettingsError(f"{name} is a whole number, 0 or more; got {value!r}.")


def _check_weight(name: str, value: Any) -> None:
    if value is not None and not (isinstance(value, (int, float)) and 0 <= value < float("inf")):
        raise SettingsError(f"{name} is a number, 0 or more; got {value!r}.")


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise SettingsError(f"{name} is one of {', '.join(known)}; got {value!r}. {did_you_mean(str(value), known)}")
