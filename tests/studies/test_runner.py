from __future__ import annotations

import numpy as np
import pytest
import torch

from neurochains.chains import OBJECTIVES
from neurochains.data import Task
from neurochains.extraction import extract
from neurochains.measures import quotient
from neurochains.network import Network, load_model
from neurochains.studies import Plan, expand
from neurochains.studies.results import base_of
from neurochains.studies.runner import Runner

from .conftest import plan_of


def jobs_of(plan):
    return {
        case.spec["method"]["name"]: {"id": case.id, "spec": case.spec, "base": None} for case in expand(Plan.of(plan))
    }


@pytest.fixture
def run(world):
    """Return the runner and the results of all methods of the small plan."""
    runner, jobs = Runner(world), jobs_of(plan_of())
    results = {"paper": runner.run(jobs["paper"])}
    for name in ("magnitude", "random"):
        results[name] = runner.run({**jobs[name], "base": base_of(results["paper"])})
    assert {result["status"] for result in results.values()} == {"done"}
    return runner, results


def test_a_case_is_what_extract_gives(world, run):
    model = load_model("nets.py:small")
    task = Task.from_folder("images", classes=["ant", "bee"], per_class=3, held_out=2, model=model)
    chain = extract(model, task, method="paper", steps=2, refit=1, size=7, controls=False)
    result = run[1]["paper"]
    assert result["row"]["kl"] == chain.metrics["kl"]
    assert result["row"]["held_out_agreement"] == chain.metrics["held_out"]["agreement"]
    kept = chain.subnetwork.list_filters()
    rows = result["filters"]
    assert list(zip(rows["layer"], rows["index"])) == [(unit.layer, unit.index) for unit in kept]
    assert rows["score"] == [float(chain.scores[unit.layer][unit.index]) for unit in kept]
    assert result["digest"] == chain.network.digest


def test_what_happens_without_a_filter_is_what_removing_it_does(world, run):
    model = load_model("nets.py:small")
    task = Task.from_folder("images", classes=["ant", "bee"], per_class=3, held_out=2, model=model)
    network = Network.trace(model, task.images[:1])
    chain = extract(network, task, method="paper", steps=2, refit=1, size=7, controls=False)
    scores, rows = chain.subnetwork, run[1]["paper"]["filters"]
    whole, before = network(task.images).double(), scores.run(network, task.images).double()
    first = whole.argmax(-1)
    images = torch.arange(len(first))
    for place, unit in enumerate(scores.list_filters()):
        after = scores.without(unit).run(network, task.images).double()
        drop = (before.softmax(-1) - after.softmax(-1))[images, first].mean()
        assert rows["drop"][place] == pytest.approx(float(drop), abs=1e-6)
        assert rows["divergence"][place] == pytest.approx(float(OBJECTIVES["kl"](after, whole).mean()), abs=1e-6)
        assert rows["moved"][place] == pytest.approx(float(OBJECTIVES["kl"](after, before).mean()), abs=1e-6)
        assert rows["changed"][place] == float((quotient(whole, after) < 0).double().mean())


def test_controls_have_the_size_of_what_they_are_like(run):
    paper, magnitude, random = (run[1][name] for name in ("paper", "magnitude", "random"))
    counts = [np.unique(result["filters"]["layer"], return_counts=True)[1].tolist() for result in (paper, magnitude)]
    assert counts[0] == counts[1], "as many in each layer"
    assert len(random["filters"]["layer"]) == len(paper["filters"]["layer"]) == 7
    assert magnitude["filters"]["drop"] == [None] * 7, "what was not searched for is not taken apart"
    assert magnitude["row"]["refit"] == 1


def test_the_budget_method_can_take_a_size_too(world, run):
    methods = [*plan_of()["methods"], {"method": "budget", "like": "paper"}]
    job = jobs_of(plan_of(methods=methods))["budget"]
    result = run[0].run({**job, "base": base_of(run[1]["paper"])})
    assert result["row"]["filters"] == 7


def test_models_and_tasks_are_loaded_once(run):
    assert run[0].loaded == 1
    assert len(run[0]._networks) == len(run[0]._tasks) == 1


def test_the_order_of_cases_does_not_matter(world, run):
    fresh = Runner(world).run(jobs_of(plan_of())["paper"])
    for name in ("row", "filters"):
        one, other = fresh[name], run[1]["paper"][name]
        assert {k: v for k, v in one.items() if "seconds" not in k} == {
            k: v for k, v in other.items() if "seconds" not in k
        }


def test_an_error_is_a_result(world):
    jobs = jobs_of(plan_of(models=["nets.py:broken"]))
    result = Runner(world).run(jobs["paper"])
    assert (result["status"], result["error_type"]) == ("failed", "ModelError")
    assert "raised ValueError: no weights here" in result["error"]


def test_weights_from_elsewhere_take_the_place_of_the_models_own(world, run):
    given = {name: value + 0.1 for name, value in load_model("nets.py:small").state_dict().items()}
    other = Runner(world, weights=lambda name: given if name == "small" else None)
    result = other.run(jobs_of(plan_of())["paper"])
    assert result["status"] == "done"
    assert result["digest"] != run[1]["paper"]["digest"]


def test_a_model_that_does_not_say_it_is_told_how_images_are_prepared(world):
    (world / "plain.py").write_text("from nets import small as build\ndef small():\n    return build()\n")
    entry = {"model": "plain.py:small", "name": "small"}
    assert "how images" in Runner(world).run(jobs_of(plan_of(models=[entry]))["paper"])["error"].casefold()
    half = {**entry, "input_size": 12}
    assert "give input_size, mean and std" in Runner(world).run(jobs_of(plan_of(models=[half]))["paper"])["error"]
    told = {**entry, "input_size": 12, "mean": [0.5] * 3, "std": [0.5] * 3}
    assert Runner(world).run(jobs_of(plan_of(models=[told]))["paper"])["status"] == "done"


def test_shapes_are_held_out_from_another_split(tmp_path):
    pair = ["red striped disc", "red striped star"]
    plan = {"models": ["shapes:vgg"], "tasks": [{"shapes": True, "pairs": [pair], "per_class": 2, "held_out": 1}]}
    _, task = Runner(tmp_path).prepare(next(expand(Plan.of(plan))).spec)
    assert (len(task), len(task.held_out)) == (4, 2)
    assert not set(task.digests) & set(task.held_out.digests)


def test_a_planted_circuit_is_compared_with_the_truth(tmp_path):
    methods = [{"method": "paper", "steps": 1, "refit": 0, "size": 5}]
    case = next(expand(Plan.of({"tasks": [{"planted": "plain-small"}], "methods": methods})))
    result = Runner(tmp_path).run({"id": case.id, "spec": case.spec, "base": None})
    assert result["status"] == "done", result.get("error")
    assert 0 <= result["row"]["planted_precision"] <= 1
    assert result["row"]["planted_found"] == 5
    assert result["row"]["planted_exact"] is False
