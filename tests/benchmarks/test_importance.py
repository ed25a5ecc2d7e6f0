"""The benchmark of importance: its reference, its verdict, and the results it stored."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import importance as benchmark
from neurochains.circuits import importance
from neurochains.network import load_model


def result(**changes):
    numbers = {"bare": 1.0, "usual": 1.3, "abs": 2.0, "signed": 1.2}
    whole = {
        "network": "n",
        "target": "t",
        "images": 2,
        "filters": 3,
        "kernels": 4000,
        "ratio": numbers,
        "megabytes_above": dict.fromkeys(numbers, 10.0),
        "difference": {"abs": 1e-6, "signed": 1e-7},
        "seconds": {"bare": 0.5},
    }
    return {**whole, **changes}


@pytest.mark.parametrize(
    ("changes", "holds"),
    [
        ({}, True),
        ({"ratio": {"abs": 4.1, "signed": 1.2}}, False),
        ({"ratio": {"abs": 2.0, "signed": 1.7}}, False),
        ({"megabytes_above": {"abs": 601.0, "signed": 0.0}}, False),
        ({"difference": {"abs": 1e-7, "signed": 2e-5}}, False),
    ],
)
def test_every_limit_counts(changes, holds):
    assert benchmark.holds(result(**changes)) is holds


def test_the_table_shows_each_work():
    lines = benchmark.table(result()).splitlines()
    assert lines[0] == "n, 2 images, t: 3 filters and 4,000 kernels"
    assert lines[4].split() == ["abs", "2.00", "10", "1.0e-06"]
    assert lines[-1].endswith("all limits held: True")


def test_the_stored_result_holds_all_limits():
    stored = json.loads(benchmark.RESULTS.read_text())
    assert (stored["filters"], stored["kernels"], stored["images"]) == (1152, 250_048, 20)
    assert benchmark.holds(stored)


def test_the_comparison_sees_a_wrong_number():
    torch.manual_seed(0)
    model, images = load_model("torchvision:alexnet", pretrained=False), torch.randn(1, 3, 224, 224)
    found = importance(model, images, target=benchmark.TARGET)
    assert benchmark.compare(model, images, found, 10) < benchmark.DIFFERENCE
    found.kernels["features.6"].mul_(1.01)
    assert benchmark.compare(model, images, found, 10) > 1e-3
    used, peak = benchmark.watched(lambda: torch.zeros(2**26))
    assert used >= 0
    assert peak > 256 or not benchmark.STATUS.exists()
