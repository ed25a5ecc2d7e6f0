from __future__ import annotations

import pytest

from neurochains.errors import ArtifactError, SettingsError
from neurochains.studies import Plan, expand, read_study, run_study
from neurochains.studies.progress import Pace

from .conftest import Inline, Made, plan_of, shapes_plan


def test_every_case_is_run_once_and_a_second_run_repeats_nothing(tmp_path, engines):
    made, reports = engines(Made), []
    done = run_study(shapes_plan(5), tmp_path / "out", progress=reports.append)
    assert (done.cases, done.done, done.failed, done.before) == (15, 15, 0, 0)
    assert len({job["id"] for job in made[0].jobs}) == len(made[0].jobs) == 15
    assert made[0].stopped
    assert read_study(tmp_path / "out").cases.case.is_unique
    assert [report.done for report in reports] == sorted(report.done for report in reports)
    assert (reports[-1].done, reports[-1].running, reports[-1].seconds_left) == (15, 0, 0)
    again = run_study(shapes_plan(5), tmp_path / "out")
    assert (again.done, again.before, len(made)) == (15, 15, 1)


def test_a_case_is_told_the_sub_network_whose_size_it_takes(tmp_path, engines):
    made = engines(Made)
    run_study(shapes_plan(2), tmp_path / "out")
    by_id = {job["id"]: job for job in made[0].jobs}
    for case in expand(Plan.of(shapes_plan(2))):
        base = by_id[case.id]["base"]
        if case.like is None:
            assert base is None
        else:
            assert (base["layer"], base["index"], base["refit"], base["skipped"]) == (["0"] * 3, [0, 1, 2], 1, [])


def test_a_failing_case_is_recorded_and_the_rest_go_on(tmp_path, engines):
    cases = list(expand(Plan.of(shapes_plan(3))))

    class Failing(Made):
        failing = frozenset({cases[0].id})

    made = engines(Failing)
    done = run_study(shapes_plan(3), tmp_path / "out")
    assert (done.done, done.failed) == (6, 3)
    failed = read_study(tmp_path / "out").cases.query("status == 'failed'").set_index("case")
    assert failed.loc[cases[0].id, "error"] == "no"
    assert failed.loc[cases[1].id, "error"] == f"The case whose size it takes, {cases[0].id}, failed: no"
    assert len(made[0].jobs) == 7, "what needs the failed case is not run"
    assert run_study(shapes_plan(3), tmp_path / "out").before == 9
    engines(Made)
    mended = run_study(shapes_plan(3), tmp_path / "out", retry=True)
    assert (mended.done, mended.failed, mended.before) == (9, 0, 6)
    assert sorted(read_study(tmp_path / "out").cases.case) == sorted(case.id for case in cases)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_whatever_stops_it_what_came_back_is_kept_and_the_rest_is_run_later(tmp_path, engines, error):
    class Stopping(Made):
        def answer(self, job):
            if len(self.jobs) == 6:
                raise error
            return super().answer(job)

    made = engines(Stopping)
    with pytest.raises(error):
        run_study(shapes_plan(4), tmp_path / "out")
    assert made[0].stopped
    before = set(read_study(tmp_path / "out").cases.case)
    assert len(before) >= 4
    made = engines(Made)
    assert run_study(shapes_plan(4), tmp_path / "out").done == 12
    assert not before & {job["id"] for job in made[-1].jobs}
    engines(Made)
    run_study(shapes_plan(4), tmp_path / "whole")
    one, other = (read_study(tmp_path / name) for name in ("out", "whole"))
    order = ["case", "index"]
    assert (
        one.cases.sort_values("case")
        .reset_index(drop=True)
        .equals(other.cases.sort_values("case").reset_index(drop=True))
    )
    assert one.filters.astype({"case": str}).sort_values(order).score.tolist() == (
        other.filters.astype({"case": str}).sort_values(order).score.tolist()
    )


def test_a_result_that_comes_twice_is_taken_once(tmp_path, engines):
    class Twice(Made):
        def collect(self, timeout):
            found = super().collect(timeout)
            return found + found

    engines(Twice)
    assert run_study(shapes_plan(3), tmp_path / "out").done == 9
    assert read_study(tmp_path / "out").cases.case.is_unique


def test_another_plan_in_the_folder_is_refused_and_one_that_grew_goes_on(tmp_path, engines):
    made = engines(Made)
    run_study(shapes_plan(2), tmp_path / "out")
    with pytest.raises(ArtifactError, match="holds the results of another plan: 6 of 6 finished"):
        run_study(shapes_plan(2, seeds=[1]), tmp_path / "out")
    assert run_study(shapes_plan(3, seeds=[0, 1]), tmp_path / "out").before == 6
    assert len(made[-1].jobs) == 12


def test_a_model_with_other_weights_than_before_is_refused(tmp_path, engines):
    class Changed(Made):
        def answer(self, job):
            return {**super().answer(job), "digest": "other"}

    engines(Made)
    run_study(shapes_plan(2), tmp_path / "out")
    engines(Changed)
    with pytest.raises(ArtifactError, match="The model shapes:vgg has other weights now than when the results in"):
        run_study(shapes_plan(3), tmp_path / "out")
    assert len(read_study(tmp_path / "out").cases) == 6


def test_a_million_cases_are_asked_about(tmp_path, engines):
    engines(Made)
    large = shapes_plan(100, seeds=list(range(5_000)))
    with pytest.raises(SettingsError, match=r"The plan has 1,500,000 cases, more than 100,000.*yes=True \(--yes\)"):
        run_study(large, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"engine": "rya"}, "engine must be one of local, ray; got 'rya'. Did you mean ray?"),
        ({"address": "auto"}, "An address is that of a Ray cluster"),
        ({"engine": "ray", "workers": 2}, "Ray runs as many cases as its processors allow"),
        ({"workers": 0}, "A study needs at least one worker; got workers=0."),
    ],
)
def test_options_that_cannot_be(tmp_path, options, said):
    with pytest.raises(SettingsError, match=said.replace("?", "[?]")):
        run_study(shapes_plan(1), tmp_path / "out", **options)


def test_places_that_cannot_be(tmp_path, engines):
    engines(Made)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match="file is a file; a study needs a folder"):
        run_study(shapes_plan(1), tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(ArtifactError, match="holds something else than a study and is left alone"):
        run_study(shapes_plan(1), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.tex"]


def test_a_study_of_a_real_network(world, engines):
    made = engines(Inline)
    plan = plan_of(models=["nets.py:small", "nets.py:broken"], settings=[{"gates": False}])
    done = run_study(plan, "out")
    assert (done.done, done.failed) == (3, 3)
    assert made[0].runner.loaded == 2
    cases = read_study("out").cases.set_index(["model", "method"])
    assert (cases.loc["nets.py:small"].filters == 7).all()
    assert "no weights here" in cases.loc[("nets.py:broken", "paper"), "error"]


def test_the_pace_counts_each_kind_of_case_for_itself():
    pace = Pace([("a", "slow")] * 3 + [("a", "fast")] * 10 + [("a", "new")] * 2)
    assert pace.seconds_left(2) is None
    pace.add(("a", "slow"), 100.0)
    pace.add(("a", "fast"), 2.0)
    assert pace.seconds_left(2) == pytest.approx((2 * 100 + 9 * 2 + 2 * 51) / 2)
