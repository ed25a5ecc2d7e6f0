"""The errors that NeuroChains raises on purpose.

Every one is a `NeuroChainsError` and the fitting builtin, so both `except nc.NeuroChainsError` and
`except ValueError` work. A message says what was wanted, what came and what to do about it::

    NeuroChainsError
    ├── SettingsError (ValueError)         an option has a value it cannot have
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
    └── ArtifactError (OSError)            a saved result cannot be read or written
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ArtifactError",
    "ClassNameError",
    "DataError",
    "FidelityError",
    "ImageError",
    "LayerError",
    "ModelError",
    "ModelNameError",
    "NeuroChainsError",
    "ParityError",
    "SettingsError",
    "TraceError",
    "WeightsError",
    "did_you_mean",
]


class NeuroChainsError(Exception):
    """The root of every deliberate error; `exit_code` is what the command line ends with."""

    exit_code = 2

    def __str__(self) -> str:  # LookupError would show the message quoted
        return str(self.args[0]) if self.args else ""


class SettingsError(NeuroChainsError, ValueError):
    """An option has a value it cannot have."""


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


class ArtifactError(NeuroChainsError, OSError):
    """A saved result cannot be read or written."""


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
