"""Adversarial detection by calculation paths, beside the controls: several radii, several numbers of training images.

For each radius the images are attacked by FGSM, BIM, PGD and PGD through the gates; for each number of training images
of a class, classifiers learn from the paths and from each control, on several partings of the images. What is printed
is the AUROC of the best classifier of each feature, on the attack that it was trained on, and on the others in the
mean.
Cases are kept as JSON lines, and a run that was stopped goes on where it was.

``python -m benchmarks detection [--network RUN] [--images FOLDER] [--count N] [--eps N ...] [--train N ...] [--table]``
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from neurochains.data import Task
from neurochains.decoupling import FEATURES, Decoupled, detect, load_decoupled

RESULTS = Path(__file__).parent / "results" / "detection.jsonl"
ATTACKS = ("fgsm", "bim", "pgd", "adaptive pgd")


def main(arguments: Sequence[str] = ()) -> int:
    """Run the cases that have no result yet, then print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks detection", description=__doc__)
    parser.add_argument("--network", default="shapes:resnet", help="a folder of a decoupled network, or one bundled")
    parser.add_argument("--images", type=Path, help="FOLDER/CLASS/FILE; by default shapes that nothing was trained on")
    parser.add_argument("--count", type=int, default=640, help="of shapes; of a folder, images of each class")
    parser.add_argument("--eps", type=float, nargs="*", default=(2, 4, 8), help="radii in 255ths")
    parser.add_argument("--train", type=int, nargs="*", default=(1, 5, 10, 50), help="training images of each class")
    parser.add_argument("--attacks", nargs="*", default=ATTACKS)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default=None)
    parser.add_argument("--table", action="store_true", help="only print the tables of what was run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if not chosen.table:
        torch.set_num_threads(1)
        _run(chosen)
    for case in read(chosen.out):
        print(table(case))
    return 0


def _run(chosen: argparse.Namespace) -> None:
    known = {(case["network"], case["eps"], case["train"]) for case in read(chosen.out)}
    network = load_decoupled(chosen.network, device=chosen.device)
    task = _task(network, chosen)
    for eps in chosen.eps:
        for train in chosen.train:
            if (chosen.network, eps, train) in known:
                continue
            found = detect(network, task, attacks=chosen.attacks, eps=eps / 255, steps=chosen.steps,
                           train_per_class=train, seeds=chosen.seeds)  # fmt: skip
            case = {"network": chosen.network, "eps": eps, "train": train, **found.to_json()}
            with chosen.out.open("a") as file:
                file.write(json.dumps(case) + "\n")


def _task(network: Decoupled, chosen: argparse.Namespace) -> Task:
    if chosen.images is None:
        return Task.shapes(chosen.count, seed=1)
    return Task.from_folder(chosen.images, model=network.detach(), per_class=chosen.count)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the cases of a file; none where there is no file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(case: dict[str, Any]) -> str:
    """Return the lines of one case: a line for each feature, a column for each attack."""
    success = ", ".join(f"{name} {share:.0%}" for name, share in case["success"].items())
    lines = [
        f"{case['network']}, eps {case['eps']:g}/255, {case['train']} training images a class, {case['images']} images",
        f"  answers changed: {success}",
        "  " + f"{'features':14}" + "".join(f"{name:>28}" for name in case["success"]),
    ]
    for features in FEATURES:
        cells = [_cell([row for row in case["rows"] if row["features"] == features], name) for name in case["success"]]
        lines.append("  " + f"{features:14}" + "".join(f"{cell:>28}" for cell in cells))
    return "\n".join(lines)


def _cell(rows: list[dict[str, Any]], attack: str) -> str:
    """Return the AUROC of the best classifier trained on an attack, and that classifier's on the other attacks."""
    own = [row for row in rows if row["trained_on"] in ("", attack) and row["tested_on"] == attack]
    if not own:
        return "-"
    best = max(own, key=lambda row: row["mean"])
    others = [
        row["mean"]
        for row in rows
        if (row["classifier"], row["trained_on"]) == (best["classifier"], attack) and row["tested_on"] != attack
    ]
    across = f", others {statistics.fmean(others):.3f}" if others else ""
    return f"{best['mean']:.3f} ± {best['sd']:.3f}{across}"


if __name__ == "__main__":
    raise SystemExit(main())
