"""What went wrong, in words, and the exit code that goes with it.

- a `NeuroChainsError` says itself what to do and ends with its own code: 2, or 1 where the fault is ours;
- a usage error ends with 2, after the usage of the command;
- a full disk and a full memory have a remedy, however deep they happened;
- everything else is unexpected: one line, code 1, and how to see the traceback.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Iterator

import typer

from neurochains.cli.console import tell
from neurochains.errors import NeuroChainsError

__all__ = ["report_failure"]

_FAILED, _BAD_INPUT = 1, 2
_FULL = (errno.ENOSPC, errno.EDQUOT)
_USAGE_ERROR = typer.BadParameter.__mro__[1]  # of click, or of the copy of it that newer versions of typer carry


def report_failure(error: Exception, *, debug: bool = False) -> int:
    """Return the exit code for an error, after a message about it on stderr.

    Args:
        error: what ended the command.
        debug: show the traceback before the message.
    """
    if isinstance(error, _USAGE_ERROR):
        return _show_usage(error)
    if debug:
        traceback.print_exception(error)
    message, code = _described(error)
    tell(f"error: {message}")
    if code == _FAILED and not debug:
        tell("hint: run the same command with --debug to see the traceback")
    return code


def _show_usage(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        return _BAD_INPUT
    if context is not None:
        tell(f"{context.get_usage()}\nTry '{context.command_path} --help' for all options.\n")
    tell(f"error: {error.format_message()}")  # pyright: ignore[reportAttributeAccessIssue]
    return _BAD_INPUT


def _described(error: Exception) -> tuple[str, int]:
    """Return the message and the exit code of an error."""
    if isinstance(error, NeuroChainsError):
        return str(error), error.exit_code
    causes = list(_causes(error))
    full = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno in _FULL), None)
    if full is not None:
        where = f" for {full.filename}" if full.filename else ""
        return f"There is no space left{where}. Make room, or write to another disk with --out.", _BAD_INPUT
    if any(_is_out_of_memory(cause) for cause in causes):
        return "The memory does not suffice. Take fewer images (--per-class) or another --device.", _FAILED
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}", _FAILED


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _is_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # not imported here: an error may come before any command does
    accelerator = getattr(torch, "OutOfMemoryError", None)
    if isinstance(error, MemoryError) or (accelerator is not None and isinstance(error, accelerator)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
