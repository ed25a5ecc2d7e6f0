from __future__ import annotations

import threading

import pytest

from neurochains.explorer.worker import Stopped, stop_point, wish, worker


@pytest.fixture
def made(tmp_path):
    worked = worker(str(tmp_path))
    yield worked
    worked.close()


def test_a_job_ends_at_its_next_stop_point_and_is_forgotten(made):
    begun, ended = threading.Event(), threading.Event()

    def work(*_args):
        begun.set()
        try:
            while True:
                stop_point()
        except Stopped:
            ended.set()

    job = made.call_job_fn("key", work, [], {})
    assert begun.wait(20)
    assert made.job_running(job)
    made.terminate_job(job)
    assert ended.wait(20)


def test_outside_a_job_nothing_stops():
    stop_point()


def test_two_wishes_for_the_same_are_two():
    first, second = wish("?a"), wish("?a")
    assert first["search"] == second["search"] == "?a"
    assert first != second
