"""Values as JSON knows them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Return a value that JSON can hold: arrays as lists, NaN and infinity as None, what it does not know as text.

    >>> plain({"kl": float("nan"), 3: (1, 2.5), "task": None})
    {'kl': None, '3': [1, 2.5], 'task': None}
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (Sequence, set, frozenset)) and not isinstance(value, (bytes, bytearray)):
        return [plain(entry) for entry in value]
    return str(value)
