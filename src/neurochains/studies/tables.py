"""The tables of a study, read back: one row for each case, and one for each filter of each case.

Parts are read as they are, what is not yet in a part is added; each case is in the tables once.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neurochains.errors import ArtifactError, SettingsError
from neurochains.studies.libraries import import_extra
from neurochains.studies.parts import part_files, table_of
from neurochains.studies.store import DamagedError, read_record, read_study_file

__all__ = ["Study", "Tables", "read_study", "read_tables"]


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A study that was read: its plan, and its tables as data frames of pandas or polars.

    Attributes:
        folder: where it is.
        plan: as JSON values.
        cases: one row for each case; ``status`` is ``"done"`` or ``"failed"``, and ``error`` says why.
        filters: one row for each filter of each case, joined to the cases by ``case``.
    """

    folder: Path
    plan: dict[str, Any]
    cases: Any
    filters: Any


@dataclass(frozen=True, slots=True, eq=False)
class Tables:
    """The same as tables of pyarrow."""

    document: dict[str, Any]
    cases: Any
    filters: Any


def read_study(folder: str | os.PathLike[str], *, frame: Literal["pandas", "polars"] = "pandas") -> Study:
    """Return a study's plan and tables; it may still be running.

    Args:
        folder: what `run_study` wrote to.
        frame: the library whose data frames the tables become.

    Raises:
        SettingsError: there is no such library, or it is not installed.
        ArtifactError: no study is there, or a file of it is damaged; names it.
    """
    if frame not in ("pandas", "polars"):
        raise SettingsError(f"frame must be pandas or polars; got {frame!r}.")
    library = import_extra(frame, purpose=f"frame={frame!r} needs")
    tables = read_tables(folder)
    if frame == "polars":
        cases, filters = library.from_arrow(tables.cases), library.from_arrow(tables.filters)
    else:
        cases, filters = tables.cases.to_pandas(), tables.filters.to_pandas(split_blocks=True)
    return Study(Path(folder), tables.document["plan"], cases, filters)


def read_tables(folder: str | os.PathLike[str]) -> Tables:
    """Return what ``study.json`` says and the tables of a study, as pyarrow has them.

    Raises:
        ArtifactError: no study is there, or a file of it is damaged; names it.
        SettingsError: pyarrow is not installed.
    """
    place = Path(folder)
    document = read_study_file(place)
    if document is None:
        reason = "study.json is missing" if place.is_dir() else "there is no such folder"
        raise ArtifactError(f"{place} holds no study: {reason}. Wanted a folder that run_study wrote to.")
    pa = import_extra("pyarrow", purpose="The tables of a study need")
    cases, filters, ids = [], [], set()
    for path in part_files(place):
        part, rows = _read(path), _read(path.parent.parent / "filters" / path.name)
        ids.update(part.column("case").to_pylist())
        cases.append(part)
        filters.append(rows)
    loose = [record for record in _records(place) if record["id"] not in ids]
    if loose or not cases:
        part, rows = table_of(loose)
        cases.append(part)
        filters.append(rows)
    together = {"promote_options": "permissive"}
    return Tables(
        document, pa.concat_tables(cases, **together), pa.concat_tables(filters, **together).unify_dictionaries()
    )


def _read(path: Path) -> Any:
    pq = import_extra("pyarrow.parquet", purpose="The tables of a study need")
    pa = import_extra("pyarrow", purpose="The tables of a study need")
    try:
        return pq.read_table(path, partitioning=None, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise _damaged(path) from error


def _records(folder: Path) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for part in ("pending", "failed"):
        for path in sorted((folder / part).glob("*.json")):
            if path.stem not in found:
                try:
                    found[path.stem] = read_record(path)
                except DamagedError as error:
                    raise _damaged(path) from error
    return list(found.values())


def _damaged(path: Path) -> ArtifactError:
    return ArtifactError(
        f"{path} is damaged. Run the study again: its cases are then run anew, and nothing else. The file is kept "
        "beside them as .damaged."
    )
