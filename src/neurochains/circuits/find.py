"""Finding a circuit: what is asked for is checked, a method finds the kernels, and what they give is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from torch import Tensor, nn

from neurochains.circuits.budget import CircuitSettings, reach_correlation, shrink_to
from neurochains.circuits.circuit import Circuit
from neurochains.circuits.problem import Kept, Problem
from neurochains.circuits.ranking import RANKINGS, Question, thresholded
from neurochains.circuits.readouts import read_target
from neurochains.circuits.targets import Target
from neurochains.data import Task
from neurochains.errors import FidelityError, SettingsError, did_you_mean
from neurochains.network import Network, load_model

__all__ = ["METHODS", "check_method", "circuit", "circuits_by_size", "trace_once"]

METHODS: tuple[str, ...] = ("budget", *RANKINGS)
"""The names of all methods: ``"budget"`` and the rankings."""

Report = Callable[[int, float], None]
_HALVINGS = 7


def circuit(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    *,
    target: str | Target,
    keep: float | None = None,
    correlation: float | None = None,
    method: str = "budget",
    thresholds: tuple[float, float] | None = None,
    seed: int = 0,
    progress: Report | None = None,
    **options: Any,
) -> Circuit:
    """Return a circuit of a target: the kernels, and the filters between them, that give the target its map.

    Exactly one of `keep`, `correlation` and `thresholds` says how large. With ``keep=1`` it is the complete circuit:
    all kernels that lead to the target.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network. It is never changed.
        task: the images to find it on, forty or more for the budget method; a tensor ``(N, C, H, W)`` will do. What the
            task holds out is only measured on.
        target: a filter (``"L4B1C2_48"``, ``"features.10[9]"``), a logit (``"logit:3"``), what tells two classes apart
            (``"logit:3-logit:5"``), or a `Target` with a direction. Its whole map counts, at all positions.
        keep: the fraction of the kernels that lead to the target to keep at most, in (0, 1].
        correlation: instead, of the target's map with the original one on the images: the smallest circuit found that
            reaches it.
        method: ``"budget"``, which tunes the scores of what it keeps unless told ``binary=True``; or a ranking of
            `METHODS`, which leaves them at 1.
        thresholds: for ``method="hierarchical"``: the cumulative shares of filters and of kernels, instead of a size.
        seed: of everything drawn at random.
        progress: told the number of kernels and the correlation now and then.
        options: of the budget method; see `CircuitSettings`.

    Raises:
        SettingsError: an option has a value it cannot have, the target has no map, or nothing is left (total collapse).
        FidelityError: no circuit reaches the correlation.
        LayerError: there is no such layer or filter.
        DataError: the images do not fit, or the target is the same everywhere on them.
        ModelError: the model cannot be traced.
    """
    _check_size(keep, correlation, thresholds, method)
    work = _Work.of(model, task, target, method, seed, options)
    kept = work.asked(keep, correlation, thresholds, progress)
    asked = {"keep": keep, "correlation": correlation, "thresholds": None if thresholds is None else list(thresholds)}
    return work.circuit(kept, asked)


def circuits_by_size(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    *,
    target: str | Target,
    keep: Sequence[float],
    method: str = "budget",
    seed: int = 0,
    progress: Report | None = None,
    **options: Any,
) -> dict[float, Circuit]:
    """Return one circuit for each fraction to keep, smallest last; the budget method finds them in one descent.

    The arguments and errors are those of `circuit`.
    """
    for fraction in keep:
        _check_size(fraction, None, None, method)
    work = _Work.of(model, task, target, method, seed, options)
    found = work.sized(keep, progress)
    return {fraction: work.circuit(kept, {"keep": fraction}) for fraction, kept in found.items()}


@dataclass(frozen=True, eq=False)
class _Work:
    """One target of one network on some images, with a method."""

    question: Question
    text: str
    method: str
    settings: CircuitSettings

    @classmethod
    def of(
        cls,
        model: nn.Module | str | Network,
        task: Task | Tensor,
        target: str | Target,
        method: str,
        seed: int,
        options: dict[str, Any],
    ) -> _Work:
        settings = _settings(method, seed, options)
        task = Task.of(task)
        network = trace_once(model, task)
        text, readout = read_target(target, network)
        problem = Problem(network, readout, task.images)
        return cls(Question(problem, task, target, seed), text, method, settings)

    def asked(
        self,
        keep: float | None,
        correlation: float | None,
        thresholds: tuple[float, float] | None,
        progress: Report | None,
    ) -> Kept:
        """Return what is kept at the one size that is given."""
        if thresholds is not None:
            return thresholded(self.question, thresholds)
        if correlation is not None:
            return self.correlated(correlation, progress)
        assert keep is not None
        return self.sized([keep], progress)[keep]

    def sized(self, keep: Sequence[float], progress: Report | None) -> dict[float, Kept]:
        """Return what is kept at each fraction, the largest first."""
        problem = self.question.problem
        whole = {fraction: problem.everything() for fraction in keep if fraction == 1}
        rest = sorted({fraction for fraction in keep if fraction < 1}, reverse=True)
        if self.method != "budget":
            return whole | {fraction: RANKINGS[self.method](self.question, fraction) for fraction in rest}
        sizes = {fraction: problem.edges.share(fraction) for fraction in rest}
        found = shrink_to(problem, list(sizes.values()), self.settings, report=progress) if sizes else {}
        return whole | {fraction: found[size] for fraction, size in sizes.items()}

    def correlated(self, correlation: float, progress: Report | None) -> Kept:
        """Return the smallest circuit found that reaches a correlation; of a ranking, by halving the sizes."""
        problem = self.question.problem
        if self.method == "budget":
            return reach_correlation(problem, correlation, self.settings, report=progress)
        low, high, best = 0.0, 1.0, problem.everything()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            found = self._try(middle)
            if found is not None and problem.measure(found).pearson >= correlation:
                high, best = middle, found
            else:
                low = middle
        return best

    def circuit(self, kept: Kept, asked: dict[str, Any]) -> Circuit:
        """Return what is kept as a circuit, measured on the images and on those held out."""
        question, problem = self.question, self.question.problem
        scores = {name: values for name, values in kept.scores.items() if bool(values.any())}
        settings = {"method": self.method, "target": self.text, **asked, "seed": question.seed}
        if self.method == "budget":
            settings |= asdict(self.settings)
        made = Circuit(problem.network, question.task, self.text, problem.readout, scores, settings)
        made.metrics.update(_sizes(made, problem), **asdict(problem.measure(kept)))
        if question.task.held_out is not None:
            made.metrics["held_out"] = asdict(made.measure(question.task.held_out))
        return made

    def _try(self, keep: float) -> Kept | None:
        try:
            return RANKINGS[self.method](self.question, keep)
        except SettingsError:  # total collapse: too small
            return None


def _sizes(made: Circuit, problem: Problem) -> dict[str, Any]:
    leading = problem.edges.leading.values()
    return {
        "kernels": made.size,
        "of": problem.edges.total,
        "keep": made.size / problem.edges.total,
        "filters": sum(len(kept) for kept in made.filters.values()),
        "of_filters": sum(int(mask.any(1).sum()) for mask in leading),
        "layers": len(made.scores),
        "of_layers": len(leading),
        "tuned": made.tuned,
    }


def check_method(method: str, known: Sequence[str]) -> None:
    """Refuse a method that is not known.

    Raises:
        SettingsError: it is none; lists the nearest names.
    """
    if method not in known:
        near = did_you_mean(method, known) or f"There are {', '.join(known)}."
        raise SettingsError(f"There is no method {method!r}. {near}")


def _check_size(
    keep: float | None, correlation: float | None, thresholds: tuple[float, float] | None, method: str
) -> None:
    check_method(method, METHODS)
    if sum(value is not None for value in (keep, correlation, thresholds)) != 1:
        raise SettingsError(
            "How large the circuit shall be is said by exactly one of keep (a fraction of the kernels, such as 0.1), "
            "correlation (such as 0.9) and thresholds (hierarchical)."
        )
    if keep is not None and not 0 < keep <= 1:
        raise SettingsError(f"keep is a fraction of the kernels above 0, at most 1; got {keep}.")
    if correlation is not None and not 0 < correlation < 1:
        raise FidelityError(f"A correlation to reach is above 0 and below 1; got {correlation}.")
    if thresholds is not None and method != "hierarchical":
        raise SettingsError(f"Thresholds go with method='hierarchical'; got {method!r}.")


def _settings(method: str, seed: int, options: dict[str, Any]) -> CircuitSettings:
    known = [entry.name for entry in fields(CircuitSettings) if entry.name != "seed"]
    for name in options:
        if name not in known:
            near = did_you_mean(name, known) or f"The budget method has {', '.join(known)}."
            raise SettingsError(f"There is no option {name!r}. {near}")
        if method != "budget":
            raise SettingsError(f"{name} is an option of method='budget', not of {method!r}.")
    return CircuitSettings(seed=seed, **options)


def trace_once(model: nn.Module | str | Network, task: Task) -> Network:
    """Return the network of a model for the images of a task; one that is traced already as it is."""
    if isinstance(model, Network):
        return model
    return Network.trace(load_model(model) if isinstance(model, str) else model, task.images[:1])
