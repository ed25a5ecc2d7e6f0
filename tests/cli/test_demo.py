from __future__ import annotations

import json

import pytest

from .conftest import CLASSES


@pytest.fixture
def page(monkeypatch):
    """Write a page of one line instead of a report."""

    def write(_chain, out, **_settings):
        out.write_text("<!doctype html>")
        return out

    monkeypatch.setattr("neurochains.report.write_report", write)


def test_the_demo_says_where_its_report_is_and_what_it_says(command, extraction, page, tmp_path):
    shown = command("demo", "--out", tmp_path / "demo")
    assert shown.code == 0
    assert f"The report is in {tmp_path / 'demo' / 'report.html'}" in shown.out
    assert "260 of 520 filters (50.0%)" in shown.out
    assert extraction.settings == {"effort": "thorough"}
    task = extraction.task
    assert {task.label_name(label) for label in task.classes} == set(CLASSES)
    assert len(task) == 20
    assert len(task.held_out) >= 20
    assert not set(task.digests) & set(task.held_out.digests)


def test_the_demo_replaces_what_is_its_own(command, extraction, page, tmp_path):
    for _ in range(2):
        assert command("demo", "--out", tmp_path / "demo", "--quiet").code == 0
    record = tmp_path / "demo" / "chain.json"
    assert json.loads(record.read_text())["provenance"]["command"] == "neurochains demo"
    record.write_text(record.read_text().replace("neurochains demo", "neurochains extract"))
    shown = command("demo", "--out", tmp_path / "demo")
    assert shown.code == 2
    assert "demo exists already" in shown.err
    assert command("demo", "--out", tmp_path / "demo", "--force").code == 0


def test_an_interrupted_report_leaves_the_chain(command, extraction, monkeypatch, tmp_path):
    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("neurochains.report.write_report", interrupt)
    shown = command("demo", "--out", tmp_path / "demo")
    assert shown.code == 130
    assert "the chain is saved in" in shown.err
    assert (tmp_path / "demo" / "chain.json").is_file()


def test_the_default_place_is_runs_demo(command):
    shown = command("demo", "--help")
    assert "runs/demo" in shown.out
