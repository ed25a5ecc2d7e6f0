from __future__ import annotations

import io
import json
import logging
import sys

import pytest
import typer

from neurochains.cli.console import (
    errors_console,
    forgive_encoding,
    is_watched,
    results_console,
    show_logs,
    tell,
    working,
    write_json,
)


def pretend_terminal(monkeypatch):
    """Make stderr look like a terminal; pytest gives each phase of a test a stream of its own, so no fixture does."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def test_nobody_watches_a_file(capsys):
    assert not is_watched()


def test_colours_and_bars_need_a_terminal_that_wants_them(monkeypatch):
    pretend_terminal(monkeypatch)
    assert is_watched()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_watched()
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not is_watched()


def test_messages_are_coloured_on_terminals_only(capsys, monkeypatch):
    pretend_terminal(monkeypatch)
    tell("error: [bold]not[/bold] markup")
    assert "\x1b[" in (coloured := capsys.readouterr().err)
    assert "[bold]not[/bold] markup" in coloured


def test_messages_are_plain_and_whole_elsewhere(capsys):
    tell("error: " + 200 * "long ")
    tell("model: x")
    assert capsys.readouterr().err == "error: " + 200 * "long " + "\nmodel: x\n"


def test_json_is_the_only_thing_on_stdout_and_has_no_nan(capsys):
    write_json({"kl": float("nan"), "name": "é", "shape": (1, 2)})
    assert json.loads(capsys.readouterr().out) == {"kl": None, "name": "é", "shape": [1, 2]}


def test_what_others_print_during_the_work_goes_to_stderr(capsys):
    with working("nothing"):
        sys.stdout.write("loading\n")
    assert capsys.readouterr() == ("", "loading\n")


def test_an_interrupt_says_what_was_kept(capsys):
    with pytest.raises(typer.Exit) as caught, working("runs/a is as it was."):
        raise KeyboardInterrupt
    assert caught.value.exit_code == 130
    assert capsys.readouterr().err == "interrupted: runs/a is as it was.\n"


def test_logs_of_the_package_go_to_stderr_once(capsys):
    logger = logging.getLogger("neurochains")
    before = (logger.level, list(logger.handlers), logger.propagate)
    try:
        show_logs(logging.WARNING)
        show_logs(logging.WARNING)
        logging.getLogger("neurochains.data").warning("%d files are ignored", 3)
        logging.getLogger("neurochains.data").info("not shown")
    finally:
        logger.level, logger.handlers, logger.propagate = before
    assert capsys.readouterr().err == "warning: 3 files are ignored\n"


def test_tables_in_files_are_as_wide_as_they_need(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert results_console().width >= 160
    monkeypatch.setenv("COLUMNS", "70")
    assert results_console().width == 70
    assert errors_console().stderr


def test_a_stream_that_cannot_encode_escapes(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    forgive_encoding()
    stream.write("é")
    stream.flush()
    assert stream.buffer.getvalue() == b"\\xe9"
