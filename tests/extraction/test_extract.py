from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import neurochains as nc
from neurochains.chains import OBJECTIVES, Scores
from neurochains.errors import (
    DataError,
    FidelityError,
    LayerError,
    ModelError,
    ModelNameError,
    NeuroChainsError,
    SettingsError,
)
from neurochains.extraction import Progress

IMAGES = torch.randn(6, 3, 12, 12, generator=torch.Generator().manual_seed(7))
CONTRACT = {"filters", "of", "layers", "kl", "kl_median", "agreement", "drop"}
KL = OBJECTIVES["kl"]


class Small(nn.Module):
    """A stem with batch norm, a residual block, and some outputs."""

    def __init__(self, outputs: int = 4, scale: float = 40.0) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.fc, self.scale = nn.Linear(8, outputs), scale

    def forward(self, images):
        maps = F.relu(self.norm(self.stem(images)))
        maps = F.relu(maps + self.outer(F.relu(self.inner(maps))))
        return self.fc(maps.mean((2, 3))) * self.scale


@pytest.fixture
def model() -> Small:
    return make()


def make(outputs: int = 4) -> Small:
    torch.manual_seed(8)
    return Small(outputs).eval()


@pytest.fixture
def task() -> nc.Task:
    held = nc.Task(torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(9)), [0, 1, 2, 3])
    return nc.Task(IMAGES, [0, 1, 2, 3, 0, -1], held_out=held)


def quick(model, task=IMAGES, **options) -> nc.Chain:
    return nc.extract(model, task, **{"controls": False, "refit": 5, **options})


def mean_kl(outputs, original) -> float:
    return float(KL(outputs.double(), original.double()).detach().mean())


def logits_of(chain) -> torch.Tensor:
    """The outputs of the sub-network, computed at full width."""
    return Scores(chain.scores, chain.gates).run(chain.network, chain.task.images)


def test_a_module_and_a_tensor_are_enough(model):
    chain = nc.extract(model, IMAGES, refit=5)
    assert isinstance(chain, nc.Chain)
    assert set(chain.scores) == {"stem", "inner", "outer"}
    for name, indices in chain.filters.items():
        assert torch.equal(indices, chain.scores[name].nonzero().flatten())
    assert {*CONTRACT, "seconds", "parity", "controls", "faithfulness", "divergence"} <= set(chain.metrics)
    assert "held_out" not in chain.metrics or chain.metrics["held_out"] is None
    assert chain.metrics["filters"] == sum(map(len, chain.filters.values())) < chain.metrics["of"] == 22
    assert chain.metrics["layers"] == len(chain.filters)
    assert chain.metrics["seconds"] > 0
    kl = mean_kl(logits_of(chain), model(IMAGES))
    assert chain.metrics["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-7)
    assert kl <= 0.05 * (1 + 1e-4)
    assert chain.settings["fidelity"] == 0.05


def test_held_out_images_are_measured_and_nothing_else(model, task):
    chain, alone = quick(model, task), quick(model, task.images)
    assert set(chain.metrics["held_out"]) >= {"kl", "kl_median", "agreement", "drop"}
    assert CONTRACT | {"seconds"} <= set(chain.metrics)
    wanted = mean_kl(chain.compact()(task.held_out.images), model(task.held_out.images))
    assert chain.metrics["held_out"]["kl"] == pytest.approx(wanted, rel=1e-3)
    assert chain.metrics["accuracy"] is not None
    assert all(torch.equal(values, alone.scores[name]) for name, values in chain.scores.items())


def test_the_compact_network_computes_what_the_scores_say(model):
    chain = quick(model)
    small = chain.compact()
    torch.testing.assert_close(small(IMAGES), logits_of(chain), rtol=1e-4, atol=1e-4)
    assert sum(p.numel() for p in small.buffers()) < sum(p.numel() for p in model.parameters())


def test_it_is_saved_and_loaded(model, task, tmp_path):
    chain = quick(model, task, gates=True, fidelity=0.1)
    again = nc.load_chain(chain.save(tmp_path / "chain"), model=model)
    assert all(torch.equal(values, again.scores[name]) for name, values in chain.scores.items())
    assert again.gates == chain.gates
    assert again.metrics == chain.metrics
    assert again.settings == chain.settings
    assert list(again.history) == list(chain.history)
    assert torch.equal(again.compact()(IMAGES), chain.compact()(IMAGES))


def test_a_name_of_the_zoo_and_its_labels(tmp_path):
    task = nc.Task.shapes(4, classes=[0, 5])
    chain = quick("shapes:vgg", task, fidelity=0.5, refit=0)
    assert chain.provenance["model"]["name"] == "shapes:vgg"
    assert chain.metrics["divergence"] <= 0.5
    assert chain.metrics["filters"] < 0.5 * chain.metrics["of"]
    assert nc.load_chain(chain.save(tmp_path / "chain")).metrics["filters"] == chain.metrics["filters"]


def test_a_traced_network_is_used_as_it_is(model):
    network = nc.Network.trace(model, IMAGES)
    assert quick(network).network is network
    assert quick(network, device="cpu").network is network
    with pytest.raises(SettingsError, match=r"A traced network stays on cpu; give device='meta' to Network.trace"):
        quick(network, device="meta")


@pytest.mark.parametrize("size", [5, 0.25, 22])
def test_a_size_is_a_number_or_a_fraction(model, size):
    chain = quick(model, size=size)
    assert chain.metrics["filters"] == (size if isinstance(size, int) else round(size * 22))


def test_an_agreement_is_kept(model):
    chain = quick(model, agreement=1.0)
    assert chain.metrics["agreement"] == 1.0
    assert torch.equal(logits_of(chain).argmax(1), model(IMAGES).argmax(1))


@pytest.mark.parametrize(("score_range", "low", "high"), [("unit", 0, 1), ("binary", 1, 1), ("unbounded", 0, 99)])
def test_scores_keep_to_their_range(model, score_range, low, high):
    values = torch.cat(list(quick(model, score_range=score_range).scores.values()))
    kept = values[values != 0]
    assert low <= kept.min() <= kept.max() <= high


@pytest.mark.parametrize("method", ["budget", "paper"])
def test_one_seed_gives_one_chain_bit_for_bit(model, method):
    one, other = (quick(model, method=method, seed=4, gates=True, size=8) for _ in range(2))
    assert all(torch.equal(values, other.scores[name]) for name, values in one.scores.items())
    assert one.gates == other.gates
    times = ("seconds", "milliseconds")
    timeless = [{k: v for k, v in chain.metrics.items() if not k.startswith(times)} for chain in (one, other)]
    assert timeless[0]["kl"] == timeless[1]["kl"]
    assert timeless[0]["faithfulness"] == timeless[1]["faithfulness"]


def squared(outputs, original):
    return (outputs - original).square().sum(-1)


@pytest.mark.parametrize(
    ("objective", "outputs", "fidelity"),
    [("mse", 1, 0.05), ("mse", 3, 0.05), ("cosine", 16, 0.02), (squared, 3, 0.5)],
)
def test_other_objectives_fit_other_models(objective, outputs, fidelity):
    model = make(outputs)
    chain = quick(model, objective=objective, fidelity=fidelity)
    diverge = objective if callable(objective) else OBJECTIVES[objective]
    reached = float(diverge(logits_of(chain), model(IMAGES)).detach().mean())
    assert 0 < reached <= fidelity * (1 + 1e-3)
    assert chain.metrics["divergence"] == pytest.approx(reached, rel=1e-2)
    assert chain.metrics["filters"] < 22
    assert (chain.metrics["kl"] is None) == (objective in ("mse", "cosine"))
    assert chain.settings["objective"] == (objective if isinstance(objective, str) else "squared")


def test_hidden_units_are_scored_where_asked_for_and_where_there_are_no_filters():
    torch.manual_seed(0)
    both = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 9),
        nn.ReLU(),
        nn.Linear(9, 3),
    ).eval()
    mlp = nn.Sequential(
        nn.Flatten(), nn.Linear(432, 12), nn.ReLU(), nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 3)
    ).eval()
    assert set(quick(both, units=("hidden",)).scores) == {"4"}
    assert set(quick(both, units=("filters", "hidden")).scores) == {"0", "4"}
    chain = quick(mlp)
    assert {name: len(values) for name, values in chain.scores.items()} == {"1": 12, "3": 7}
    assert chain.metrics["filters"] < 19
    torch.testing.assert_close(chain.compact()(IMAGES), logits_of(chain), rtol=1e-4, atol=1e-5)


def test_progress_is_reported_with_sensible_numbers(model):
    for method, stages in (
        ("budget", ["eliminating", "certifying", "measuring"]),
        ("paper", ["optimising", "measuring"]),
    ):
        seen: list[Progress] = []
        quick(model, method=method, progress=seen.append)
        assert list(dict.fromkeys(report.stage for report in seen)) == stages
        for report in seen:
            assert 0 <= report.step <= report.steps
            assert report.filters is None or 0 < report.filters <= 22
            assert report.divergence is None or math.isfinite(report.divergence)
            assert report.seconds_left is None or report.seconds_left >= 0
        steps = [report.step for report in seen if report.stage == stages[0]]
        assert steps == sorted(steps)


def snapshot(model):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.modules()]
    flags = [(p.requires_grad, p.grad is None, id(p)) for p in model.parameters()]
    return state, hooks, flags, [module.training for module in model.modules()]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({}, None),
        ({"method": "paper", "steps": 5}, None),
        ({"size": 10**6}, SettingsError),
        ({"method": "paper", "steps": 5, "lam_g": 1e3, "fidelity": 1e-9}, FidelityError),
        ({"progress": lambda report: 1 / 0}, ZeroDivisionError),
    ],
)
def test_the_model_is_the_user_s_as_it_was(model, options, error):
    model.fc.weight.requires_grad_(False)
    model.norm.train(False)
    before, generator = snapshot(model), torch.get_rng_state()
    if error is None:
        quick(model, **options)
    else:
        with pytest.raises(error):
            quick(model, **options)
    after = snapshot(model)
    assert all(torch.equal(value, after[0][name]) for name, value in before[0].items())
    assert before[1:] == after[1:]
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"fidelity": 0.1, "size": 3}, SettingsError, "one goal; got fidelity and size"),
        ({"fidelity": 0}, SettingsError, "divergence above 0.*got 0"),
        ({"fidelity": -0.5}, SettingsError, "divergence above 0.*got -0.5"),
        ({"size": 0}, SettingsError, "at least 1 filter; got 0"),
        ({"size": 23}, SettingsError, "The network has 22 scored filters; a size is 1 to 22, got 23"),
        ({"fidelty": 0.1}, SettingsError, "no option 'fidelty'; there are fidelity.*Did you mean fidelity?"),
        ({"method": "papper"}, SettingsError, "got 'papper'. Did you mean paper?"),
        ({"objective": "kld"}, SettingsError, "Did you mean kl?"),
        ({"objective": lambda a, b: (a - b).square().mean()}, SettingsError, r"each of 6 images, \(6,\); got \(\)"),
        ({"objective": lambda a, b: 0.0}, SettingsError, r"each of 6 images, \(6,\); got float"),
        ({"objective": "mse", "agreement": 0.9}, SettingsError, "An agreement needs a classifier"),
    ],
)
def test_options_that_cannot_be_are_refused(model, options, error, message):
    with pytest.raises(error, match=message):
        quick(model, **options)


def test_an_agreement_needs_two_outputs():
    with pytest.raises(SettingsError, match=r"An agreement needs a classifier.*has 1 outputs\. Give a fidelity"):
        quick(make(1), agreement=0.9)


def test_one_image_is_refused_unless_it_is_meant(model):
    with pytest.raises(DataError, match=r"one image, which nearly any few filters fit.*single_image=True"):
        quick(model, IMAGES[:1])
    assert quick(model, IMAGES[:1], single_image=True).metrics["filters"] < 22


def test_labels_beyond_the_outputs_are_refused(model):
    with pytest.raises(DataError, match="labels below 4, the number of outputs"):
        quick(model, nc.Task(IMAGES, [0, 1, 2, 3, 4, 0]))


def test_outputs_that_are_not_finite_are_refused():
    class Logarithm(Small):
        def forward(self, images):
            return super().forward(images) + images.mean((1, 2, 3), keepdim=True)[:, :, 0, 0].log()

    torch.manual_seed(0)
    images = IMAGES.abs()
    images[2] = -1.0
    with pytest.raises(DataError, match=r"NaN or infinite outputs to 1 images, such as c\.png"):
        quick(Logarithm().eval(), nc.Task(images, names=["a.png", "b.png", "c.png", "d.png", "e.png", "f.png"]))


def test_what_is_no_model_or_does_not_fit_is_refused(model, task):
    with pytest.raises(ModelNameError, match=r"called shapes:vgk. Did you mean vgg\?"):
        quick("shapes:vgk", task)
    with pytest.raises(DataError):
        quick(model, "photos")
    with pytest.raises(ModelError, match="training mode"):
        quick(nn.Sequential(Small(), nn.Dropout()).train())
    with pytest.raises(LayerError, match="no filters to score"):
        quick(nn.Sequential(nn.Flatten(), nn.Linear(432, 3)).eval())
    network = nc.Network.trace(model, torch.zeros(2, 3, 16, 16))
    with pytest.raises(DataError, match=r"traced for inputs \(B, 3, 16, 16\)"):
        quick(network)


def test_a_fidelity_that_the_paper_s_method_misses_is_an_error_only_where_it_was_asked_for(model):
    recipe = {"method": "paper", "steps": 30, "lam": 5.0, "threshold": 0.9, "gates": False}
    chain = quick(model, **recipe)
    assert chain.metrics["divergence"] > 0.05
    with pytest.raises(FidelityError, match=r"reached is 0?\.?\d.*above the fidelity 0.001.*a smaller lam") as caught:
        quick(model, fidelity=0.001, **recipe)
    assert isinstance(caught.value, NeuroChainsError)


def test_an_agreement_that_is_missed_is_an_error(model):
    images = 3 * torch.randn(40, 3, 12, 12)
    assert len(model(images).argmax(1).unique()) > 1
    with pytest.raises(FidelityError, match=r"keeps 0\.\d\d of the predictions, below 1.00"):
        quick(model, images, method="paper", steps=0, threshold=2.0, gates=False, agreement=1.0)
