"""The local engine on real processes; one test with few of them, the long ones marked slow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurochains.studies import Plan, expand, read_study, run_study
from neurochains.studies.local import LocalEngine

from .conftest import plan_of

MODELS = ["nets.py:narrow", "nets.py:deadly"]


def without_times(frame):
    columns = [name for name in frame if not name.startswith("seconds")]
    return frame[columns].astype({"case": str}).sort_values(["case"], kind="stable").reset_index(drop=True)


def test_workers_run_cases_survive_printing_and_say_how_they_died(world):
    paper = plan_of()["methods"][:1]
    done = run_study(plan_of(models=MODELS, methods=paper), "out", workers=1)
    assert (done.done, done.failed) == (1, 1)
    failed = read_study("out").cases.query("status == 'failed'").iloc[0]
    assert (failed["model"], failed["error_type"]) == ("nets.py:deadly", "WorkerLost")
    assert failed["error"] == "The worker ended with code 3."


def test_an_engine_that_was_stopped_leaves_no_process(world):
    engine = LocalEngine(world, workers=2)
    case = next(expand(Plan.of(plan_of())))
    for number in range(2):
        engine.submit({"id": f"{number}", "spec": case.spec, "base": None})
    processes = [worker._process for worker in engine._workers]
    assert len(processes) == 2
    engine.stop()
    assert all(process.poll() is not None for process in processes)
    assert engine.collect(0.01) == []


@pytest.mark.slow
def test_two_workers_give_what_one_gives(world):
    plan = plan_of(tasks=[{"images": "images", "per_class": 3, "held_out": 2}])
    for workers in (1, 2):
        run_study(plan, f"out{workers}", workers=workers)
    one, other = read_study("out1"), read_study("out2")
    assert len(one.cases) == 18
    assert without_times(one.cases).equals(without_times(other.cases))
    assert without_times(one.filters).equals(without_times(other.filters))


DRIVER = """
import sys
from neurochains.studies import run_study
sys.path.insert(0, {root!r})
from tests.studies.conftest import plan_of
tasks = [{{"images": "images", "per_class": 3, "held_out": 2}}]
report = lambda progress: print(progress.done, flush=True)
run_study(plan_of(tasks=tasks), "out", workers=2, progress=report)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals are those of POSIX")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_driver_loses_nothing_and_leaves_no_workers(world, sent):
    code = DRIVER.format(root=str(Path(__file__).parents[2]))
    driver = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in driver.stdout:
        if int(line) >= 4:
            break
    children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children")
    workers = children.read_text().split() if children.exists() else []
    driver.send_signal(sent)
    driver.communicate(timeout=60)
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in workers):
            break
        time.sleep(0.1)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
    before = set(read_study("out").cases.case)
    assert 4 <= len(before) < 18
    plan = plan_of(tasks=[{"images": "images", "per_class": 3, "held_out": 2}])
    assert run_study(plan, "out", workers=1).before == len(before)
    run_study(plan, "whole", workers=1)
    one, other = read_study("out"), read_study("whole")
    assert without_times(one.cases).equals(without_times(other.cases))
    assert without_times(one.filters).equals(without_times(other.filters))
