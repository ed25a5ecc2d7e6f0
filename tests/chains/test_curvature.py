from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from neurochains.chains import OBJECTIVES, Scores, curvature
from neurochains.chains.curvature import Curvature, measure_curvature, output_factor, output_slope
from neurochains.chains.live import LiveNetwork
from neurochains.edit import ScoredNetwork
from neurochains.network import Network

IMAGES = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
KL = OBJECTIVES["kl"]


class Tiny(nn.Module):
    """Two convolutions of 4 and 3 filters, with smooth activations, and 5 outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 3, 2), nn.Linear(3, 5)

    def forward(self, images):
        return self.fc(F.silu(self.conv2(F.silu(self.conv1(images)))).mean((2, 3))) * 6


@pytest.fixture(scope="module")
def tiny() -> Network:
    torch.manual_seed(0)
    return Network.trace(Tiny().double().eval(), IMAGES)


@pytest.fixture
def live(tiny) -> LiveNetwork:
    return make(tiny)


def make(network, objective=KL, images=IMAGES) -> LiveNetwork:
    """Return a live network away from the optimum: 6 of 7 units with scores around 1."""
    whole = Scores({layer.name: torch.ones(layer.units, dtype=torch.float64) for layer in network.scored()})
    live = LiveNetwork(network, images, objective, layers=network.scored(), scores=whole)
    live.drop(torch.arange(live.total) == 5)
    live.scores = torch.tensor([1.2, 0.7, 1.1, 0.4, 0.9, 1.3], dtype=torch.float64)
    return live


def measure(live, rows=99, seed=0) -> Curvature:
    return measure_curvature(live, live.scores, rows=rows, generator=torch.Generator().manual_seed(seed))


def outputs_at(live, scores):
    """The outputs at full width, the slow way, as a function of the living units' scores."""
    values = torch.zeros(live.total, dtype=scores.dtype).index_put((live.alive,), scores)
    parts = values.split([layer.units for layer in live.layers])
    units = {layer.name: part for layer, part in zip(live.layers, parts, strict=True)}
    return ScoredNetwork(live.network, layers=live.layers)(live.images, units)[0]


def slopes(live, h=1e-5):
    """dz/ds ``(B, K, n)`` by central differences."""
    steps = h * torch.eye(len(live), dtype=torch.float64)
    columns = [
        (outputs_at(live, live.scores + step) - outputs_at(live, live.scores - step)) / (2 * h) for step in steps
    ]
    return torch.stack(columns, 2)


def literal_gauss_newton(live):
    """``sum_n J_z^T (diag q - q q^T) J_z / N``, image by image."""
    total = torch.zeros(len(live), len(live), dtype=torch.float64)
    for slope, logits in zip(slopes(live), outputs_at(live, live.scores), strict=True):
        q = logits.softmax(0)
        total += slope.T @ (q.diag() - torch.outer(q, q)) @ slope / len(live.images)
    return total


def test_the_rows_are_the_factor_times_the_slopes_of_each_image(live):
    factor, _ = output_factor(KL, live.logits(live.scores), live.original)
    wanted = torch.einsum("brk,bkn->rbn", factor, slopes(live)) / math.sqrt(len(IMAGES))
    torch.testing.assert_close(measure(live).jacobian, wanted.flatten(0, 1), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rows", [5, 6, 99])
def test_with_rows_for_all_outputs_it_is_the_gauss_newton_matrix(live, rows):
    jacobian = measure(live, rows).jacobian
    torch.testing.assert_close(jacobian.T @ jacobian, literal_gauss_newton(live), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("rows", [1, 3])
def test_with_fewer_rows_it_is_right_on_average(live, rows):
    draws = [measure(live, rows, seed).jacobian for seed in range(200)]
    assert draws[0].shape == (rows * len(IMAGES), len(live))
    mean = torch.stack([draw.T @ draw for draw in draws]).mean(0)
    wanted = literal_gauss_newton(live)
    one = (draws[0].T @ draws[0] - wanted).norm() / wanted.norm()
    assert (mean - wanted).norm() / wanted.norm() < 0.1
    assert one > 0.01  # a single draw is not: it is the average that does it


def test_the_first_row_is_where_the_outputs_are_off(live):
    whole, few = measure(live, 99), measure(live, 3, seed=4)
    pull = output_slope(KL, live.logits(live.scores), live.original)
    sizes = pull.norm(dim=1) / few.rows[:, 0].norm(dim=1)
    torch.testing.assert_close(few.rows[:, 0] * sizes.unsqueeze(1), pull)
    first = few.jacobian[: len(IMAGES)] * sizes.unsqueeze(1) / math.sqrt(len(IMAGES))
    torch.testing.assert_close(first.sum(0), whole.gradient)
    assert not torch.equal(measure(live, 3, seed=5).jacobian, few.jacobian)
    assert torch.equal(measure(live, 3, seed=4).jacobian, few.jacobian)


def test_where_nothing_is_off_the_weightiest_rows_are_exact(tiny):
    live = make(tiny)
    live.original = live.logits(live.scores).detach()
    whole, few = measure(live, 99).jacobian, measure(live, 3, seed=4).jacobian
    torch.testing.assert_close(few[: 2 * len(IMAGES)], whole[: 2 * len(IMAGES)])


@pytest.mark.parametrize("rows", [1, 3, 99])
def test_the_slope_of_a_pull_is_the_gradient_that_it_has(live, rows):
    """With all rows any pull is followed exactly; with few, those that lie in the rows."""
    found = measure(live, rows)
    shares = torch.randn(len(IMAGES), found.rows.shape[1], dtype=torch.float64)
    pull = (found.rows.mT @ shares.unsqueeze(2)).squeeze(2)
    wanted = torch.einsum("bk,bkn->n", pull, slopes(live)) / len(IMAGES)
    torch.testing.assert_close(found.slope(pull), wanted, rtol=1e-3, atol=1e-6)


def test_large_images_in_parts_give_the_same(live, monkeypatch):
    whole = [measure(live, rows) for rows in (2, 99)]
    monkeypatch.setattr(curvature, "PIXELS", 2 * 8 * 8)
    for found, wanted in zip([measure(live, rows) for rows in (2, 99)], whole, strict=True):
        torch.testing.assert_close(found.jacobian, wanted.jacobian)
        torch.testing.assert_close(found.gradient, wanted.gradient)
        assert found.divergence == pytest.approx(wanted.divergence)


def test_without_some_units_the_model_is_that_of_the_others(live):
    found, gone = measure(live), torch.tensor([False, True, False, False, True, False])
    rest, move = found.without(gone, live.scores), torch.randn(4, dtype=torch.float64)
    both = torch.where(gone, -live.scores, 0.0).index_put((~gone,), move)

    def price(model, change):
        return model.gradient @ change + 0.5 * (model.jacobian @ change).square().sum()

    removal = price(found, torch.where(gone, -live.scores, 0.0))
    assert float(price(rest, move)) == pytest.approx(float(price(found, both) - removal))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_gradient_and_the_divergence_are_those_at_full_width(tiny, name):
    live = make(tiny, OBJECTIVES[name])
    scores = live.scores.clone().requires_grad_()
    wanted = OBJECTIVES[name](outputs_at(live, scores), live.original).mean()
    wanted.backward()
    found = measure(live, rows=2)
    torch.testing.assert_close(found.gradient, scores.grad, rtol=1e-5, atol=1e-9)
    assert found.divergence == pytest.approx(float(wanted.detach()))


def test_the_model_is_second_order_around_the_original(tiny):
    live = make(tiny)
    live.restore(LiveNetwork(tiny, IMAGES, KL, layers=tiny.scored()).save())
    live.scores = live.scores.double()
    found, move = measure(live), 1e-3 * torch.randn(7, dtype=torch.float64)
    predicted = float(found.gradient @ move + 0.5 * (found.jacobian @ move).square().sum())
    assert predicted == pytest.approx(float(live.divergence(live.scores + move)), rel=0.02)
    assert found.gradient.abs().max() < 1e-9


def log_cosh(outputs, original):
    return (outputs - original).cosh().log().sum(-1)


@pytest.mark.parametrize("objective", [*OBJECTIVES.values(), log_cosh])
def test_the_factor_is_a_root_of_the_hessian(objective):
    outputs, original = torch.randn(2, 4, 6, dtype=torch.float64)
    hessian = torch.func.hessian(lambda values: objective(values, original).sum())(outputs)
    blocks = torch.stack([hessian[image, :, image] for image in range(4)])
    values, vectors = torch.linalg.eigh(blocks)
    wanted = vectors @ values.clamp_min(0).diag_embed() @ vectors.mT
    factor, _ = output_factor(objective, outputs, original)
    torch.testing.assert_close(factor.mT @ factor, wanted)
    if objective is not OBJECTIVES["cosine"]:  # the others are convex: nothing was cut
        torch.testing.assert_close(wanted, blocks)
    weights = factor.square().sum(2)
    assert (weights[:, 1:] <= weights[:, :-1] + 1e-12).all()


@pytest.mark.parametrize("objective", [KL, OBJECTIVES["mse"], log_cosh])
def test_the_residual_through_the_factor_is_the_slope(objective):
    outputs = torch.randn(4, 6, dtype=torch.float64)
    original = outputs + 0.01 * torch.randn(4, 6, dtype=torch.float64)
    factor, residual = output_factor(objective, outputs, original)
    slope = (factor.mT @ residual.unsqueeze(2)).squeeze(2)
    wanted = output_slope(objective, outputs, original)
    assert (slope - wanted).norm() <= 0.01 * wanted.norm()  # for KL bounded where an output is too improbable


def test_the_residual_of_a_class_that_was_lost_is_bounded():
    lost, original = torch.tensor([[-80.0, 0.0]]), torch.tensor([[4.0, 0.0]])
    _, residual = output_factor(KL, lost, original)
    assert residual.abs().max() <= 1
    assert torch.isfinite(residual).all()


def test_where_the_objective_is_flat_the_squared_error_is_the_model(tiny):
    absolute = make(tiny, lambda outputs, original: (outputs - original).abs().sum(-1))
    squared = make(tiny, OBJECTIVES["mse"])
    found, wanted = measure(absolute), measure(squared)
    torch.testing.assert_close(found.jacobian, wanted.jacobian)
    torch.testing.assert_close(found.gradient, wanted.gradient)
    assert found.divergence == pytest.approx(float(absolute.divergence(absolute.scores)))


def test_where_no_unit_reaches_the_outputs_it_is_flat(tiny):
    live = make(tiny)
    live.drop(live.members(["conv2"]))
    live.compact()
    found = measure(live)
    assert not found.jacobian.any()
    assert not found.gradient.any()
    assert found.jacobian.shape[1] == len(found.gradient) == len(live) == 4
    assert found.divergence == pytest.approx(float(live.divergence(live.scores)))


def test_importance_is_half_the_diagonal_times_the_score_squared(live):
    wanted = 0.5 * literal_gauss_newton(live).diag() * live.scores**2
    torch.testing.assert_close(measure(live).importance(live.scores), wanted, rtol=1e-6, atol=1e-9)


def test_importance_is_the_price_itself_where_the_outputs_are_linear():
    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(2, 6, 3), nn.Linear(6, 3)

        def forward(self, images):
            return self.fc(F.relu(self.conv(images)).mean((2, 3)))

    network = Network.trace(Linear().double().eval(), IMAGES)
    whole = Scores({"conv": torch.ones(6, dtype=torch.float64)})
    live = LiveNetwork(network, IMAGES, OBJECTIVES["mse"], layers=network.scored(), scores=whole)
    importance = measure(live).importance(live.scores)
    for unit in range(6):
        without = live.scores * (torch.arange(6) != unit)
        assert float(importance[unit]) == pytest.approx(float(live.divergence(without)), rel=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(2, 9), st.floats(1e-4, 1e3), st.integers(0, 10**6))
def test_compensation_is_the_dense_solution(rows, units, damping, seed):
    dice = torch.Generator().manual_seed(seed)
    jacobian = torch.randn(rows, units, generator=dice, dtype=torch.float64)
    gradient = torch.randn(units, generator=dice, dtype=torch.float64)
    free = torch.rand(units, generator=dice) < 0.7
    fixed = torch.where(free, 0.0, torch.randn(units, generator=dice, dtype=torch.float64))
    change = Curvature(jacobian, gradient, 0.0, torch.zeros(1, 1, 1)).compensate(fixed, free, damping)
    hessian = jacobian.T @ jacobian
    dense = hessian[free][:, free] + damping * torch.eye(int(free.sum()), dtype=torch.float64)
    wanted = -torch.linalg.solve(dense, gradient[free] + (hessian @ fixed)[free])
    torch.testing.assert_close(change[free], wanted, rtol=1e-5, atol=1e-7)
    assert torch.equal(change[~free], fixed[~free])


def test_compensation_goes_downhill_on_the_model(live):
    found, free = measure(live), torch.ones(6, dtype=torch.bool)
    change = found.compensate(torch.zeros(6, dtype=torch.float64), free, 1e-3)
    assert float(found.gradient @ change + 0.5 * (found.jacobian @ change).square().sum()) < 0
    assert float(live.divergence(live.scores + 0.1 * change)) < found.divergence
