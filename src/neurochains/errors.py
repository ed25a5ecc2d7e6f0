"""The errors that NeuroChains raises on purpose.

Every one is a `NeuroChainsError` and the fitting builtin, so both `except nc.NeuroChainsError` and
`except ValueError` work. A message says what was wanted, what came and what to do about it::

    NeuroChainsError
    ├── SettingsError (ValueError)         an option has a value it cannot have
    │   └── ExpressionError                an expression over images and classes cannot be read
    ├── ModelError (ValueError)            a model cannot be used as it is
    │   ├── ModelNameError (LookupError)   a model name means nothing; lists the nearest names
    │   ├── TraceError (RuntimeError)      torch.export cannot follow the model
    │   └── WeightsError                   weights are missing, of another shape, not finite or unsafe
    ├── LayerError (LookupError)           a layer or filter name means nothing; lists the nearest
    ├── DataError (ValueError)             the images or labels cannot be used
    │   ├── ImageError                     one image file cannot be read safely
    │   └── ClassNameError (LookupError)   a class name means nothing; lists the nearest
    ├── FidelityError (ValueError)         no sub-network keeps the fidelity that was asked for
    ├── ParityError (ArithmeticError)      a rewritten network differs from the one it came from
    ├── TrainingError (ArithmeticError)    a training diverged
    └── ArtifactError (OSError)            a saved result cannot be read or written
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArtifactError",
    "ClassNameError",
    "DataError",
    "ExpressionError",
    "FidelityError",
    "ImageError",
    "LayerError",
    "ModelError",
    "ModelNameError",
    "NeuroChainsError",
    "ParityError",
    "SettingsError",
    "TraceError",
    "TrainingError",
    "WeightsError",
    "did_you_mean",
]

_SHOWN = 100  # characters of an expression that a message shows


class NeuroChainsError(Exception):
    """The root of every deliberate error; `exit_code` is what the command line ends with."""

    exit_code = 2

    def __str__(self) -> str:  # LookupError would show the message quoted
        return str(self.args[0]) if self.args else ""


class SettingsError(NeuroChainsError, ValueError):
    """An option has a value it cannot have."""


class ExpressionError(SettingsError):
    """An expression over images and classes cannot be read, or has no value; the message points to the place.

    Attributes:
        message: what is wrong, without the expression.
        text: the expression; "" where it is not known.
        start: where in it, counted from 0; None where no one place is wrong.
        end: one past the end of that place.
    """

    def __init__(self, message: str, *, text: str = "", start: int | None = None, end: int | None = None) -> None:
        self.message, self.text, self.start, self.end = message, text, start, end
        super().__init__(f"{message}{_pointer(text, start, end)}")


class ModelError(NeuroChainsError, ValueError):
    """A model cannot be used as it is."""


class ModelNameError(ModelError, LookupError):
    """A model name means nothing; the message lists the nearest names."""


class TraceError(ModelError, RuntimeError):
    """torch.export cannot follow the model; the message names the line it stopped at."""


class WeightsError(ModelError):
    """Weights are missing, unexpected, of another shape, not finite or unsafe to load."""


class LayerError(NeuroChainsError, LookupError):
    """A layer or filter name means nothing; the message lists the nearest names."""


class DataError(NeuroChainsError, ValueError):
    """The images or labels cannot be used."""


class ImageError(DataError):
    """One image file cannot be read, or not safely."""


class ClassNameError(DataError, LookupError):
    """A class name means nothing; the message lists the nearest names."""


class FidelityError(NeuroChainsError, ValueError):
    """No sub-network keeps the fidelity that was asked for."""


class ParityError(NeuroChainsError, ArithmeticError):
    """A rewritten network does not compute what it was rewritten from."""

    exit_code = 1


class TrainingError(NeuroChainsError, ArithmeticError):
    """A training diverged; the network is as it was after the last good epoch."""


class ArtifactError(NeuroChainsError, OSError):
    """A saved result cannot be read or written."""


def _pointer(text: str, start: int | None, end: int | None) -> str:
    """Return lines with the text around a place and carets under it."""
    if not text:
        return ""
    if start is None:
        return f"\n  {_line(text[:_SHOWN])}"
    first = max(0, start - _SHOWN // 2)
    carets = "^" * min(max(1, (end or start) - start), _SHOWN - (start - first))
    return f"\n  {_line(text[first : first + _SHOWN])}\n  {' ' * (start - first)}{carets} position {start + 1}"


def _line(text: str) -> str:
    """Return a text on one line, every character one wide."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def did_you_mean(name: str, known: Iterable[str], *, most: int = 5) -> str:
    """Return ``"Did you mean a, b?"`` with the known names nearest to ``name``, or ``""`` if none is near.

    >>> did_you_mean("layer4.0.conv", ["layer4.0.conv1", "fc"])
    'Did you mean layer4.0.conv1?'
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    nearest = difflib.get_close_matches(name.casefold(), folded, n=most, cutoff=0.6)
    inside = [key for key in folded if name.casefold() in key and key not in nearest]
    names = [folded[key] for key in (nearest + inside)[:most]]
    return f"Did you mean {', '.join(names)}?" if names else ""
