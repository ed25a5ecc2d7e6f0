"""The two streams: results on stdout, everything else on stderr, plain where nobody looks."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

__all__ = [
    "INTERRUPTED",
    "errors_console",
    "forgive_encoding",
    "is_watched",
    "results_console",
    "show_logs",
    "tell",
    "working",
    "write_json",
]

INTERRUPTED = 130
_WIDE = 200  # of tables in files and pipes, where no terminal limits them
_STYLES = {"error": "bold red", "warning": "yellow", "hint": "dim"}


def results_console() -> Console:
    """Return the console for results, on stdout; as wide as a result needs where stdout is no terminal."""
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(highlight=False, width=width)


def errors_console() -> Console:
    """Return the console for progress and messages, on stderr."""
    return Console(stderr=True, highlight=False)


def is_watched() -> bool:
    """Return whether stderr is a terminal on which bars and colours are wanted (see no-color.org)."""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def tell(message: str) -> None:
    """Write a message to stderr as it is; its first word is coloured where it says what kind of message it is."""
    kind, colon, rest = message.partition(":")
    if colon and kind in _STYLES and is_watched():
        errors_console().print(Text.assemble((f"{kind}:", _STYLES[kind]), rest), soft_wrap=True)
    else:
        sys.stderr.write(f"{message}\n")


def write_json(value: Any) -> None:
    """Write a value to stdout as JSON; NaN and infinity become null."""
    from neurochains.chains.plain import plain  # it imports torch

    sys.stdout.write(json.dumps(plain(value), indent=2, allow_nan=False) + "\n")


@contextmanager
def working(kept: str) -> Iterator[None]:
    """Inside, what other code prints goes to stderr, and Ctrl-C ends the command.

    Args:
        kept: what is said then about files.
    """
    try:
        with redirect_stdout(sys.stderr):
            yield
    except KeyboardInterrupt:
        tell(f"interrupted: {kept}")
        raise typer.Exit(INTERRUPTED) from None


def forgive_encoding() -> None:
    """Let a stream that cannot encode a character escape it instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


class _ToStderr(logging.Handler):
    """Writes the package's log records to stderr, like other messages."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        tell(f"{record.levelname.lower()}: {record.getMessage()}")


def show_logs(level: int) -> None:
    """Show what the package logs from ``level`` on."""
    logger = logging.getLogger("neurochains")
    logger.setLevel(level)
    logger.handlers = [handler for handler in logger.handlers if not isinstance(handler, _ToStderr)]
    logger.addHandler(_ToStderr())
    logger.propagate = False
