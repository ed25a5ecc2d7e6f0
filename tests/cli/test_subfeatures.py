from __future__ import annotations

import json

import pytest

from neurochains.circuits import load_layer_subfeatures, load_subfeatures

SHAPES = ("--model", "shapes:vgg", "--shapes", 80, "--patches", 50, "--draws", 1, "--no-visualise")


@pytest.fixture(autouse=True)
def sklearn() -> None:
    pytest.importorskip("sklearn")


def test_one_filter(command, tmp_path):
    out = tmp_path / "one"
    shown = command("subfeatures", *SHAPES, "--target", "L18_56", "--out", out)
    assert shown.code == 0, shown.err
    assert "L18_56" in shown.out
    assert f"Saved in {out}, with L18_56.png." in shown.out.replace("\n", "")
    assert load_subfeatures(out).clusters > 1
    assert (out / "L18_56.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_layer_as_json(command, tmp_path, monkeypatch):
    from neurochains import circuits

    every = circuits.layer_subfeatures
    monkeypatch.setattr(circuits, "layer_subfeatures", lambda *args, **kwargs: every(*args, units=[0, 56], **kwargs))
    out = tmp_path / "layer"
    shown = command("subfeatures", *SHAPES, "--layer", "L18", "--figures", 1, "--out", out, "--json")
    assert shown.code == 0, shown.err
    document = json.loads(shown.out)
    assert document["layer"] == "features.18"
    found = load_layer_subfeatures(out)
    assert [one["label"] for one in document["filters"]] == [one.label for one in found]
    assert document["filters"][0]["separability"] <= document["filters"][1]["separability"]
    assert {path.name for path in out.glob("*.png")} == {"ranking.png", f"{found[0].label}.png"}


def test_images_from_a_folder_and_nothing_found(command, photos, tmp_path):
    out = tmp_path / "few"
    shown = command(
        "subfeatures", "--model", "shapes:vgg", "--images", photos, "--target", "L18_56", "--out", out, "--draws", 1
    )
    assert shown.code == 0, shown.err
    assert "none" in shown.out
    assert "hint: more images" in shown.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--shapes", 9), "one of --target and --layer"),
        (("--shapes", 9, "--target", "L18_5", "--layer", "L18"), "one of --target and --layer"),
        (("--target", "L18_5"), "one of --images and --shapes"),
        (("--shapes", 9, "--target", "L18_500"), "has 96 filters, 0 to 95; got 500"),
        (("--shapes", 9, "--target", "L18_5", "--keep", 2), "above 0 and at most 1"),
    ],
)
def test_bad_options_end_with_2_and_write_nothing(options, message, command, tmp_path):
    shown = command("subfeatures", "--model", "shapes:vgg", "--out", tmp_path / "out", *options)
    assert shown.code == 2
    assert message in shown.err
    assert not (tmp_path / "out").exists()
