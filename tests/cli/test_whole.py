"""From a folder of images to the report, with nothing standing in for anything."""

from __future__ import annotations

import json


def test_a_chain_is_extracted_shown_and_reported(command, photos, tmp_path):
    run = tmp_path / "run"
    goal = ("--classes", "red striped disc", "red striped star", "--per-class", 2, "--fidelity", "0.1", "--no-controls")
    made = command("extract", "--model", "shapes:vgg", "--images", photos, *goal, "--out", run, "--json")
    assert made.code == 0, made.err
    metrics = json.loads(made.out)
    assert metrics["kl"] <= 0.1
    assert metrics["agreement"] == 1
    assert 1 <= metrics["filters"] <= 52  # a tenth of the network is plenty for four images
    shown = command("show", run)
    assert f"{metrics['filters']} of 520 filters" in shown.out
    assert json.loads(command("show", run, "--json").out)["metrics"] == metrics
    also = photos / "red striped disc" / "0.png"
    reported = command("report", run, "--also", also, "--paths", 1, "--no-figures")
    assert reported.code == 0, reported.err
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "red striped star" in page
    assert len(page) < 15_000_000
