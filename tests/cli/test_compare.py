from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def runs(saved, tmp_path):
    return [saved, *(shutil.copytree(saved, tmp_path / f"run {number}") for number in (1, 2))]


def test_runs_are_compared_without_their_model(command, runs, monkeypatch):
    monkeypatch.setattr("neurochains.network.load_model", None)
    shown = command("compare", *runs)
    assert (shown.code, shown.err) == (0, "")
    for text in ("run 1", "260", "mean overlap of two", "100.0%", "no such pair"):
        assert text in shown.out


def test_json_and_files_hold_the_same(command, runs, tmp_path):
    shown = command("compare", *runs, "--json", "--out", tmp_path / "out")
    document = json.loads(shown.out)
    assert document["overlap"] == [[1.0] * 3] * 3
    assert document["filters"]["value"] == 260
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == document
    names = {path.name for path in (tmp_path / "out").iterdir()}
    figures = ("overlap", "weighted", "layers", "shared")
    assert names == {"compare.json", *(f"{name}.{kind}" for name in figures for kind in ("svg", "png"))}


def test_what_is_there_is_not_replaced_unasked(command, runs, tmp_path):
    assert command("compare", *runs, "--out", tmp_path / "out", "--quiet").code == 0
    again = command("compare", *runs, "--out", tmp_path / "out")
    assert again.code == 2
    assert "exists already" in again.err
    assert command("compare", *runs, "--out", tmp_path / "out", "--force", "--quiet").out == ""


def test_one_run_is_not_enough(command, saved):
    shown = command("compare", saved)
    assert shown.code == 2
    assert "Wanted two chains or more to compare, but got 1" in shown.err
