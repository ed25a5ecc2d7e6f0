"""Validation: how well circuits of every method and size give their target's map on images that none of them saw.

All methods keep the same number of kernels, dead ends not counted. Rankings leave the kernels as they are; the budget
method tunes their scores, which alone lifts the correlation, so ``binary`` has the same without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from neurochains.circuits.circuit import Circuit
from neurochains.circuits.find import METHODS, check_method, circuit, circuits_by_size, trace_once
from neurochains.circuits.problem import Agreement
from neurochains.circuits.targets import Target
from neurochains.data import Task
from neurochains.errors import DataError, SettingsError
from neurochains.network import Network

__all__ = ["SIZES", "Comparison", "circuits_or_none", "compare_methods"]

SIZES = (0.05, 0.1, 0.2, 0.3, 0.5)
BINARY = "binary"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One method at one size for one target.

    `given` is on the images that circuits were found on, `unseen` on others; both are None after a total collapse, and
    `kept` is 0 then. `kept` is the fraction of kernels that are left without dead ends.
    """

    method: str
    keep: float
    kept: float
    filters: int
    given: Agreement | None
    unseen: Agreement | None

    def as_row(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def compare_methods(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    *,
    target: str | Target,
    sizes: Sequence[float] = SIZES,
    methods: Iterable[str] = (*METHODS, BINARY),
    unseen: Task | Tensor | None = None,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
    **options: Any,
) -> list[Comparison]:
    """Return one entry for each method and size, measured on images that no circuit was found on.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network.
        task: the images to find circuits on.
        target: see `circuit`.
        sizes: fractions of the kernels to keep.
        methods: names of `METHODS`, and ``"binary"``: the budget method without tuned scores.
        unseen: the images to measure on; what the task holds out if None.
        seed: of everything drawn at random.
        progress: told each method as its turn comes.
        options: of the budget method.

    Raises:
        DataError: there are no unseen images.
        SettingsError: there is no such method, or an option has a value it cannot have.
    """
    task = Task.of(task)
    others = task.held_out if unseen is None else Task.of(unseen)
    if others is None:
        raise DataError("Validation wants images that no circuit was found on: hold some out, or pass unseen=.")
    network = trace_once(model, task)
    circuit(network, task, target=target, keep=1.0, seed=seed, **options)  # what cannot be done fails here
    found = []
    for method in methods:
        check_method(method, (*METHODS, BINARY))
        if progress is not None:
            progress(method)
        made = circuits_or_none(network, task, method, target=target, keep=sizes, seed=seed, **options)
        found += [_compared(method, size, made[size], others) for size in sorted(sizes)]
    return found


def circuits_or_none(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    method: str,
    *,
    target: str | Target,
    keep: Sequence[float],
    seed: int = 0,
    **options: Any,
) -> dict[float, Circuit | None]:
    """Return the circuit of each size by one method, or None where nothing is left (total collapse).

    Args:
        model: as in `circuit`, and so are the others; what is wrong with them is to be found out before.
        task: see there.
        method: a name of `METHODS`, or ``"binary"``.
        target: see there.
        keep: the fractions.
        seed: see there.
        options: of the budget method; others leave them alone.
    """
    budget = method in ("budget", BINARY)
    extra: dict[str, Any] = {**options, "binary": method == BINARY} if budget else {"method": method}
    groups = [list(keep)] if budget else [[size] for size in keep]
    found: dict[float, Circuit | None] = {}
    while groups:  # smallest sizes that collapse are taken out one by one
        group = groups.pop()
        try:
            found |= circuits_by_size(model, task, keep=group, target=target, seed=seed, **extra)
        except SettingsError:
            smallest = min(group)
            found[smallest] = None
            groups += [[size for size in group if size != smallest]] if len(group) > 1 else []
    return {size: found[size] for size in keep}


def _compared(method: str, size: float, made: Circuit | None, others: Task) -> Comparison:
    if made is None:
        return Comparison(method, size, 0.0, 0, None, None)
    given = Agreement(*(made.metrics[name] for name in ("pearson", "spearman", "error")))
    return Comparison(method, size, made.metrics["keep"], made.metrics["filters"], given, made.measure(others))
