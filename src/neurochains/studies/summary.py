"""A study in a few lines: for each model, method and settings, how many cases, and medians."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from neurochains.studies.tables import read_tables

__all__ = ["summarise"]


def summarise(folder: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Return one row for each model, method and settings of a study: ``done``, ``failed``, and medians over the done.

    The medians are ``filters``, ``share`` (of all filters), ``kl``, ``agreement`` and ``seconds``; None where nothing
    is known.

    Raises:
        ArtifactError: no study is there, or a file of it is damaged.
    """
    cases = read_tables(folder).cases
    wanted = ["model", "method", "settings", "status", "filters", "of", "kl", "agreement", "seconds"]
    rows = cases.select([name for name in wanted if name in cases.column_names]).to_pylist()
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["model"], row["method"], row["settings"] or ""), []).append(row)
    return [_summary(key, groups[key]) for key in sorted(groups)]


def _summary(key: tuple[str, str, str], rows: list[dict[str, Any]]) -> dict[str, Any]:
    done = [row for row in rows if row["status"] == "done"]
    names = dict(zip(("model", "method", "settings"), key, strict=True))
    counts = {"done": len(done), "failed": len(rows) - len(done)}
    shares = [row["filters"] / row["of"] for row in done if row.get("of")]
    medians = {name: _median([row.get(name) for row in done]) for name in ("filters", "kl", "agreement", "seconds")}
    return {**names, **counts, **medians, "share": _median(shares)}


def _median(values: list[Any]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
