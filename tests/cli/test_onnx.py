from __future__ import annotations

import json

import pytest


def test_a_run_becomes_an_onnx_file(command, saved, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    file = tmp_path / "small.onnx"
    shown = command("onnx", saved, file, "--json")
    assert shown.code == 0, shown.err
    found = json.loads(shown.out)
    assert found["bytes"] == file.stat().st_size
    assert found["parity"] < 1e-4
    assert onnxruntime.InferenceSession(file).get_inputs()[0].name == "images"


def test_the_sentence_about_the_file(command, saved, tmp_path, monkeypatch):
    monkeypatch.setattr("neurochains.chains.Chain.to_onnx", lambda _self, path: path.write_bytes(b"0" * 200_000) * 0.0)
    shown = command("onnx", saved, tmp_path / "small.onnx")
    assert (
        shown.out
        == f"{tmp_path}/small.onnx: 0.2 MB; under onnxruntime its outputs differ by 0.0e+00 of the logit range.\n"
    )


def test_a_file_is_replaced_by_force_only(command, saved, tmp_path):
    file = tmp_path / "small.onnx"
    file.write_text("mine")
    shown = command("onnx", saved, file)
    assert shown.code == 2
    assert "small.onnx exists already" in shown.err
    assert file.read_text() == "mine"
