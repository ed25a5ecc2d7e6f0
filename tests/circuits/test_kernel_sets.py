"""Groups of images at once give what `importance` gives for each; sets and overlaps against plain Python."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from neurochains.circuits import Target, importance
from neurochains.circuits.kernel_sets import group_importance, kernel_set, overlaps
from neurochains.data import Task
from neurochains.errors import SettingsError

from ..architectures import images, traced


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("residual", "c.0[2]@max"),
        ("residual", "logit:1"),
        ("grouped", "logit:2"),
        ("depthwise", "logit:0"),
        ("dilated", "logit:0"),
        ("dense", "convs.1[1]@max"),
        ("channels last", "logit:3"),
    ],
)
def test_each_group_is_the_importance_on_its_images(name, target):
    network, task = traced(name), Task(images(6))
    members = ([0, 2, 5], [1, 3, 4], [0, 1])
    groups = torch.zeros(len(members), len(task))
    for row, chosen in zip(groups, members):
        row[chosen] = 1 / len(chosen)
    found = group_importance(network, task, Target.parse(target, network), groups, batch_size=4)
    for index, chosen in enumerate(members):
        wanted = importance(network, task.subset(chosen), target=target).kernels
        assert list(found) == list(wanted)
        for layer, values in wanted.items():
            torch.testing.assert_close(found[layer][index].float(), values.float(), rtol=1e-4, atol=1e-9)


def literal(values: list[float], keep: float) -> set[int]:
    """The largest first, until their sum carries the share."""
    chosen, carried = set(), 0.0
    for index in sorted(range(len(values)), key=lambda i: (-values[i], i)):
        if carried < keep * sum(values) and values[index] > 0:
            chosen.add(index)
            carried += values[index]
    return chosen


@given(st.lists(st.integers(0, 20), min_size=1, max_size=24), st.sampled_from([0.1, 0.25, 0.5, 0.75]))
def test_a_set_carries_its_share_and_is_the_smallest_that_does(values, keep):
    numbers = torch.tensor(values, dtype=torch.float64)
    mask = kernel_set({"a": numbers[None]}, keep)["a"][0]
    assert set(mask.nonzero().flatten().tolist()) == literal([float(v) for v in values], keep)
    assert numbers[mask].sum() >= keep * numbers.sum()
    if mask.any():
        assert numbers[mask].sum() - numbers[mask].min() < keep * numbers.sum()


def test_all_of_the_importance_is_all_kernels_that_have_any():
    values = torch.tensor([[0.5, 0.0, 1e-9], [3.0, 0.0, 0.0]])
    assert torch.equal(kernel_set({"a": values}, 1.0)["a"], values > 0)


def test_overlaps_are_intersections_by_unions():
    sets = [{0, 1, 2, 7}, {1, 2, 3}, {9}, set(), set()]
    masks = []
    for chosen in sets:
        flat = torch.zeros(10, dtype=torch.bool)
        flat[list(chosen)] = True
        masks.append({"a": flat[:4].view(2, 2), "b": flat[4:].view(2, 3)})
    found = overlaps(masks)
    for i, one in enumerate(sets):
        for j, other in enumerate(sets):
            wanted = len(one & other) / len(one | other) if one | other else 1.0
            assert found[i, j] == pytest.approx(wanted)


@pytest.mark.parametrize("keep", [0.0, -1, 1.2])
def test_a_share_out_of_range(keep):
    with pytest.raises(SettingsError, match="above 0 and at most 1; got"):
        kernel_set({}, keep)
