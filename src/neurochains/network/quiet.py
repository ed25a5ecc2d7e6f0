"""Running torch.export without its messages: what matters of them is in the error that is raised."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings, torch's log and what it writes to stderr; all is as before afterwards."""
    levels = {handler: handler.level for handler in _handlers()}
    try:
        for handler in levels:
            handler.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for handler, level in levels.items():
            handler.setLevel(level)


def _handlers() -> Iterator[logging.Handler]:
    """Yield what writes the messages of torch and its parts."""
    for name in ("torch", *logging.root.manager.loggerDict):
        if name.partition(".")[0] == "torch":
            yield from logging.getLogger(name).handlers
