"""The results of a study on disk, while it runs: what is finished, one more, and the parts they are put into."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from neurochains.errors import ArtifactError
from neurochains.studies.parts import part_files, part_ids, read_base, write_part
from neurochains.studies.store import DamagedError, read_record, write_record

__all__ = ["Results", "base_of"]

PART = 256
"""Finished cases that are put into one part."""

PENDING = -1
_log = logging.getLogger(__name__)


class Results:
    """The results in a study's folder; one process at a time holds them (`neurochains.studies.store.lock`).

    Opening sets damaged files aside, under their names and ``.damaged``, says so in the log, and forgets their cases,
    so that they are run again.

    Attributes:
        finished: the identifiers of finished cases, and the number of the part that holds each, or -1.
        failed: those of cases that ended with an error.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.finished: dict[str, int] = {}
        self.failed: set[str] = set()
        self._parts: list[Path] = []
        for path in folder.glob("*/.*.part"):
            path.unlink(missing_ok=True)  # what a process left that was killed while it wrote
        for path in part_files(folder):
            self._take_part(path)
        self._take_pending()
        self._take_failed()

    def add(self, record: Mapping[str, Any]) -> None:
        """Write the result of a case; every so often, put those that are finished into a part.

        Raises:
            ArtifactError: there is no space left, or it cannot be written.
        """
        case = record["id"]
        failed = self.folder / "failed" / f"{case}.json"
        if record["status"] != "done":
            write_record(failed, record)
            self.failed.add(case)
            return
        write_record(self.folder / "pending" / f"{case}.json", record)
        self.finished[case] = PENDING
        if case in self.failed:
            self.failed.discard(case)
            failed.unlink(missing_ok=True)
        if sum(1 for _ in self._pending()) >= PART:
            self.compact()

    def base(self, case: str) -> dict[str, Any]:
        """Return the sub-network of a finished case: what another case of its size needs to know."""
        part = self.finished[case]
        if part == PENDING:
            return base_of(read_record(self.folder / "pending" / f"{case}.json"))
        return read_base(self._parts[part], case)

    def error(self, case: str) -> str:
        """Return what a failed case ended with."""
        with suppress(DamagedError):
            return str(read_record(self.folder / "failed" / f"{case}.json")["error"])
        return "its record is damaged"

    def compact(self) -> None:
        """Put all finished cases that are in no part into one.

        Raises:
            ArtifactError: there is no space left, or it cannot be written.
        """
        paths = sorted(self._pending())
        for start in range(0, len(paths), PART):
            some = paths[start : start + PART]
            write_part(self.folder, [read_record(path) for path in some])
            self._parts = part_files(self.folder)
            for path in some:
                self.finished[path.stem] = len(self._parts) - 1
                path.unlink()

    def check_plan(self, cases: Iterable[str]) -> None:
        """Check that all results are of cases of a plan.

        Raises:
            ArtifactError: some are not.
        """
        strange = {*self.finished, *self.failed}.difference(cases)
        if strange:
            raise ArtifactError(
                f"{self.folder} holds the results of another plan: {len(strange)} of {len(self.finished)} finished and "
                f"{len(self.failed)} failed cases are none of this one, such as {min(strange)}. Choose another folder, "
                "or run the plan that they are of; a plan that only grew may go on in the same folder."
            )

    def _pending(self) -> Iterable[Path]:
        return (self.folder / "pending").glob("*.json")

    def _take_part(self, path: Path) -> None:
        try:
            ids = part_ids(path)
        except DamagedError:
            filters = self.folder / "filters" / path.name
            for damaged in (path, filters):
                _set_aside(damaged)
            _log.warning("%s is damaged and was set aside; its cases are run again", path)
            return
        self._parts.append(path)
        self.finished.update(dict.fromkeys(ids, len(self._parts) - 1))

    def _take_pending(self) -> None:
        for path in list(self._pending()):
            if path.stem in self.finished:  # put into a part by a process that was then killed
                path.unlink()
                continue
            try:
                if read_record(path)["id"] != path.stem:
                    raise DamagedError(str(path))
            except (DamagedError, KeyError):
                _set_aside(path)
                _log.warning("%s is damaged and was set aside; its case is run again", path)
                continue
            self.finished[path.stem] = PENDING

    def _take_failed(self) -> None:
        for path in (self.folder / "failed").glob("*.json"):
            if path.stem in self.finished:
                path.unlink()
            else:
                self.failed.add(path.stem)


def base_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sub-network in a record: what another case of its size needs to know."""
    filters, row = record["filters"], record["row"]
    chosen = {key: filters[key] for key in ("layer", "index", "score")}
    return {**chosen, "skipped": row.get("skipped") or [], "refit": row.get("refit")}


def _set_aside(path: Path) -> None:
    if path.exists():
        path.replace(path.with_name(f"{path.name}.damaged"))
