"""Leaving one filter out in one sweep against doing it filter by filter at full width."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from neurochains.chains.ablation import leave_one_out_divergence, leave_one_out_outputs
from neurochains.chains.objectives import OBJECTIVES
from neurochains.chains.replay import Replay
from neurochains.chains.scores import Scores
from neurochains.errors import LayerError, SettingsError
from neurochains.network.network import Network


class Residual(nn.Module):
    """A stem, an identity block, and a block with a projection; grouped and depthwise convolutions on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.a = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1))
        self.b = nn.Sequential(nn.Conv2d(8, 12, 1), nn.ReLU6(), nn.Conv2d(12, 12, 3, 2, 1, groups=12))
        self.c = nn.Conv2d(12, 12, 3, padding=1, groups=3)
        self.short = nn.Conv2d(8, 12, 1, 2)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_norm(self.stem(x)))
        x = F.relu(x + self.a(x))
        x = F.relu(self.c(self.b(x)) + self.short(x))
        return self.head(x.mean((2, 3)))


class Branches(nn.Module):
    """Concatenation, channel shuffle by a split, squeeze-and-excitation, flatten into hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.squeeze, self.excite = nn.Conv2d(10, 3, 1), nn.Conv2d(3, 10, 1)
        self.tail = nn.Conv2d(10, 4, 3, 2)
        self.hidden, self.head = nn.Linear(4 * 9, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.silu(torch.cat([self.left(x), self.right(x)], 1))
        x = x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        first, second = x.chunk(2, 1)
        x = F.relu(self.tail(torch.cat([second, first], 1)))
        return self.head(F.relu(self.hidden(x.flatten(1))))


class Windows(nn.Module):
    """Windows of an image as further samples: window by window or sample by sample."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        self.order = (0, 2, 1, 3) if batch_first else (2, 0, 1, 3)
        self.patch, self.inner = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 9)
        self.outer, self.head = nn.Linear(9, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.patch(x)).flatten(2).unflatten(2, (4, 4))
        batch = x.shape[0]
        windows = x.permute(self.order).reshape(-1, 6, 4).transpose(1, 2)
        windows = windows + self.outer(F.gelu(self.inner(windows)))
        if self.order[0] == 0:
            pooled = windows.reshape(batch, 4, 4, 6).mean((1, 2))
        else:
            pooled = windows.reshape(4, batch, 4, 6).mean((0, 2))
        return self.head(pooled)


NETWORKS = {
    "residual": Residual,
    "branches": Branches,
    "windows": lambda: Windows(batch_first=True),
    "windows first": lambda: Windows(batch_first=False),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request) -> Network:
    torch.manual_seed(1)
    model = NETWORKS[request.param]().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # so that a removed channel is not what a silent one is
    return Network.trace(model, torch.randn(2, 3, 8, 8))


def some_scores(network: Network, *, share: float = 0.6, seed: int = 0) -> Scores:
    """Scores between 0.5 and 1.5 for about a share of the units of all kinds, at least one a layer."""
    generator = torch.Generator().manual_seed(seed)
    units = {}
    for layer in network.scored(("filters", "hidden")):
        drawn = torch.rand(layer.units, generator=generator)
        kept = (drawn < share) | (drawn == drawn.min())
        units[layer.name] = torch.where(kept, 0.5 + torch.rand(layer.units, generator=generator), 0.0)
    return Scores(units)


def one_by_one(network: Network, images: Tensor, scores: Scores, objective: str) -> dict[str, Tensor]:
    """The literal way: for each kept filter a whole run at full width without it."""
    original = network(images)
    found = {name: torch.full_like(values, torch.nan) for name, values in scores.units.items()}
    for unit in scores.list_filters():
        outputs = scores.without(unit).run(network, images)
        found[unit.layer][unit.index] = OBJECTIVES[objective](outputs, original).mean()
    return found


def assert_same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(found) == list(wanted)
    for name, values in wanted.items():
        torch.testing.assert_close(found[name], values, rtol=1e-4, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_sweep_gives_what_one_run_for_each_filter_gives(network, objective):
    images, scores = torch.randn(3, 3, 8, 8), some_scores(network)
    wanted = one_by_one(network, images, scores, objective)
    assert_same(leave_one_out_divergence(network, images, scores, objective=objective), wanted)


@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize("memory", [1, 20_000, 2**30])
def test_neither_memory_nor_the_number_of_images_changes_it(network, memory, samples):
    images, scores = torch.randn(samples, 3, 8, 8), some_scores(network, seed=samples)
    wanted = one_by_one(network, images, scores, "kl")
    assert_same(leave_one_out_divergence(network, images, scores, memory=memory), wanted)


def test_more_memory_means_more_variants_at_a_time(network):
    images, scores = torch.randn(2, 3, 8, 8), some_scores(network)
    counts = [len(list(leave_one_out_outputs(network, images, scores, memory=m))) for m in (1, 20_000, 2**30)]
    assert counts[0] == scores.kept
    assert counts[0] > counts[1] >= counts[2] >= len(scores.units)


def test_the_outputs_are_those_without_the_units_named(network):
    images, scores = torch.randn(2, 3, 8, 8), some_scores(network)
    seen = 0
    for some in leave_one_out_outputs(network, images, scores):
        for unit, outputs in zip(some.units.tolist(), some.outputs, strict=True):
            without = {**scores.units, some.layer: scores.units[some.layer].index_fill(0, torch.tensor(unit), 0.0)}
            torch.testing.assert_close(outputs, Scores(without).run(network, images), rtol=1e-4, atol=1e-5)
            seen += 1
    assert seen == scores.kept


@pytest.fixture(scope="module")
def residual() -> Network:
    torch.manual_seed(1)
    return Network.trace(Residual().eval().requires_grad_(False), torch.randn(2, 3, 8, 8))


def test_layers_with_nothing_kept_are_all_nan(residual):
    scores = some_scores(residual)
    scores = Scores({**scores.units, "a.0": torch.zeros(8)})
    images = torch.randn(2, 3, 8, 8)
    found = leave_one_out_divergence(residual, images, scores)
    assert found["a.0"].isnan().all()
    assert_same(found, one_by_one(residual, images, scores, "kl"))


def test_filters_that_reach_no_output_change_nothing(residual):
    """With the projection and the last layer of its block gone, what comes before them is read by nothing."""
    dead = {"short": torch.zeros(12), "c": torch.zeros(12)}
    scores, images = Scores({**some_scores(residual).units, **dead}), torch.randn(2, 3, 8, 8)
    found = leave_one_out_divergence(residual, images, scores)
    whole = OBJECTIVES["kl"](scores.run(residual, images), residual(images)).mean()
    kept = torch.cat([values[scores.units[name] > 0] for name, values in found.items()])
    torch.testing.assert_close(kept, whole.expand(len(kept)))


def test_skipped_blocks_stay_skipped(residual):
    (block,) = (block for block in residual.blocks if set(block.layers) == {"a.0", "a.2"})
    scores, images = Scores(some_scores(residual).units, {block.name: 0.0}), torch.randn(2, 3, 8, 8)
    found = leave_one_out_divergence(residual, images, scores)
    assert_same(found, one_by_one(residual, images, scores, "kl"))


def test_only_the_layers_asked_for_by_name_or_label_in_order(residual):
    images, scores = torch.randn(2, 3, 8, 8), some_scores(residual)
    whole = leave_one_out_divergence(residual, images, scores)
    some = leave_one_out_divergence(residual, images, scores, layers=["c", residual.layer("a.2").label])
    assert_same(some, {name: whole[name] for name in ("a.2", "c")})


def test_the_original_outputs_given_are_those_compared_with(residual):
    images, scores = torch.randn(2, 3, 8, 8), some_scores(residual)
    original = torch.randn(2, 5)
    found = leave_one_out_divergence(residual, images, scores, objective="mse", original=original)
    unit = scores.list_filters()[3]
    wanted = OBJECTIVES["mse"](scores.without(unit).run(residual, images), original).mean()
    torch.testing.assert_close(found[unit.layer][unit.index], wanted, rtol=1e-4, atol=1e-6)


def test_any_callable_is_an_objective(residual):
    images, scores = torch.randn(2, 3, 8, 8), some_scores(residual)
    found = leave_one_out_divergence(residual, images, scores, objective=lambda outputs, original: outputs[:, 0])
    unit = scores.list_filters()[0]
    wanted = scores.without(unit).run(residual, images)[:, 0].mean()
    torch.testing.assert_close(found[unit.layer][unit.index], wanted, rtol=1e-4, atol=1e-6)


def test_unknown_objectives_and_layers_are_named(residual):
    images, scores = torch.randn(2, 3, 8, 8), some_scores(residual)
    with pytest.raises(SettingsError, match="No objective is called 'kk'"):
        leave_one_out_divergence(residual, images, scores, objective="kk")
    with pytest.raises(LayerError, match=r"a\.9"):
        leave_one_out_divergence(residual, images, scores, layers=["a.9"])


def test_a_replay_runs_only_what_lies_behind(residual):
    """Counted by node: behind the last layer only the sum, the activation, the mean and the head are left."""
    graph = residual.module
    starts = [residual.layer(name).site for name in ("stem", "c")]
    images = torch.randn(2, 3, 8, 8)
    replay = Replay(graph, images, (), starts)
    called = []
    call = replay._call
    replay._call = lambda node, values: called.append(str(node.target)) or call(node, values)
    torch.testing.assert_close(replay.run(starts[1], replay.value(starts[1])), residual(images))
    assert called[:4] == ["aten.add.Tensor", "aten.relu.default", "aten.mean.dim", "aten.linear.default"]
    assert set(called[4:]) <= {"aten.flatten.using_ints"}
    assert replay.most(starts[0], 10**6) < replay.most(starts[1], 10**6)
