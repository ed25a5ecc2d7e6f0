"""The libraries that only studies need, imported when they are."""

from __future__ import annotations

import importlib
from types import ModuleType

from neurochains.errors import SettingsError

__all__ = ["import_extra"]


def import_extra(name: str, *, purpose: str) -> ModuleType:
    """Return an optional library.

    Args:
        name: of the module, such as ``"pyarrow.parquet"``.
        purpose: what it is needed for, as the beginning of a sentence.

    Raises:
        SettingsError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise SettingsError(
            f"{purpose} {library}, which is not installed or cannot be imported ({error}). "
            "Install it with: pip install 'neurochains[study]'."
        ) from error
