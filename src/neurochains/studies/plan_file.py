"""Plans as TOML files: their values, and the line on which each key stands, for messages.

Lines are found by reading the file once more, line by line: headers in brackets say in which table the keys below them
lie. Keys inside an inline table have the line on which the table begins.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from neurochains.errors import ArtifactError, SettingsError
from neurochains.studies.checks import Key

__all__ = ["key_lines", "read_toml"]

_HEADER = re.compile(r"^\s*(\[\[?)\s*([A-Za-z0-9_.\-\"' ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"""^\s*((?:[A-Za-z0-9_\-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_\-]+|"[^"]*"|'[^']*'))*)\s*=""")


def read_toml(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the values of a TOML file and the lines of its keys.

    Raises:
        ArtifactError: the file cannot be read.
        SettingsError: it is no TOML; says on which line. Or Python 3.10 has no tomli.
    """
    library = _toml()
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ArtifactError(f"The plan {path} cannot be read: {error.strerror}. Name a TOML file.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is no text in UTF-8, so it is no plan. Name a TOML file.") from error
    try:
        return library.loads(text), key_lines(text)
    except library.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not TOML: {error}. See docs/studies.md for a plan that is.") from error


def key_lines(text: str) -> dict[Key, int]:
    """Return the line, counted from 1, on which each key and each table of a TOML text stands.

    >>> key_lines(chr(10).join(["seeds = [0]", "[[models]]", "model = 'shapes:vgg'"]))
    {('seeds',): 1, ('models', 0): 2, ('models', 0, 'model'): 3}
    """
    lines: dict[Key, int] = {}
    counts: dict[str, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header:
            table = _table(header[2], counts, array=header[1] == "[[")
            lines.setdefault(table, number)
        elif key:
            lines.setdefault((*table, *_parts(key[1])), number)
    return lines


def _table(name: str, counts: dict[str, int], *, array: bool) -> Key:
    """Return the way to the table that a header opens; tables of one array are counted."""
    parts = _parts(name)
    if not array:
        return parts
    counts[name] = counts.get(name, -1) + 1
    return (*parts, counts[name])


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in name.split("."))


def _toml() -> ModuleType:
    """Return the library that reads TOML: Python's own from 3.11 on."""
    try:
        return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ModuleNotFoundError as error:
        raise SettingsError(
            "Python 3.10 reads plans with tomli, which is not installed. Install it with: "
            "pip install 'neurochains[study]'; or give the plan as Python objects."
        ) from error
