from __future__ import annotations

import errno
import os

import pytest
import torch
import typer

import neurochains.errors
from neurochains.cli.failures import report_failure
from neurochains.errors import NeuroChainsError, ParityError

DELIBERATE = [getattr(neurochains.errors, name) for name in neurochains.errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("kind", DELIBERATE)
def test_deliberate_errors_say_themselves_what_to_do(kind, capsys):
    assert report_failure(kind("No such thing. Did you mean that?")) == (1 if kind is ParityError else 2)
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "error: No such thing. Did you mean that?"
    assert all("Traceback" not in line for line in rest)


def test_a_usage_error_shows_the_usage_of_the_command(capsys):
    assert report_failure(typer.BadParameter("no number")) == 2
    assert "error: " in capsys.readouterr().err


def test_a_full_disk_is_recognised_under_other_errors(capsys):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "page.html")
    wrapped = RuntimeError("unexpected")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        assert report_failure(error) == 2
        assert capsys.readouterr().err.startswith("error: There is no space left for page.html. Make room")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce] can't allocate memory: 4 TB"),
    ],
)
def test_a_full_memory_has_a_remedy(error, capsys):
    assert report_failure(error) == 1
    assert "Take fewer images (--per-class)" in capsys.readouterr().err


def test_the_unexpected_is_one_line_and_a_hint(capsys):
    assert report_failure(ZeroDivisionError("division by zero\nand more")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "error: ZeroDivisionError: division by zero",
        "hint: run the same command with --debug to see the traceback",
    ]


def test_debug_shows_the_traceback_first(capsys):
    with pytest.raises(NeuroChainsError) as caught:
        raise NeuroChainsError("wrong")
    assert report_failure(caught.value, debug=True) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Traceback")
    assert lines[-1] == "error: wrong"
