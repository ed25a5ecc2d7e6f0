"""The tables of a study as the figures take them: columns of numpy, rows chosen by model and method.

A *series* is a method with its settings, named as the plan names them; one colour of a figure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.studies.libraries import import_extra
from neurochains.studies.tables import Tables

__all__ = ["Frame", "frame_of"]

Numbers = NDArray[np.floating]
PLANTED = "planted networks"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The finished cases of a study, or some of them, and their filters, both as tables of pyarrow.

    `order` names all series of the study, as the plan does.
    """

    cases: Any
    filters: Any
    order: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.cases.num_rows

    def has(self, *names: str) -> bool:
        """Return whether all these columns are there with at least one value."""
        return all(name in self.cases.column_names and self._count(name) for name in names)

    def numbers(self, name: str) -> Numbers:
        """Return a column of numbers, NaN where there is none."""
        if name not in self.cases.column_names:
            return np.full(len(self), np.nan)
        return _floats(self.cases.column(name))

    def texts(self, name: str) -> list[str]:
        """Return a column of text, "" where there is none."""
        return [value or "" for value in self.cases.column(name).to_pylist()]

    def pooled(self, name: str) -> Numbers:
        """Return the numbers of a column of lists, one list behind the other."""
        pc = import_extra("pyarrow.compute", purpose="The tables of a study need")
        return _floats(pc.list_flatten(self.cases.column(name)))

    def of_filters(self, name: str) -> Numbers:
        """Return a column of the filters of these cases, empty where there is none."""
        if name not in self.filters.column_names:
            return np.empty(0)
        return _floats(self.filters.column(name))

    def options(self, name: str) -> list[Any]:
        """Return an option of each case, None where the plan does not give it."""
        return [json.loads(text or "{}").get(name) for text in self.texts("options")]

    def where(self, chosen: Sequence[bool] | NDArray[np.bool_]) -> Frame:
        """Return the rows that are chosen, with their filters."""
        pa = import_extra("pyarrow", purpose="The tables of a study need")
        pc = import_extra("pyarrow.compute", purpose="The tables of a study need")
        cases = self.cases.filter(pa.array(np.asarray(chosen, dtype=bool)))
        kept = pc.is_in(self.filters.column("case").cast(pa.string()), cases.column("case"))
        return Frame(cases, self.filters.filter(kept), self.order)

    def models(self) -> Iterator[tuple[str, Frame]]:
        """Yield the cases of each model, by name; planted networks are one."""
        yield from self._by([PLANTED if name.startswith("planted:") else name for name in self.texts("model")])

    def series(self) -> dict[str, Frame]:
        """Return the cases of each method and its settings, in the order of the plan."""
        found = dict(self._by(_series(self.texts("method"), self.texts("settings"))))
        return {name: found[name] for name in self.order if name in found}

    def usual(self, column: str) -> Frame:
        """Return the cases that have the commonest value of a column; all where it is nowhere known."""
        values = self.numbers(column)
        known, counts = np.unique(values[np.isfinite(values)], return_counts=True)
        return self.where(values == known[counts.argmax()]) if len(known) else self

    def _by(self, keys: Sequence[str]) -> Iterator[tuple[str, Frame]]:
        for key in sorted(set(keys)):
            yield key, self.where([one == key for one in keys])

    def _count(self, name: str) -> int:
        column = self.cases.column(name)
        return len(column) - column.null_count


def frame_of(tables: Tables) -> Frame:
    """Return the cases of a study that are done."""
    done = [status == "done" for status in tables.cases.column("status").to_pylist()]
    plan = tables.document["plan"]
    pairs = [(method["name"], some["name"]) for method in plan["methods"] for some in plan["settings"]]
    every = Frame(tables.cases, tables.filters)
    pairs += zip(every.texts("method"), every.texts("settings"), strict=True)
    order = _series([method for method, _ in pairs], [some for _, some in pairs])
    return Frame(tables.cases, tables.filters, tuple(dict.fromkeys(order))).where(done)


def _series(methods: Sequence[str], settings: Sequence[str]) -> list[str]:
    """Return what methods with their settings are called."""
    return [f"{method}, {some}" if some else method for method, some in zip(methods, settings, strict=True)]


def _floats(column: Any) -> Numbers:
    pa = import_extra("pyarrow", purpose="The tables of a study need")
    return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=float)
