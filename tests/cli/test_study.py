from __future__ import annotations

import json

import pytest

from neurochains.studies.engine import Job

PLAN = """
name = "small"
[[models]]
model = "shapes:vgg"
[[tasks]]
shapes = true
pairs = 2
[[methods]]
method = "budget"
[[methods]]
method = "random"
like = "budget"
"""


class Made:
    """An engine that makes results up."""

    capacity = 1
    interrupts = False

    def __init__(self, *_args, **_options) -> None:
        self.jobs: list[Job] = []

    def submit(self, job: Job) -> None:
        self.jobs.append(job)

    def collect(self, _timeout: float) -> list[dict]:
        if self.interrupts and self.jobs[-1]["base"] is not None:
            raise KeyboardInterrupt
        jobs, self.jobs = self.jobs, []
        filters = {"layer": ["0"], "label": ["L0_0"], "index": [0], "score": [1.0]}
        row = {"filters": 1, "of": 10, "kl": 0.02, "drop": 0.1, "agreement": 1.0, "skipped": [], "refit": 1}
        made = {"status": "done", "row": row, "filters": filters, "digest": "d", "seconds_case": 2.0}
        return [{"id": job["id"], **made} for job in jobs]

    def stop(self) -> None:
        self.jobs = []


@pytest.fixture
def plan(tmp_path, monkeypatch):
    monkeypatch.setattr("neurochains.studies.run.LocalEngine", Made)
    (tmp_path / "plan.toml").write_text(PLAN)
    return tmp_path / "plan.toml"


def test_a_plan_is_run_shown_and_drawn(command, plan, tmp_path):
    out = tmp_path / "out"
    shown = command("study", "run", plan, "--out", out)
    assert shown.code == 0
    assert shown.out.startswith("4 of 4 cases done, 0 failed; 4 of them now, in ")
    assert f"neurochains study show {out}" in shown.out
    assert shown.err.splitlines()[0] == f"4 cases, at most; results go to {out}"
    assert shown.err.splitlines()[-1].startswith("4/4 cases · ")
    again = command("study", "run", plan, "--out", out, "--quiet", "--json")
    assert again.err == ""
    assert json.loads(again.out)["before"] == 4
    listed = command("study", "show", out)
    assert [line.split()[1] for line in listed.out.splitlines()[1:3]] == ["budget", "random"]
    assert json.loads(command("study", "show", out, "--json").out)[0]["share"] == 0.1
    drawn = json.loads(command("study", "plot", out, "--json").out)
    assert drawn["page"] == str(out / "figures" / "study.html")
    assert str(out / "figures" / "E1-drop-shapes-vgg.svg") in drawn["files"]
    assert (
        f"the page {tmp_path / 'elsewhere' / 'study.html'}"
        in command("study", "plot", out, "-o", tmp_path / "elsewhere").out
    )


def test_a_plan_is_shown_before_it_is_run(command, plan):
    shown = command("study", "show", plan, "--no-probe")
    assert shown.code == 0
    assert "methods: budget, random" in shown.out
    assert "cases: 4 (budget 2, random 2)" in shown.out
    assert "about" not in shown.out
    probed = json.loads(command("study", "show", plan, "--json").out)
    assert probed["seconds"] > 0
    assert probed["plan"]["models"][0]["model"] == "shapes:vgg"


def test_ctrl_c_says_that_what_is_finished_is_kept(command, plan, tmp_path, monkeypatch):
    monkeypatch.setattr(Made, "interrupts", True)
    shown = command("study", "run", plan, "--out", tmp_path / "out")
    assert shown.code == 130
    kept = f"what is finished is kept in {tmp_path / 'out'}; the same command goes on with the rest."
    assert shown.err.splitlines()[-1] == f"interrupted: {kept}"
    monkeypatch.setattr(Made, "interrupts", False)
    assert "4 of 4 cases done, 0 failed; 3 of them now" in command("study", "run", plan, "--out", tmp_path / "out").out


def test_bad_input_is_said_in_one_line(command, plan, tmp_path):
    plan.write_text(PLAN.replace("pairs = 2", "paris = 2"))
    shown = command("study", "run", plan, "--out", tmp_path / "out")
    assert shown.code == 2
    assert shown.err == f"error: {plan}, line 7: tasks[0] has no key 'paris'. Did you mean pairs?\n"
    assert command("study", "show", tmp_path / "nothing.toml").code == 2
    assert "No such command 'rnu'. Did you mean 'run'?" in command("study", "rnu").err


def test_a_million_cases_are_refused_without_yes(command, plan, tmp_path):
    plan.write_text(f"seeds = {list(range(50_001))}\n{PLAN}")
    shown = command("study", "run", plan, "--out", tmp_path / "out")
    assert shown.code == 2
    assert "The plan has 200,004 cases, more than 100,000" in shown.err
    assert "--yes" in shown.err
    assert "cases: 200,004" in command("study", "show", plan).out


def test_study_alone_shows_its_commands(command):
    shown = command("study")
    assert shown.code == 2
    assert all(name in shown.out for name in ("run", "show", "plot"))
