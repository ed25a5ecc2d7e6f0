from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neurochains.chains import OBJECTIVES
from neurochains.chains.paper import PaperSettings, paper_scores
from neurochains.network import Network

IMAGES = 2 * torch.randn(6, 1, 5, 5, generator=torch.Generator().manual_seed(5))
KL = OBJECTIVES["kl"]


class Gated(nn.Module):
    """A stem, two convolutions that may be skipped, and 3 outputs; it can be run with scores and gates by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fc = nn.Conv2d(1, 5, 3), nn.Linear(5, 3)
        self.one, self.two = nn.Conv2d(5, 5, 3, padding=1), nn.Conv2d(5, 5, 3, padding=1)
        with torch.no_grad():
            for layer in (self.stem, self.one, self.two):
                layer.weight.mul_(2)
            self.fc.weight.mul_(8)

    def forward(self, images):
        maps = torch.relu(self.stem(images))
        maps = torch.relu(self.two(torch.relu(self.one(maps))))
        return self.fc(maps.mean((2, 3)))

    def scored(self, images, scores, gates):
        """Eq. 3 and 7, written out: ``H' = G F(H) + (1 - G) H``."""
        maps = torch.relu(self.stem(images) * scores[0][:, None, None])
        for layer, score, gate in zip((self.one, self.two), scores[1:], gates, strict=True):
            maps = gate * torch.relu(layer(maps) * score[:, None, None]) + (1 - gate) * maps
        return self.fc(maps.mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> Gated:
    torch.manual_seed(6)
    return Gated().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def network(model) -> Network:
    found = Network.trace(model, IMAGES)
    assert [block.layers for block in found.blocks] == [("one",), ("two",)]
    return found


def literal(model, *, steps, lr, lam, lam_g, temperature, high=math.inf, gated=True):
    """Adam on Eq. 8, step by step: scores, gate logits, and the divergence and loss before each step."""
    scores = [torch.ones(5, requires_grad=True) for _ in range(3)]
    alphas = [torch.zeros(1, requires_grad=True) for _ in range(2)]
    adam = torch.optim.Adam([*scores, *(alphas if gated else ())], lr=lr)
    p = model(IMAGES).softmax(1)
    divergences, losses = [], []
    for _ in range(steps):
        gates = [1 / (1 + (-a / temperature).exp()) if gated else torch.ones(1) for a in alphas]
        q = model.scored(IMAGES, scores, gates).softmax(1)
        kl = (p * (p / q).log()).sum(1).mean()
        loss = kl + lam * sum(s.abs().sum() for s in scores) + lam_g * sum(a.sum() for a in alphas)
        adam.zero_grad()
        loss.backward()
        adam.step()
        for score in scores:
            score.data.clamp_(0, high)
        for alpha in alphas:
            alpha.data.clamp_(-2, 2)
        divergences.append(float(kl.detach()))
        losses.append(float(loss.detach()))
    return [s.detach() for s in scores], [float(a.detach()) for a in alphas], divergences, losses


def run(network, *, size=None, gated=True, objective=KL, report=None, **settings):
    chosen = PaperSettings(**{"refit": 0, "threshold": 0.0, "least_steps": 999, **settings})
    return paper_scores(
        network,
        IMAGES,
        layers=network.scored(),
        blocks=network.blocks if gated else (),
        objective=objective,
        settings=chosen,
        size=size,
        report=report,
    )


RECIPES = [
    {"steps": 6, "lr": 0.02, "lam": 0.005, "lam_g": 0.01, "temperature": 0.2},
    {"steps": 6, "lr": 0.02, "lam": 0.05, "lam_g": 1.0, "temperature": 1.0},
    {"steps": 12, "lr": 0.4, "lam": 0.1, "lam_g": 1.0, "temperature": 0.5},  # reaches 0 and the gates' lower limit
    {"steps": 12, "lr": 0.4, "lam": 0.001, "lam_g": -1.0, "temperature": 0.5, "high": 1.0},  # their upper limits
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_descent_is_equation_8_step_by_step(network, model, recipe):
    scores, alphas, divergences, _ = literal(model, **recipe)
    history = []
    found = run(network, report=history.append, **recipe)
    assert [entry.divergence for entry in history] == pytest.approx(divergences, rel=2e-3, abs=1e-6)
    for name, wanted, alpha in zip(("stem", "one", "two"), scores, [0.0, *alphas], strict=True):
        assert (name in found.skipped) == (alpha < 0)
        torch.testing.assert_close(found.units[name], wanted * (alpha >= 0), rtol=2e-3, atol=2e-3)


def test_the_recipes_reach_the_limits(model):
    """What the clamps are for: without them the test above would not see them."""
    scores, alphas, _, _ = literal(model, **RECIPES[2])
    assert min(float(score.min()) for score in scores) == 0
    assert min(alphas) == -2
    scores, alphas, _, _ = literal(model, **RECIPES[3])
    assert max(float(score.max()) for score in scores) == 1
    assert max(alphas) == 2


@pytest.mark.parametrize("recipe", RECIPES[:2])
def test_without_gates_there_are_only_scores(network, model, recipe):
    scores, _, divergences, _ = literal(model, **recipe, gated=False)
    history = []
    found = run(network, gated=False, report=history.append, **recipe)
    assert found.gates == {}
    assert [entry.divergence for entry in history] == pytest.approx(divergences, rel=2e-3, abs=1e-6)
    for name, wanted in zip(("stem", "one", "two"), scores, strict=True):
        torch.testing.assert_close(found.units[name], wanted, rtol=2e-3, atol=2e-3)
    assert history[0].divergence == pytest.approx(0, abs=1e-6)  # with gates it starts elsewhere: G = .5


def test_scores_below_the_threshold_go(network, model):
    recipe = {"steps": 25, "lr": 0.05, "lam": 0.1, "lam_g": -0.5, "temperature": 0.2}
    scores, _, _, _ = literal(model, **recipe)
    values = torch.cat(scores).sort().values
    threshold = float(values[6:8].mean())
    found = run(network, threshold=threshold, **recipe)
    assert found.kept == 8
    for name, wanted in zip(("stem", "one", "two"), scores, strict=True):
        assert torch.equal(found.units[name] > 0, wanted >= threshold)
        kept = found.units[name][wanted >= threshold]
        torch.testing.assert_close(kept, wanted[wanted >= threshold], rtol=5e-3, atol=5e-3)


def test_a_gate_below_a_half_takes_its_block_and_the_filters_in_it(network):
    found = run(network, steps=3, lam_g=1.0)
    assert found.gates == {"one": 0.0, "two": 0.0}
    assert found.units["stem"].all()
    assert not found.units["one"].any()
    assert not found.units["two"].any()
    assert run(network, steps=3, lam_g=-1.0).gates == {}  # gates above a half count as 1


def test_it_stops_when_the_loss_has_settled(network):
    """Without the two sums the loss is the divergence, which the history tells."""
    history = []
    run(network, steps=120, least_steps=25, settle=0.01, lr=0.03, lam=0.0, lam_g=0.0, report=history.append)
    losses = [entry.divergence for entry in history]
    settled = [
        abs(sum(losses[n - 10 : n]) / 10 - sum(losses[n - 20 : n - 10]) / 10) < 0.01 for n in range(20, len(losses) + 1)
    ]
    assert 25 <= len(losses) < 120
    assert settled[-1]
    assert not any(settled[5:-1])


@pytest.mark.parametrize(("settle", "wanted"), [(1e9, 21), (0.0, 30)])
def test_it_stops_neither_before_its_time_nor_after_it(network, settle, wanted):
    history = []
    run(network, steps=30, least_steps=21, settle=settle, report=history.append)
    assert [entry.step for entry in history] == list(range(1, wanted + 1))


@pytest.mark.parametrize("size", [1, 4, 15])
@pytest.mark.parametrize("high", [1.0, math.inf])
def test_a_size_keeps_exactly_the_largest_scores(network, model, size, high):
    recipe = {"steps": 10, "lr": 0.05, "lam": 0.02, "lam_g": -0.5, "temperature": 0.2, "high": high}
    found = run(network, size=size, **recipe)
    assert found.kept == size
    values = torch.cat(literal(model, **recipe)[0])
    kept = torch.cat(list(found.units.values())) > 0
    assert values[kept].min() >= values[~kept].max() - 5e-3 if size < 15 else kept.all()


def test_of_equal_scores_no_more_than_asked_for_stay(network):
    assert run(network, steps=0, size=4).kept == 4


def test_the_survivors_are_refitted_on_the_divergence(network):
    recipe = {"steps": 20, "lr": 0.05, "lam": 0.05, "lam_g": -0.5, "threshold": 0.3}
    plain, tuned = run(network, **recipe), run(network, **{**recipe, "refit": 30})
    original = network(IMAGES)
    before, after = (float(KL(scores.run(network, IMAGES), original).mean()) for scores in (plain, tuned))
    assert after < 0.8 * before
    for name, values in plain.units.items():
        assert torch.equal(values > 0, tuned.units[name] > 0)


def test_a_range_holds_for_the_refit_as_well(network):
    found = run(network, steps=20, lr=0.05, lam=0.05, lam_g=-0.5, threshold=0.3, refit=20, high=1.0)
    assert 0 < torch.cat(list(found.units.values())).max() <= 1


def test_the_history_counts_what_is_above_the_threshold(network, model):
    recipe = {"steps": 15, "lr": 0.1, "lam": 0.1, "lam_g": 0.0, "temperature": 0.2}
    history = []
    run(network, threshold=0.5, report=history.append, **recipe)
    for entry in history[::7]:
        scores = torch.cat(literal(model, **{**recipe, "steps": entry.step})[0])
        assert entry.filters == int((scores >= 0.5).sum())
    assert history[0].filters == 15
    assert history[-1].filters < 15


def test_any_objective_will_do(network):
    found = run(network, objective=OBJECTIVES["mse"], steps=5, lam_g=-1.0)
    assert found.kept == 15


def test_the_gates_start_at_a_half(network, model):
    history = []
    run(network, steps=1, report=history.append)
    half = model.scored(IMAGES, [torch.ones(5)] * 3, [0.5, 0.5])
    wanted = F.kl_div(half.log_softmax(1), model(IMAGES).log_softmax(1), log_target=True, reduction="batchmean")
    assert history[0].divergence == pytest.approx(float(wanted), rel=1e-3)
