"""The Ray engine on two nodes of this machine, one of which is lost in the middle."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from neurochains.errors import SettingsError
from neurochains.studies import read_study, run_study
from neurochains.studies.cluster import RayEngine

from .conftest import answer_of, plan_of


def test_a_case_that_asks_for_nothing_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"A case needs processors or GPUs; got cpus=0\.0 and gpus=0\.0"):
        RayEngine(tmp_path, cpus=0.0)


class LostError(Exception):
    """What a cluster raises for a task that it gave up."""


class Cluster:
    """Stands in for Ray: tasks run when they are waited for, and are lost as often as told."""

    exceptions = SimpleNamespace(RayError=LostError)

    def __init__(self, *, lose: int = 0, nodes: int = 2) -> None:
        self.lose, self.nodes = lose, nodes
        self.put_values: list[Any] = []
        self.tasks: dict[int, tuple] = {}
        self.needs: dict[str, Any] = {}
        self.count = 0
        self.cancelled: list[int] = []
        self.shut = False

    def is_initialized(self):
        return False

    def init(self, **options):
        self.address = options["address"]

    def cluster_resources(self):
        return {"CPU": 4.0 * self.nodes, "GPU": 1.0 * self.nodes}

    def put(self, value):
        self.put_values.append(value)
        return len(self.put_values) - 1

    def remote(self, function):
        return SimpleNamespace(options=lambda **needs: self.needs.update(needs) or SimpleNamespace(remote=self.start))

    def start(self, *arguments):
        self.count += 1
        self.tasks[self.count] = arguments
        return self.count

    def wait(self, references, *, num_returns, timeout):
        return references[:num_returns], references[num_returns:]

    def get(self, reference):
        job = json.loads(self.tasks.pop(reference)[0])
        if self.lose:
            self.lose -= 1
            raise LostError("the node died")
        return json.dumps(answer_of(job))

    def cancel(self, reference, *, force):
        self.cancelled.append(reference)

    def shutdown(self):
        self.shut = True


@pytest.fixture
def cluster(monkeypatch):
    """Return the function that puts a cluster in the place of Ray."""

    def use(**options):
        made = Cluster(**options)
        monkeypatch.setattr("neurochains.studies.cluster.import_extra", lambda _name, purpose: made)
        return made

    return use


def test_weights_are_put_once_and_needs_are_passed_on(world, cluster):
    ray = cluster()
    done = run_study(plan_of(), "out", engine="ray", address="auto", cpus=2, gpus=0.25)
    assert (done.done, done.failed) == (3, 0)
    assert ray.needs == {"num_cpus": 2, "num_gpus": 0.25, "max_retries": 3}
    assert len(ray.put_values) == 1
    assert {name: value.shape for name, value in ray.put_values[0].items()}["0.weight"] == (6, 3, 3, 3)
    assert (ray.address, ray.shut) == ("auto", True)


@pytest.mark.parametrize(("lose", "done", "failed"), [(2, 3, 0), (3, 0, 3)])
def test_what_the_cluster_loses_is_run_again_a_few_times(world, cluster, lose, done, failed):
    cluster(lose=lose)
    found = run_study(plan_of(), "out", engine="ray")
    assert (found.done, found.failed) == (done, failed)
    assert read_study("out").cases.case.is_unique
    if failed:
        assert "The cluster lost the case 3 times: the node died" in set(read_study("out").cases.error)


def test_room_is_what_the_cluster_has_now(tmp_path, cluster):
    ray = cluster(nodes=3)
    engine = RayEngine(tmp_path, cpus=2)
    assert engine.capacity == 6
    ray.nodes = 1
    assert engine.capacity == 2
    assert RayEngine(tmp_path, cpus=1, gpus=0.5).capacity == 2
    engine.submit({"id": "a", "spec": {"model": {"name": "planted:x", "planted": "x"}}, "base": None})
    engine.stop()
    assert ray.cancelled == [1]


def test_a_cluster_that_cannot_be_reached_is_said(tmp_path, cluster, monkeypatch):
    def fail(**_options):
        raise ConnectionError("nobody there")

    monkeypatch.setattr(cluster(), "init", fail)
    with pytest.raises(SettingsError, match=r"The Ray cluster on this machine cannot be reached: nobody there"):
        RayEngine(tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_lost_node_loses_no_case(world):
    ray = pytest.importorskip("ray")
    utils = pytest.importorskip("ray.cluster_utils")
    cluster = utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    plan = plan_of(tasks=[{"images": "images", "per_class": 3, "held_out": 2}])
    killed = threading.Event()

    def report(progress):
        if progress.done >= 3 and not killed.is_set():
            killed.set()
            cluster.remove_node(second, allow_graceful=False)

    try:
        done = run_study(plan, "out", engine="ray", address=cluster.address, progress=report)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert killed.is_set()
    assert (done.done, done.failed) == (18, 0)
    read = read_study("out")
    assert read.cases.case.is_unique
    run_study(plan, "local", workers=1)
    one = read.cases.set_index("case").filters
    assert one.sort_index().equals(read_study("local").cases.set_index("case").filters.sort_index())
