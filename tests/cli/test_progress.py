from __future__ import annotations

import io

import pytest
from rich.console import Console

from neurochains.cli import progress as module
from neurochains.cli.progress import describe, duration, extraction_progress
from neurochains.extraction import Progress


def report(stage="pruning", step=3, *, divergence=0.0341, filters=1520, left=75.0) -> Progress:
    return Progress(stage, step, 10, divergence, filters, left)


def test_a_report_in_numbers():
    assert describe(report(), "KL") == "KL 0.0341 · 1,520 filters · 1 min 15 s left"


def test_what_is_not_known_is_left_out():
    assert describe(report(divergence=float("nan"), left=None), "KL") == "1,520 filters"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (9.96, "10.0 s"),
        (59.6, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7260, "2 h 1 min"),
        (None, "unknown"),
    ],
)
def test_times_in_words(seconds, words):
    assert duration(seconds) == words


def test_a_log_gets_a_line_a_stage_and_one_each_half_minute(capsys):
    times = iter([0.0, 1.0, 31.0, 32.0])
    lines = module._Lines("KL", clock=lambda: next(times))
    for step, stage in enumerate(("tuning", "tuning", "tuning", "pruning")):
        lines(report(stage, step))
    assert [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()] == [
        "tuning 0/10",
        "tuning 2/10",
        "pruning 3/10",
    ]


def test_quiet_shows_nothing():
    with extraction_progress(quiet=True) as follow:
        assert follow is None


def test_a_terminal_gets_a_bar_that_leaves_no_trace(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(module, "is_watched", lambda: True)
    monkeypatch.setattr(module, "errors_console", lambda: Console(file=screen, force_terminal=True, width=120))
    with extraction_progress(name="KL") as follow:
        follow(report("pruning", 3))
        follow(report("refitting", 9, divergence=0.05))
    drawn = screen.getvalue()
    assert "refitting" in drawn
    assert "90%" in drawn
    assert "KL 0.05 · 1,520 filters" in drawn
    assert drawn.rstrip().endswith("\x1b[2K")  # the last line is erased


def test_a_file_gets_no_bar(capsys):
    with extraction_progress() as follow:
        follow(report())
    assert capsys.readouterr().err == "pruning 3/10: KL 0.0341 · 1,520 filters · 1 min 15 s left\n"
