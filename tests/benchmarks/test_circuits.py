"""The table of the circuits benchmark, and when it passes."""

from __future__ import annotations

import pytest
from benchmarks.circuits import passes, table

from neurochains.circuits import SIZES


def entry(method, keep, pearson, filters=40):
    unseen = None if pearson is None else {"pearson": pearson, "spearman": pearson, "error": 1 - pearson}
    return {"method": method, "keep": keep, "kept": keep, "filters": filters, "given": unseen, "unseen": unseen}


def rows(budget, topk, filters=40):
    methods = [entry("budget", size, budget, filters) for size in SIZES] + [entry("topk", size, topk) for size in SIZES]
    return [{"network": "a", "target": "x[0]", "methods": methods}]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (rows(0.9, 0.5), True),
        (rows(0.9, None), True),
        (rows(0.7, 0.5), False),
        (rows(0.9, 0.95), False),
        (rows(0.9, 0.5, filters=20), False),
        ([], False),
    ],
)
def test_it_passes_where_the_budget_is_ahead_and_good_enough(given, wanted):
    assert passes(given) is wanted


def test_the_table_has_a_line_for_each_method():
    lines = table([*rows(0.9, 0.5), *rows(0.8, None)]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| a (2) | **budget** | 0.850 |")
    assert lines[3].startswith("|  | topk | 0.250 |")
