"""Attacks against their formulas written out, and against adversarial-robustness-toolbox where it is installed."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from neurochains.attacks import ATTACKS, NORMS, attack, bim, fgsm, on_pixels, pgd
from neurochains.errors import DataError, SettingsError
from neurochains.preprocess import Preprocess

EPS = 8 / 255
HOW = Preprocess(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 5))
    return layers.eval().requires_grad_(False)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.rand(7, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def labels() -> torch.Tensor:
    return torch.arange(7) % 5


def literal(model, pixels, labels, *, step, steps, norm, start=None):
    """One image at a time, as the papers write it."""
    found = []
    for number, (image, label) in enumerate(zip(pixels, labels)):
        place = image if start is None else start[number]
        for _ in range(steps):
            leaf = place.clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(F.cross_entropy(model(leaf[None]), label[None]), leaf)
            place = (place + step * (slope.sign() if norm == "linf" else slope / slope.norm())).clamp(0, 1)
            change = place - image
            if norm == "linf":
                change = change.clamp(-EPS, EPS)
            elif change.norm() > EPS:
                change = change * EPS / change.norm()
            place = image + change
        found.append(place)
    return torch.stack(found)


@pytest.mark.parametrize("norm", NORMS)
def test_steps_are_those_of_the_papers(model, pixels, labels, norm):
    net = on_pixels(model, HOW)
    found = fgsm(net, pixels, labels, eps=EPS, norm=norm)
    torch.testing.assert_close(found, literal(net, pixels, labels, step=EPS, steps=1, norm=norm))
    found = bim(net, pixels, labels, eps=EPS, steps=6, norm=norm)
    torch.testing.assert_close(found, literal(net, pixels, labels, step=EPS / 4, steps=6, norm=norm))
    start = pgd(net, pixels, labels, eps=EPS, steps=0, norm=norm, seed=3)
    found = pgd(net, pixels, labels, eps=EPS, steps=6, norm=norm, seed=3)
    torch.testing.assert_close(found, literal(net, pixels, labels, step=EPS / 4, steps=6, norm=norm, start=start))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_stay_in_the_ball_and_raise_the_loss(model, pixels, labels, name, norm):
    net = on_pixels(model, HOW)
    eps = EPS if norm == "linf" else 0.5
    found = attack(name, net, pixels, labels, eps=eps, norm=norm)
    change = (found - pixels).flatten(1)
    length = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert float(length.max()) <= eps * (1 + 1e-5)
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    before, after = (F.cross_entropy(net(some), labels, reduction="none") for some in (pixels, found))
    assert bool((after > before).all())


def test_a_random_start_is_drawn_by_its_seed_all_over_the_ball(model, pixels, labels):
    grey = pixels * 0.5 + 0.25
    starts = [pgd(model, grey, labels, eps=EPS, steps=0, seed=seed) - grey for seed in (0, 0, 1)]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert 0.9 * EPS < float(starts[0].abs().max()) <= EPS * (1 + 1e-5)
    round_ = pgd(model, grey, labels, eps=EPS, steps=0, norm="l2") - grey
    assert 0.9 * EPS < float(round_.flatten(1).norm(dim=1).max()) <= EPS * (1 + 1e-5)


def test_normalisation_is_done_inside(model, pixels):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (HOW.mean, HOW.std))
    torch.testing.assert_close(on_pixels(model, HOW)(pixels), model((pixels - mean) / std))


def test_the_model_is_left_as_it_was(model, pixels, labels):
    model.requires_grad_(True).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pgd(on_pixels(model, HOW), pixels, labels, eps=EPS)
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_many_images_are_attacked_in_batches(model, labels):
    sizes = []
    many = torch.rand(150, 3, 8, 8)
    found = fgsm(lambda some: sizes.append(len(some)) or model(some), many, torch.zeros(150, dtype=torch.long), eps=EPS)
    assert found.shape == many.shape
    assert max(sizes) <= 64


def test_what_does_not_depend_on_pixels_cannot_be_attacked(pixels, labels):
    found = bim(lambda some: torch.zeros(len(some), 5), pixels, labels, eps=EPS)
    torch.testing.assert_close(found, pixels)


def test_bad_arguments_are_named(model, pixels, labels):
    with pytest.raises(DataError, match=r"pixels \(N, C, H, W\) in \[0, 1\]"):
        fgsm(model, pixels - 1, labels, eps=EPS)
    with pytest.raises(DataError, match="one label for each of 7 images"):
        fgsm(model, pixels, labels[:3], eps=EPS)
    with pytest.raises(SettingsError, match="norm is one of linf, l2; got 'l3'"):
        fgsm(model, pixels, labels, eps=EPS, norm="l3")
    with pytest.raises(SettingsError, match="0 or more; got -1"):
        fgsm(model, pixels, labels, eps=-1)
    with pytest.raises(SettingsError, match=r"No attack is called 'pgb'; .*Did you mean pgd"):
        attack("pgb", model, pixels, labels, eps=EPS)


@pytest.mark.parametrize("norm", NORMS)
def test_attacks_are_those_of_the_toolbox(model, pixels, labels, norm):
    pytest.importorskip("art", reason="adversarial-robustness-toolbox is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
        from art.estimators.classification import PyTorchClassifier

        net = nn.Sequential(_Inside(), model)
        wrapped = PyTorchClassifier(
            net, nn.CrossEntropyLoss(reduction="sum"), (3, 8, 8), 5, clip_values=(0, 1), device_type="cpu"
        )
        order = {"linf": "inf", "l2": 2}[norm]
        eps = EPS if norm == "linf" else 0.5
        one = FastGradientMethod(wrapped, norm=order, eps=eps).generate(pixels.numpy(), labels.numpy())
        several = ProjectedGradientDescentPyTorch(
            wrapped, norm=order, eps=eps, eps_step=eps / 4, max_iter=10, num_random_init=0, verbose=False
        ).generate(pixels.numpy(), labels.numpy())
    torch.testing.assert_close(fgsm(net, pixels, labels, eps=eps, norm=norm), torch.from_numpy(one), atol=1e-5, rtol=0)
    found = bim(net, pixels, labels, eps=eps, norm=norm)
    torch.testing.assert_close(found, torch.from_numpy(several), atol=1e-5, rtol=0)


class _Inside(nn.Module):
    def forward(self, pixels):
        return on_pixels(lambda images: images, HOW)(pixels)
