from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurochains.decoupling.controller import Controller, hash_codes, saturating_sigmoid


def literal(controller, maps):
    """Section 3.2 of the method, one image and one filter at a time."""
    codes = []
    for image in maps:
        pooled = [float(channel.mean()) for channel in image]
        hidden = [
            max(0.0, sum(w * p for w, p in zip(row, pooled, strict=True)) + b)
            for row, b in zip(controller.squeeze.weight.tolist(), controller.squeeze.bias.tolist(), strict=True)
        ]
        votes = [
            sum(w * h for w, h in zip(row, hidden, strict=True)) + b
            for row, b in zip(controller.expand.weight.tolist(), controller.expand.bias.tolist(), strict=True)
        ]
        codes.append([1.0 if vote > 0 else 0.0 for vote in votes])
    return torch.tensor(codes, dtype=torch.float64)


def moody(inputs=8, filters=6, **options):
    controller = Controller(inputs, filters, **options).double().eval()
    torch.nn.init.normal_(controller.expand.weight, std=3.0)
    torch.nn.init.normal_(controller.expand.bias)
    return controller


def test_codes_are_those_of_the_formula():
    controller, maps = moody(), torch.randn(5, 8, 3, 4, dtype=torch.float64)
    codes = controller(maps)
    assert torch.equal(codes, literal(controller, maps))
    assert 0 < codes.mean() < 1
    assert controller.squeeze.out_features == 2  # a quarter


def test_eval_is_deterministic_and_training_is_not():
    controller, maps = moody(), torch.randn(5, 8, 3, 3, dtype=torch.float64)
    assert torch.equal(controller(maps), controller(maps))
    controller.train()
    assert not torch.equal(controller(maps), controller(maps))


def test_all_gates_start_open():
    controller = Controller(64, 1000).eval()
    votes = controller.votes(torch.rand(50, 64))
    assert bool((votes > 0).all())
    open_in_training = float((votes + torch.randn_like(votes) > 0).double().mean())
    assert open_in_training == pytest.approx(0.977, abs=0.01)


@given(st.floats(-8, 8))
def test_the_smooth_code_is_clipped_and_dead_outside(vote):
    votes = torch.tensor([vote], dtype=torch.float64, requires_grad=True)
    smooth = saturating_sigmoid(votes)
    expected = min(1.0, max(0.0, 1.2 / (1 + math.exp(-vote)) - 0.1))
    assert smooth.item() == pytest.approx(expected)
    smooth.sum().backward()
    assert (float(votes.grad) == 0) == (abs(vote) > math.log(11))


def test_half_of_the_images_are_binary_as_a_whole():
    votes = torch.zeros(4000, 16)
    codes = hash_codes(votes)
    binary = ((codes == 0) | (codes == 1)).all(1)
    assert float(binary.double().mean()) == pytest.approx(0.5, abs=0.03)
    assert float(codes[binary].mean()) == pytest.approx(0.5, abs=0.02)


def test_gradients_always_go_through_the_smooth_code():
    votes = torch.zeros(2000, 4, dtype=torch.float64, requires_grad=True)
    codes = hash_codes(votes)
    codes.sum().backward()
    binary = ((codes == 0) | (codes == 1)).all(1)
    live = votes.grad[binary] > 0
    assert 0.97 < float(live.double().mean()) <= 1  # |noise| < ln 11
    assert float(votes.grad.max()) == pytest.approx(0.3, abs=0.01)  # 1.2 s (1 - s) at 0


def test_settled_filters_do_not_ask_the_image():
    controller, maps = moody(), torch.randn(5, 8, 3, 3, dtype=torch.float64)
    free = controller(maps)
    controller.settled.copy_(torch.tensor([1, -1, 0, 0, 0, 0]))
    for mode in (True, False):
        codes = controller.train(mode)(maps)
        assert torch.equal(codes[:, 0], torch.ones(5, dtype=torch.float64))
        assert not codes[:, 1].any()
    assert torch.equal(codes[:, 2:], free[:, 2:])


def test_keep_one_opens_the_likeliest():
    controller = moody(keep_one=True)
    votes = torch.tensor([[-3.0, -1.0, -2.0], [1.0, -1.0, 2.0]])
    assert controller.binary(votes).tolist() == [[False, True, False], [True, False, True]]
    assert not moody().binary(votes)[0].any()


def test_surrogate_gradients_leave_the_code_as_it_is():
    controller = moody()
    maps = torch.randn(5, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    plain = controller(maps)
    assert not torch.autograd.grad(plain.sum() + 0 * maps.sum(), maps)[0].any()
    controller.surrogate = True
    shown = controller(maps)
    assert torch.equal(plain, shown)
    assert torch.autograd.grad(shown.sum(), maps)[0].any()


def test_without_hashing_the_codes_of_training_are_those_of_inference_with_a_gradient():
    controller, maps = moody(), torch.randn(16, 8, 3, 3)
    wanted = controller.eval()(maps)
    controller.hashing = False
    code = controller.train()(maps)
    assert torch.equal(code.detach(), wanted)
    code.sum().backward()
    assert float(controller.expand.weight.grad.abs().sum()) > 0


def test_under_autocast_the_votes_are_not_rounded():
    controller = Controller(8, 6).eval()
    maps = torch.randn(2, 8, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert controller(maps.bfloat16()).dtype == torch.float32
