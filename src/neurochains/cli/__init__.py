"""The command line: `neurochains demo | doctor | extract | report | show | onnx`; one file per command.

Results go to stdout, progress and messages to stderr. Exit codes: 0 done, 1 failed, 2 bad usage or input, 130
interrupted. Nothing here imports torch before a command runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

from neurochains.cli.app import main

__all__ = ["main"]
