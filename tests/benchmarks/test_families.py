"""The benchmark of network families: its list, its verdicts, its results, and weights that let a difference show."""

from __future__ import annotations

import csv

import pytest
import torch
from benchmarks.families import Row
from torch import nn

from benchmarks import families


def test_the_list_has_at_least_120_families_each_once():
    names = [name for name, _ in families.families()]
    assert len(names) == len(set(names)) >= 120
    assert {name.partition(":")[0] for name in names} == {"timm", "torchvision"}


def test_lines_name_a_model_a_side_and_channels(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# a comment\n\ntorchvision:vgg11 64 # smallest\ntimm:x\ntimm:y 28 1\n")
    wanted = [("torchvision:vgg11", (3, 64, 64)), ("timm:x", (3, 224, 224)), ("timm:y", (1, 28, 28))]
    assert list(families.families(path)) == wanted


def test_the_stored_results_are_of_the_list_and_all_pass():
    with families.RESULTS.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["family"] for row in rows] == [name for name, _ in families.families()]
    assert not [row["family"] for row in rows if row["error"]]
    assert all(float(row["traced"]) < families.TRACED for row in rows)
    assert all(float(row["compacted"] or 0) < families.COMPACTED for row in rows)


@pytest.mark.parametrize(
    ("row", "passes"),
    [
        (Row("a", "3x8x8", traced=0.0, compacted=1e-6), True),
        (Row("a", "3x8x8", traced=0.0, compacted=None), True),
        (Row("a", "3x8x8", traced=2e-5, compacted=1e-6), False),
        (Row("a", "3x8x8", traced=0.0, compacted=2e-4), False),
        (Row("a", "3x8x8", traced=float("nan"), compacted=0.0), False),
        (Row("a", "3x8x8", error="TraceError: no"), False),
    ],
)
def test_a_row_passes_within_both_limits(row, passes):
    assert row.passes is passes
    assert ("ok" in families.line(row)) is passes
    assert families.summary([row]).startswith(f"{int(passes)} of 1 families pass")


def test_one_family_runs_and_is_written(tmp_path):
    row = families.run("shapes:vgg", (3, 64, 64))
    assert row.passes
    assert row.filters > 0
    families.write([row], tmp_path / "deep" / "rows.csv")
    lines = (tmp_path / "deep" / "rows.csv").read_text().splitlines()
    assert lines[0].startswith("family,input,layers")
    assert lines[1].startswith("shapes:vgg,3x64x64,")


def test_a_failure_becomes_a_row():
    row = families.run("torchvision:nowhere", (3, 8, 8))
    assert row.error.startswith("ModelNameError")


def test_random_weights_leave_nothing_at_zero():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)).eval()
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[3].weight)
    families.randomise(model, torch.randn(2, 3, 3, 3))
    assert all(parameter.all() for parameter in model.parameters())
    assert model[1].running_mean.all()
    assert not model[1].training
