"""Where torch.export stopped: the line of the user's own code, read from the error."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch

import neurochains

__all__ = ["stopping_line"]

_LIBRARIES = tuple(str(Path(str(module.__file__)).parent) for module in (torch, neurochains))
_STACK = re.compile(r'File "([^"]+)", line (\d+), in \w+\n\s+(.+)')


def stopping_line(error: BaseException) -> str:
    """Return the line of the user's model at which the export stopped, as ``" (at file.py:12: code)"``, or ``""``.

    The innermost frame outside torch and this package; failing that, the last one that the message itself lists.
    """
    frames = [(frame.filename, frame.lineno, frame.line) for frame in traceback.extract_tb(error.__traceback__)]
    for path, line, code in reversed(_STACK.findall(str(error)) + frames):
        if not path.startswith((*_LIBRARIES, "<")):
            return f" (at {path}:{line}: {str(code).strip()})"
    return ""
