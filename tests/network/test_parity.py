"""Parity of two sets of logits."""

from __future__ import annotations

import math

import pytest
import torch

from neurochains.errors import DataError, ParityError
from neurochains.network.parity import Parity, measure_parity


def test_the_difference_is_relative_to_the_range():
    parity = measure_parity(torch.tensor([[0.0, 4.0]]), torch.tensor([[0.5, 4.0]]))
    assert parity == Parity(0.5, 4.0)
    assert parity.relative == 0.125


def test_logits_that_are_all_one_number_are_compared_with_its_size():
    assert measure_parity(torch.tensor([[2.0]]), torch.tensor([[3.0]])).relative == 0.5
    assert measure_parity(torch.zeros(1, 2), torch.zeros(1, 2)).relative == 0
    assert measure_parity(torch.zeros(1, 2), torch.ones(1, 2)).relative == math.inf


def test_the_check_lets_small_differences_pass_and_raises_on_others():
    small = Parity(1e-5, 1.0)
    assert small.check() is small
    for bad in (Parity(2e-4, 1.0), Parity(math.nan, 1.0), Parity(1.0, 0.0)):
        with pytest.raises(ParityError, match=r"differs from the original by .* at most 0\.0001 was allowed"):
            bad.check()


def test_logits_of_different_shapes_are_refused():
    with pytest.raises(DataError, match=r"\(1, 2\) cannot be compared with \(1, 3\)"):
        measure_parity(torch.zeros(1, 2), torch.zeros(1, 3))
