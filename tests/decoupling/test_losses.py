from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from neurochains.decoupling import LossWeights, agreement_loss, information_loss, sparsity_loss
from neurochains.errors import DataError, LayerError, SettingsError


def softmax(row):
    top = [math.exp(value) for value in row]
    return [value / sum(top) for value in top]


def tables():
    codes = {"a": torch.rand(3, 4, dtype=torch.float64), "b": torch.rand(3, 6, dtype=torch.float64)}
    means = {name: torch.randn_like(code) for name, code in codes.items()}
    return codes, means


def test_agreement_is_the_divergence_of_the_formula():
    codes, means = tables()
    wanted = whole = 0.0
    for name, code in codes.items():
        rows = zip(means[name].tolist(), code.tolist(), strict=True)
        pairs = [(softmax(u), softmax(z)) for u, z in rows]
        mean = sum(p * math.log(p / q) for ps, qs in pairs for p, q in zip(ps, qs, strict=True)) / len(pairs)
        wanted, whole = wanted + mean / code.shape[1], whole + mean
    assert float(agreement_loss(codes, means)) == pytest.approx(wanted)
    assert float(agreement_loss(codes, means, by_width=False)) == pytest.approx(whole)


def test_agreement_reaches_both_sides():
    codes, means = tables()
    for values in (*codes.values(), *means.values()):
        values.requires_grad_()
    agreement_loss(codes, means).backward()
    assert all(values.grad.any() for values in (*codes.values(), *means.values()))


def test_sparsity_takes_the_absolute_value_of_the_batch_mean():
    codes = {"a": torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]])}
    assert float(sparsity_loss(codes, LossWeights(kept=0.5))) == 0  # single images may differ
    assert float(sparsity_loss(codes, LossWeights(kept=0.0))) == 2
    assert float(sparsity_loss(codes, LossWeights(kept={"a": 1.0}))) == 2


def test_layers_without_a_share_of_their_own_keep_none():
    weights = LossWeights(kept={"a": 0.6})
    assert (weights.kept_in("a"), weights.kept_in("b")) == (0.6, 0.0)


def test_information_is_the_cross_entropy_of_a_linear_classifier():
    codes, labels = {"a": torch.rand(3, 4, dtype=torch.float64)}, torch.tensor([0, 1, 1])
    head = nn.Linear(4, 2, bias=False).double()
    wanted = 0.0
    for code, label in zip(codes["a"].tolist(), labels.tolist(), strict=True):
        logits = [sum(w * z for w, z in zip(row, code, strict=True)) for row in head.weight.tolist()]
        wanted -= math.log(softmax(logits)[label]) / 3
    assert information_loss(codes, {"a": head}, labels).item() == pytest.approx(wanted)


def test_messages():
    with pytest.raises(DataError, match="L_mi needs a label for each image"):
        information_loss({"a": torch.rand(2, 3)}, {"a": nn.Linear(3, 2)}, None)
    with pytest.raises(SettingsError, match=r"share of filters to keep in every layer must be between 0 .* got 1.5"):
        LossWeights(kept=1.5)
    with pytest.raises(SettingsError, match=r"to keep in conv1 must be .* got -0.1"):
        LossWeights(kept={"conv1": -0.1})
    with pytest.raises(SettingsError, match="The weight mi of a loss must be 0 or more"):
        LossWeights(mi=-1)
    with pytest.raises(LayerError, match=r"No controlled layer is called 'conv'\. Did you mean conv1"):
        LossWeights(kept={"conv": 0.5}).check_layers(("conv1",))
