"""Fidelity against the formulas of the paper, written out image by image."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.chains.objectives import OBJECTIVES
from neurochains.errors import DataError, SettingsError
from neurochains.measures.fidelity import measure_outputs, quotient


def logits(images: int, classes: int, *, seed: int = 0, scale: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(images, classes, generator=generator, dtype=torch.float64)


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(value) for value in row)
    return [math.exp(value) / total for value in row]


def literal(original: list[float], sub: list[float]) -> dict[str, float]:
    """The measures of one image, number by number."""
    p, q = softmax(original), softmax(sub)
    y = p.index(max(p))
    others = [z for z in range(len(p)) if z != y]
    return {
        "kl": sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)),
        "drop": p[y] - q[y],
        "agree": q.index(max(q)) == y,
        "quotient": (q[y] - max(q[z] for z in others)) / (p[y] - max(p[z] for z in others)),
    }


cases = st.tuples(st.integers(1, 9), st.integers(2, 6), st.integers(0, 10**6))


@settings(max_examples=40, deadline=None)
@given(cases)
def test_each_image_is_measured_as_the_formulas_say(case):
    images, classes, seed = case
    original, sub = logits(images, classes, seed=seed), logits(images, classes, seed=seed + 1)
    each = measure_outputs(original, sub).per_image
    wanted = [literal(p, q) for p, q in zip(original.tolist(), sub.tolist(), strict=True)]
    for name in ("kl", "drop", "agree", "quotient"):
        assert getattr(each, name).tolist() == pytest.approx([one[name] for one in wanted])
    assert torch.equal(each.divergence, each.kl)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_the_quotient_is_below_zero_exactly_where_the_prediction_changed(case):
    images, classes, seed = case
    fidelity = measure_outputs(logits(images, classes, seed=seed), logits(images, classes, seed=seed + 1))
    assert torch.equal(fidelity.per_image.quotient < 0, ~fidelity.per_image.agree)
    assert fidelity.quotients.negative == pytest.approx(1 - fidelity.agreement)


@settings(max_examples=20, deadline=None)
@given(cases)
def test_the_same_outputs_are_wholly_faithful(case):
    images, classes, seed = case
    outputs = logits(images, classes, seed=seed).float()
    fidelity = measure_outputs(outputs, outputs.clone())
    numbers = (fidelity.kl, fidelity.kl_median, fidelity.divergence, fidelity.drop, fidelity.agreement)
    assert numbers == (0, 0, 0, 0, 1)
    assert (fidelity.quotients.negative, fidelity.quotients.median, fidelity.quotients.spread) == (0, 1, 0)


def test_the_numbers_are_means_medians_and_quartiles_of_the_images():
    fidelity = measure_outputs(logits(8, 5), logits(8, 5, seed=1))
    each = fidelity.per_image
    ordered = sorted(each.kl.tolist())
    assert fidelity.kl == pytest.approx(sum(ordered) / 8)
    assert fidelity.kl_median == pytest.approx((ordered[3] + ordered[4]) / 2)
    assert fidelity.drop == pytest.approx(sum(each.drop.tolist()) / 8)
    assert fidelity.agreement == sum(each.agree.tolist()) / 8
    ordered = sorted(each.quotient.tolist())  # 8 values: the quartiles lie at places 1.75, 3.5 and 5.25
    assert fidelity.quotients.lower == pytest.approx(ordered[1] + 0.75 * (ordered[2] - ordered[1]))
    assert fidelity.quotients.median == pytest.approx((ordered[3] + ordered[4]) / 2)
    assert fidelity.quotients.upper == pytest.approx(ordered[5] + 0.25 * (ordered[6] - ordered[5]))
    assert fidelity.quotients.spread == pytest.approx(fidelity.quotients.upper - fidelity.quotients.lower)


def test_images_on_which_the_original_is_undecided_have_no_quotient():
    original = torch.tensor([[1.0, 1.0, 0.0], [2.0, 0.0, 0.0], [1.0, 1.0 + 1e-7, 0.0]], dtype=torch.float64)
    fidelity = measure_outputs(original, logits(3, 3))
    assert fidelity.per_image.quotient.isnan().tolist() == [True, False, True]
    assert fidelity.quotients.skipped == 2
    assert fidelity.quotients.median == pytest.approx(float(quotient(original, logits(3, 3))[1]))


def test_without_any_quotient_there_is_no_share():
    fidelity = measure_outputs(torch.ones(2, 3), logits(2, 3))
    assert (fidelity.quotients.negative, fidelity.quotients.median, fidelity.quotients.spread) == (None, None, None)
    assert fidelity.to_json()["quotient_skipped"] == 2


def test_accuracy_counts_the_known_labels_only():
    original, sub = torch.eye(4)[[0, 1, 2, 3]], torch.eye(4)[[0, 0, 2, 1]]
    fidelity = measure_outputs(original, sub, torch.tensor([0, 1, -1, 2]))
    assert fidelity.accuracy_original == pytest.approx(2 / 3)
    assert fidelity.accuracy == pytest.approx(1 / 3)
    unknown = measure_outputs(original, sub, torch.full((4,), -1))
    assert (unknown.accuracy, unknown.accuracy_original) == (None, None)
    assert measure_outputs(original, sub).accuracy is None


@pytest.mark.parametrize("objective", ["mse", "cosine", OBJECTIVES["mse"]])
def test_outputs_that_are_no_classes_have_a_divergence_only(objective):
    original, sub = logits(4, 3), logits(4, 3, seed=1)
    fidelity = measure_outputs(original, sub, torch.zeros(4, dtype=torch.long), objective=objective)
    function = objective if callable(objective) else OBJECTIVES[objective]
    assert fidelity.divergence == pytest.approx(float(function(sub, original).mean()))
    assert fidelity.divergence_median > 0
    rest = {k: v for k, v in fidelity.to_json().items() if k not in ("images", "divergence", "divergence_median")}
    assert rest.pop("quotient_skipped") == 0
    assert set(rest.values()) == {None}
    assert fidelity.per_image.to_json()["agree"] is None


def test_one_output_is_no_class_and_any_other_objective_takes_classes():
    assert measure_outputs(logits(4, 1), logits(4, 1, seed=1)).agreement is None
    fidelity = measure_outputs(logits(4, 3), logits(4, 3, seed=1), objective=lambda sub, original: sub[:, 0])
    assert fidelity.divergence == pytest.approx(float(logits(4, 3, seed=1)[:, 0].mean()))
    assert fidelity.kl is not None
    assert fidelity.kl != fidelity.divergence


def test_the_json_is_json_without_nan():
    original = torch.tensor([[1.0, 1.0], [3.0, 0.0]])
    fidelity = measure_outputs(original, torch.tensor([[1.0, 1.0], [math.nan, 0.0]]))
    written = json.loads(json.dumps([fidelity.to_json(), fidelity.per_image.to_json()], allow_nan=False))
    assert written[0]["kl"] is None
    assert written[1]["quotient"] == [None, None]
    assert written[1]["agree"][0] is True


def test_what_does_not_fit_is_named():
    with pytest.raises(DataError, match=r"outputs \(N, K\) of both networks .* got \(2, 3\) and \(2, 4\)"):
        measure_outputs(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(DataError, match=r"at least one, but got \(0, 3\)"):
        measure_outputs(torch.ones(0, 3), torch.ones(0, 3))
    with pytest.raises(DataError, match=r"one label for each of 2 images, but got \(3,\)"):
        measure_outputs(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(3))
    with pytest.raises(SettingsError, match="No objective is called 'kll'"):
        measure_outputs(torch.ones(2, 3), torch.ones(2, 3), objective="kll")
