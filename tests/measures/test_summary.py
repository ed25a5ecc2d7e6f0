"""The metrics that every chain carries."""

from __future__ import annotations

import json

import pytest
import torch

from neurochains.data.task import Task
from neurochains.measures import CONTROLS, measure_chain, measure_controls, measure_fidelity, measure_sizes

PROMISED = (
    "filters of layers layers_of kl kl_median agreement drop quotient_negative quotient_median accuracy "
    "accuracy_original macs macs_of parameters parameters_of seconds_original seconds_scored seconds_compact parity "
    "controls faithfulness held_out"
).split()


@pytest.fixture(scope="module")
def metrics(network, task, scores) -> dict:
    return measure_chain(network, task, scores, seed=3, steps=4)


def test_all_that_is_promised_is_there_and_json(metrics):
    assert set(PROMISED) <= metrics.keys()
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert {"kl", "kl_median", "agreement", "drop", "quotient_negative", "accuracy"} <= metrics["held_out"].keys()
    assert {"pearson", "spearman", "slope"} <= metrics["faithfulness"].keys()


def test_the_numbers_are_those_of_the_single_measures(network, task, scores, metrics):
    fidelity = measure_fidelity(network, task, scores).to_json()
    sizes = measure_sizes(network, task.images, scores).to_json()
    assert {name: metrics[name] for name in (*fidelity, *sizes)} == {**fidelity, **sizes}
    assert list(metrics["controls"]) == list(CONTROLS)
    controls = measure_controls(network, task, scores, seed=3, steps=4, names=["random"])
    assert metrics["controls"]["random"] == controls["random"].to_json()


def test_the_same_seed_gives_the_same_metrics(network, task, scores, metrics):
    again = measure_chain(network, task, scores, seed=3, steps=4, seconds=False)
    timeless = {name: value for name, value in metrics.items() if not name.startswith("seconds_")}
    assert again == timeless
    other = measure_chain(network, task, scores, seed=4, steps=4, seconds=False)
    assert other["controls"]["random"] != again["controls"]["random"]


def test_whatever_takes_long_may_be_left_out(network, task, scores):
    found = measure_chain(network, task, scores, controls=False, faithfulness=False, seconds=False)
    assert not {"controls", "faithfulness", "seconds_original"} & found.keys()


def test_controls_times_and_held_out_images_may_be_absent(network, task, scores):
    found = measure_chain(network, Task(task.images), scores, objective="mse", controls=False, seconds=False)
    assert not {"controls", "held_out", "seconds_original"} & found.keys()
    assert found["kl"] is found["accuracy"] is found["faithfulness"]["pearson"] is None
    assert found["divergence"] > 0


def test_the_whole_network_loses_nothing(network, task, whole):
    found = measure_chain(network, task, whole, controls=False, seconds=False)
    assert (found["agreement"], found["quotient_negative"], found["filters"]) == (1, 0, found["of"])
    assert found["kl"] == pytest.approx(0, abs=1e-9)
    assert found["drop"] == pytest.approx(0, abs=1e-6)


def test_network_and_task_are_left_as_they_were(network, task, scores):
    before = {name: value.clone() for name, value in network.module.state_dict().items()}
    images, units = task.images.clone(), {name: values.clone() for name, values in scores.units.items()}
    module = (network.module.code, network.module.training)
    measure_chain(network, task, scores, steps=2)
    assert all(torch.equal(value, before[name]) for name, value in network.module.state_dict().items())
    assert torch.equal(task.images, images)
    assert all(torch.equal(values, units[name]) for name, values in scores.units.items())
    assert (network.module.code, network.module.training) == module
