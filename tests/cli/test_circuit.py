from __future__ import annotations

import json

import pytest

from neurochains.circuits import load_circuit

MODEL = ("--model", "shapes:vgg", "--target", "features.3[5]")


def test_a_circuit_is_found_drawn_and_saved(command, photos, tmp_path):
    out = tmp_path / "circuit"
    shown = command("circuit", *MODEL, "--images", photos, "--keep", 0.3, "--method", "topk", "--out", out)
    assert shown.code == 0, shown.err
    assert "features.3[5], topk" in shown.out
    assert f"Saved in {out}." in shown.out.replace("\n", "")
    made = load_circuit(out)
    assert made.metrics["keep"] <= 0.3
    assert made.provenance["command"].startswith("neurochains")
    assert (out / "circuit.svg").stat().st_size > 5_000


def test_a_comparison_as_json(command, photos, tmp_path, monkeypatch):
    from neurochains import circuits

    every = circuits.compare_methods
    some = {"methods": ("topk", "worst"), "sizes": (0.02, 0.5)}
    monkeypatch.setattr(circuits, "compare_methods", lambda *args, **kwargs: every(*args, **{**kwargs, **some}))
    out = tmp_path / "circuit"
    options = ("--method", "random", "--per-class", 1, "--held-out", 1, "--compare", "--no-figure", "--json")
    shown = command("circuit", *MODEL, "--images", photos, "--keep", 0.5, "--out", out, *options)
    assert shown.code == 0, shown.err
    document = json.loads(shown.out)
    assert set(document["held_out"]) == {"pearson", "spearman", "error"}
    assert {row["method"] for row in document["methods"]} == {"topk", "worst"}
    assert json.loads((out / "methods.json").read_text()) == document["methods"]
    assert (out / "methods.svg").exists()
    assert not (out / "circuit.svg").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--keep", 0.1, "--correlation", 0.9), "--keep and --correlation cannot be had at once"),
        (("--thresholds", 0.5), "two numbers, for filters and for kernels; got 1"),
        (("--compare",), "add --held-out"),
        (("--keep", 0.0001, "--method", "topk"), "Total collapse"),
        (("--method", "topq"), "Did you mean topk"),
        (("--method", "topk", "--binary"), "binary is an option of method='budget'"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(command, photos, tmp_path, options, message):
    out = tmp_path / "circuit"
    shown = command("circuit", *MODEL, "--images", photos, "--out", out, *options)
    assert shown.code == 2
    assert message in shown.err
    assert not out.exists()
