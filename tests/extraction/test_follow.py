from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurochains.chains.budget import Round
from neurochains.extraction import Progress
from neurochains.extraction.follow import Follower


def follower(reports, *, total=1000, least=1, steps=None) -> Follower:
    return Follower(reports.append, total=total, least=least, steps=steps)


def test_nobody_need_listen():
    silent = Follower(None, total=10, least=1, steps=None)
    silent("eliminating", Round(1, 5, 0.1, True, 1.0))
    silent.stage("measuring")


def test_a_method_with_steps_counts_them():
    reports = []
    follower(reports, steps=300)("optimising", Round(75, 640, 0.25, True, 10.0))
    assert reports == [Progress("optimising", 75, 300, 0.25, 640, pytest.approx(30.0))]


@given(st.integers(1, 20_000), st.data())
def test_the_elimination_goes_from_0_to_100(total, data):
    least = data.draw(st.integers(1, total))
    sizes = data.draw(st.lists(st.integers(least, total), min_size=1, max_size=8))
    reports = []
    follow = follower(reports, total=total, least=least)
    for step, size in enumerate(sizes, 1):
        follow("eliminating", Round(step, size, 0.01, True, float(step)))
    for report, size in zip(reports, sizes, strict=True):
        assert 0 <= report.step <= 99
        assert report.steps == 100
        assert report.filters == size
        assert report.seconds_left is None or report.seconds_left >= 0


def test_each_round_that_halves_the_network_is_the_same_step():
    reports = []
    follow = follower(reports, total=1024, least=64)
    for size in (1024, 512, 256, 128):
        follow("eliminating", Round(1, size, 0.01, True, 1.0))
    assert [report.step for report in reports] == [0, 25, 50, 75]


def test_it_never_goes_back():
    """A round that failed reports the size that was tried; the next one tries less."""
    reports = []
    follow = follower(reports, total=1000)
    for size, kept in ((500, True), (100, False), (400, True), (20, True), (15, True)):
        follow("eliminating", Round(1, size, 0.01, kept, 1.0))
    steps = [report.step for report in reports]
    assert steps == sorted(steps)
    assert steps[1] == steps[0]


def test_the_time_left_is_in_proportion():
    reports = []
    follow = follower(reports, total=1024, least=64)
    follow("eliminating", Round(1, 256, 0.01, True, 20.0))
    assert reports[0].seconds_left == pytest.approx(20.0)
    follow("eliminating", Round(1, 1024, 0.01, True, 0.0))
    assert reports[0].divergence == 0.01


def test_what_is_not_known_is_none():
    reports = []
    follow = follower(reports)
    follow("certifying", Round(4, 40, math.nan, True, 0.0))
    follow.stage("measuring")
    assert (reports[0].divergence, reports[0].filters, reports[0].seconds_left) == (None, 40, None)
    assert reports[1] == Progress("measuring", 100, 100)
