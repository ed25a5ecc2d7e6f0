from __future__ import annotations

import json

from benchmarks.detection import main, table


def row(features: str, classifier: str, trained: str, tested: str, mean: float) -> dict:
    return {"features": features, "classifier": classifier, "trained_on": trained, "tested_on": tested,
            "mean": mean, "sd": 0.01}  # fmt: skip


CASE = {
    "network": "shapes:resnet",
    "eps": 8.0,
    "train": 5,
    "images": 90,
    "success": {"fgsm": 0.5, "pgd": 1.0},
    "rows": [
        row("paths", "forest", "fgsm", "fgsm", 0.7),
        row("paths", "logistic", "fgsm", "fgsm", 0.8),
        row("paths", "logistic", "fgsm", "pgd", 0.6),
        row("confidence", "none", "", "fgsm", 0.9),
    ],
}


def test_a_case_shows_the_best_classifier_beside_the_controls():
    lines = table(CASE).splitlines()
    assert lines[0] == "shapes:resnet, eps 8/255, 5 training images a class, 90 images"
    cells = {line.split("  ")[1]: line for line in lines[3:]}
    assert "0.800 ± 0.010, others 0.600" in cells["paths"]
    assert "0.900 ± 0.010" in cells["confidence"]
    assert cells["random gates"].split()[-2:] == ["-", "-"]


def test_the_tables_of_what_was_run_are_printed(tmp_path, capsys):
    file = tmp_path / "cases.jsonl"
    file.write_text(json.dumps(CASE) + "\n")
    assert main(["--table", "--out", str(file)]) == 0
    assert "answers changed: fgsm 50%, pgd 100%" in capsys.readouterr().out
