from __future__ import annotations

import json


def test_a_run_is_summed_up_without_its_model(command, saved, monkeypatch):
    monkeypatch.setattr("neurochains.network.load_model", None)
    shown = command("show", saved)
    assert (shown.code, shown.err) == (0, "")
    for text in (
        "shapes:vgg",
        "red striped disc, red striped star",
        "method budget",
        "260 of 520 filters",
        "this chain",
    ):
        assert text in shown.out


def test_json_has_the_filters_too(command, saved):
    document = json.loads(command("show", saved, "--json").out)
    assert document["filters"]["L0"] == list(range(1, 24, 2))
    assert document["metrics"]["of"] == 520
    assert set(document) == {"provenance", "settings", "metrics", "filters", "skipped"}


def test_what_is_no_run_is_refused(command, tmp_path):
    shown = command("show", tmp_path / "nothing")
    assert shown.code == 2
    assert "nothing holds no chain: there is no such folder" in shown.err


def test_a_damaged_run_is_refused(command, saved):
    file = saved / "chain.json"
    file.write_text(file.read_text()[:-20])
    shown = command("show", saved)
    assert shown.code == 2
    assert "chain.json is truncated or damaged" in shown.err
