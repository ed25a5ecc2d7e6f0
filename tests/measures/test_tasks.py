"""Fidelity on the images of a task, given and held out."""

from __future__ import annotations

import pytest
import torch

from neurochains.data.task import Task
from neurochains.errors import DataError
from neurochains.measures import measure_fidelity, measure_outputs, run_scores, run_task


def test_given_and_held_out_images_are_measured_apart(network, task, scores):
    found = measure_fidelity(network, task, scores)
    for part, images, labels in (
        (found.given, task.images, task.labels),
        (found.held_out, task.held_out.images, task.held_out.labels),
    ):
        wanted = measure_outputs(network(images), scores.run(network, images), labels)
        assert part.to_json() == pytest.approx(wanted.to_json(), rel=1e-4)


def test_without_held_out_images_there_is_no_such_part(network, task, scores):
    found = measure_fidelity(network, Task(task.images), scores)
    assert found.held_out is None
    assert "held_out" not in found.to_json()


def test_the_whole_network_is_wholly_faithful(network, task, whole):
    found = measure_fidelity(network, task, whole)
    for part in (found.given, found.held_out):
        assert part.agreement == 1
        assert part.kl == pytest.approx(0, abs=1e-9)
        assert part.accuracy == part.accuracy_original


def test_the_objective_reaches_both_parts(network, task, scores):
    found = measure_fidelity(network, task, scores, objective="cosine").to_json()
    assert found["agreement"] is found["held_out"]["agreement"] is None
    assert found["divergence"] > 0
    assert found["held_out"]["divergence"] > 0


def test_many_images_run_in_batches(network, scores):
    sizes = []
    images = torch.randn(70, 3, 8, 8)
    outputs = run_task(lambda some: sizes.append(len(some)) or network(some), Task(images))
    assert max(sizes) < sum(sizes) == 70
    torch.testing.assert_close(outputs.given, network(images))
    assert run_scores(network, Task(images), scores).given.shape == (70, 4)


def test_images_of_another_size_are_refused(network, scores):
    with pytest.raises(DataError, match="traced for inputs"):
        measure_fidelity(network, Task(torch.randn(2, 3, 9, 9)), scores)
