from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurochains.chains import OBJECTIVES
from neurochains.chains.objectives import find_objective
from neurochains.errors import SettingsError

OUTPUTS, ORIGINAL = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_the_names_are_pinned():
    assert list(OBJECTIVES) == ["kl", "mse", "cosine"]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_is_0_for_the_same_outputs_and_positive_for_others(name):
    objective = OBJECTIVES[name]
    assert objective(ORIGINAL, ORIGINAL).shape == (5,)
    torch.testing.assert_close(objective(ORIGINAL, ORIGINAL), torch.zeros(5, dtype=torch.float64))
    assert (objective(OUTPUTS, ORIGINAL) > 0).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_has_gradients_where_the_outputs_are_the_same(name):
    outputs = ORIGINAL.clone().requires_grad_()
    OBJECTIVES[name](outputs, ORIGINAL).sum().backward()
    assert outputs.grad.isfinite().all()


def test_kl_is_equation_5_written_out():
    p, q = ORIGINAL.softmax(1), OUTPUTS.softmax(1)
    wanted = torch.tensor([sum(p[n, k] * (p[n, k] / q[n, k]).log() for k in range(4)) for n in range(5)])
    torch.testing.assert_close(OBJECTIVES["kl"](OUTPUTS, ORIGINAL), wanted)


def test_kl_is_in_nats_and_not_symmetric():
    certain, even = torch.tensor([[50.0, 0.0]]), torch.zeros(1, 2)
    assert float(OBJECTIVES["kl"](even, certain)) == pytest.approx(0.6931, abs=1e-4)
    assert float(OBJECTIVES["kl"](certain, even)) == pytest.approx(25 - 0.6931, abs=1e-3)


@given(st.floats(-20, 20))
def test_kl_does_not_see_what_all_logits_share(shift):
    torch.testing.assert_close(OBJECTIVES["kl"](OUTPUTS + shift, ORIGINAL), OBJECTIVES["kl"](OUTPUTS, ORIGINAL))


def test_the_squared_error_is_relative_to_the_variance_of_the_original():
    wanted = (OUTPUTS - ORIGINAL).square().mean(1) / ORIGINAL.var(0, unbiased=False).mean()
    torch.testing.assert_close(OBJECTIVES["mse"](OUTPUTS, ORIGINAL), wanted)
    torch.testing.assert_close(OBJECTIVES["mse"](3 * OUTPUTS, 3 * ORIGINAL), wanted)
    assert OBJECTIVES["mse"](OUTPUTS[:1], ORIGINAL[:1]).isfinite().all()


def test_the_cosine_does_not_see_the_length():
    wanted = 1 - (OUTPUTS * ORIGINAL).sum(1) / (OUTPUTS.norm(dim=1) * ORIGINAL.norm(dim=1))
    torch.testing.assert_close(OBJECTIVES["cosine"](5 * OUTPUTS, ORIGINAL), wanted)
    assert OBJECTIVES["cosine"](-ORIGINAL, ORIGINAL).tolist() == pytest.approx([2.0] * 5)


def test_objectives_are_found_by_name_and_callables_are_their_own():
    assert find_objective("mse") is OBJECTIVES["mse"]
    assert find_objective(len) is len
    with pytest.raises(SettingsError, match=r"'kld'; there are kl, mse, cosine, or any callable.*Did you mean kl\?"):
        find_objective("kld")
