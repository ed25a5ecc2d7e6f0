from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from neurochains.chains.plain import plain


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (np.float32(0.5), 0.5),
        (np.arange(2), [0, 1]),
        (torch.tensor([[1.0, float("nan")]]), [[1.0, None]]),
        (float("-inf"), None),
        ({1: {2}}, {"1": [2]}),
        ((True, None, "a"), [True, None, "a"]),
        (Path("a/b"), "a/b"),
        (b"ab", "b'ab'"),
    ],
)
def test_values_as_json_knows_them(value, wanted):
    assert plain(value) == wanted
    assert type(plain(value)) is type(wanted)
