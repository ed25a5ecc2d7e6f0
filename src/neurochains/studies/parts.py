"""Finished cases put together into Parquet: part after part, so that memory stays flat however many there are.

A part is two files of the same number. That of the filters is written first; with that of the cases the part is there.
A part of filters alone is what a process left that was killed between the two: it is replaced by the next. The records
that went into a part are removed only then, and where this was cut short, the part counts.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neurochains.studies.libraries import import_extra
from neurochains.studies.store import DamagedError, publish

__all__ = ["TEXT_COLUMNS", "case_columns", "part_files", "part_ids", "read_base", "table_of", "write_part"]

Record = Mapping[str, Any]
FILTERS = {"layer": "string", "label": "string", "index": "int64", "score": "double"}
TEXT_COLUMNS = ("case", "status", "model", "task", "source", "method", "base", "like", "scope", "settings", "options")
WHOLE_COLUMNS = ("seed", "draw", "n_classes", "per_class", "held_out", "filters", "of", "layers", "layers_of")


def case_columns(record: Record) -> dict[str, Any]:
    """Return the row of a case from its record: what it is of, then what was measured, or the error."""
    spec = record["spec"]
    task, method = spec["task"], spec["method"]
    source = task.get("images") or ("shapes" if task.get("shapes") else "planted")
    known = {
        "case": record["id"],
        "status": record["status"],
        "model": spec["model"]["name"],
        "task": task["name"],
        "source": source,
        "n_classes": len(task.get("classes", ())) or None,
        "per_class": task.get("per_class"),
        "held_out": task.get("held_out"),
        "draw": task.get("seed"),
        "noise": task.get("noise"),
        "method": method["name"],
        "base": method["method"],
        "like": method["like"],
        "scope": method.get("scope"),
        "settings": spec["settings"],
        "seed": spec["seed"],
        "options": json.dumps(spec["options"], sort_keys=True),
        "error_type": record.get("error_type"),
        "error": record.get("error"),
        "seconds_case": record.get("seconds_case"),
    }
    return {**known, **{key: value for key, value in record.get("row", {}).items() if key not in known}}


def table_of(records: Sequence[Record]) -> tuple[Any, Any]:
    """Return the two tables (pyarrow) of some records: one row a case, one row a filter."""
    pa = import_extra("pyarrow", purpose="The tables of a study need")
    rows = [case_columns(record) for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: _column(pa, name, [row.get(name) for row in rows]) for name in names}
    return pa.table(columns), _filter_table(pa, records)


def write_part(folder: Path, records: Sequence[Record]) -> None:
    """Write some records as the next part of a study's tables.

    Raises:
        ArtifactError: there is no space left, or it cannot be written.
    """
    number = 1 + max((int(path.stem.partition("-")[2]) for path in part_files(folder)), default=-1)
    cases, filters = table_of(records)
    name = f"part-{number:06d}.parquet"
    publish(folder / "filters" / name, _encoded(filters))
    publish(folder / "cases" / name, _encoded(cases))


def part_files(folder: Path) -> list[Path]:
    """Return the case files of a study's parts, in order."""
    return sorted((folder / "cases").glob("part-*.parquet"))


def part_ids(path: Path) -> list[str]:
    """Return the identifiers of the cases in a part.

    Raises:
        DamagedError: one of its two files is not what was written.
    """
    pq = import_extra("pyarrow.parquet", purpose="The tables of a study need")
    pa = import_extra("pyarrow", purpose="The tables of a study need")
    other = path.parent.parent / "filters" / path.name
    try:
        pq.read_metadata(other)
        return pq.read_table(path, columns=["case"], partitioning=None).column("case").to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DamagedError(str(path)) from error


def read_base(path: Path, case: str) -> dict[str, Any]:
    """Return the sub-network of a case in a part: what another case of its size needs to know."""
    pq = import_extra("pyarrow.parquet", purpose="The tables of a study need")
    where = [("case", "==", case)]
    wanted = ["case", "skipped", "refit"]
    (row,) = pq.read_table(path, columns=wanted, filters=where, partitioning=None).to_pylist()
    filters = path.parent.parent / "filters" / path.name
    table = pq.read_table(filters, columns=["layer", "index", "score"], filters=where, partitioning=None)
    return {**table.to_pydict(), "skipped": row["skipped"] or [], "refit": row["refit"]}


def _filter_table(pa: Any, records: Iterable[Record]) -> Any:
    """Return the table of filters: identifiers and names as dictionaries, since they repeat."""
    columns: dict[str, list[Any]] = {"case": []}
    for record in records:
        rows = record.get("filters") or {}
        size = len(rows.get("layer", ()))
        before = len(columns["case"])
        columns["case"] += [record["id"]] * size
        for name, values in rows.items():
            columns.setdefault(name, [None] * before).extend(values)
        for values in columns.values():
            values.extend([None] * (before + size - len(values)))
    for name in FILTERS:
        columns.setdefault(name, [])
    made = {}
    for name, values in columns.items():
        if name in ("case", "layer", "label"):
            made[name] = pa.array(values, pa.string()).dictionary_encode()
        else:
            made[name] = pa.array(values, FILTERS.get(name, "double"))
    return pa.table(made)


def _column(pa: Any, name: str, values: list[Any]) -> Any:
    """Return a column with a type that is the same in every part: numbers are doubles but for counts."""
    present = [value for value in values if value is not None]
    first = present[0] if present else None
    if name in TEXT_COLUMNS or name in ("error", "error_type") or isinstance(first, str):
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if name in WHOLE_COLUMNS:
        return pa.array(values, pa.int64())
    if isinstance(first, bool):
        return pa.array(values, pa.bool_())
    if isinstance(first, list):
        inner = next((one for value in present for one in value if one is not None), None)
        kind = pa.string() if isinstance(inner, str) or name == "skipped" else pa.float64()
        return pa.array([value and [_number(one) for one in value] for value in values], pa.list_(kind))
    return pa.array(values, pa.null() if first is None else pa.float64())


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, (bool, int)) else value


def _encoded(table: Any) -> bytes:
    pq = import_extra("pyarrow.parquet", purpose="The tables of a study need")
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", write_page_checksum=True)
    return stream.getvalue()
