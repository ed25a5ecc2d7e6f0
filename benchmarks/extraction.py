"""The budget method beside the paper's and the controls, on real networks: size, fidelity and time in one table.

For each network and each pair of classes:

1. the budget method at KL <= .05;
2. the paper's method, 300 steps the plain way (scores by multiplication at full width), then a refit of 100 steps;
3. the budget method at the size that the paper's reached;
4. random and largest-activation sub-networks of the chain's size, with the same refit.

Times are processor time and stand as ratios to 300 plain steps: what the loop of the paper takes in a process of its
own, with scores by multiplication at full width, and with the memory settings that a process has. Everything else runs
as `neurochains.extract` runs it, with freed memory kept at hand. Cases are kept one by one as JSON lines, and a run
that was stopped goes on where it was.

``python -m benchmarks extraction [--only NAME ...] [--pairs N] [--methods NAME ...] [--threads N] [--table]``
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import statistics
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from neurochains.chains.goal import Goal
from neurochains.chains.objectives import kl_divergence
from neurochains.chains.paper import PaperSettings, paper_scores
from neurochains.chains.scores import Scores
from neurochains.chains.search import SearchSettings, find_subnetwork
from neurochains.data import Task
from neurochains.edit import ScoredNetwork
from neurochains.measures import measure_controls, measure_fidelity
from neurochains.memory import kept_memory
from neurochains.network import Network, load_model

DATA = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).with_name("results") / "extraction.jsonl"
BUDGET = 0.05
METHODS = ("budget", "thorough", "paper", "matched", "controls")
CIFAR_PAIRS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (0, 8), (1, 9), (3, 5), (4, 7), (2, 6))
PHOTO_PAIRS = (
    ("zebra", "tiger"),
    ("goldfish", "tench"),
    ("bald_eagle", "stone_wall"),
    ("dalmatian", "banana"),
    ("orange", "lemon"),
)
SHAPE_PAIRS = ((0, 1), (2, 7), (4, 11), (3, 9), (5, 8))


@dataclass(frozen=True)
class Case:
    """A network with some images; `lam` is the paper's weight that suits the network."""

    network: str
    pair: str
    lam: float
    load: Callable[[], nn.Module]
    images: Callable[[], Tensor]


def main(arguments: Sequence[str] = ()) -> int:
    """Run the cases that have no result yet, then print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks extraction", description=__doc__)
    parser.add_argument("--only", nargs="*", help="networks: resnet20 resnet56 mobilenet_v2 shapes:vgg shapes:resnet")
    parser.add_argument("--pairs", type=int, default=None, help="so many pairs of each network")
    parser.add_argument("--methods", nargs="*", default=METHODS, choices=METHODS, help="what to run of each case")
    parser.add_argument("--threads", type=int, default=None, help="of torch")
    parser.add_argument("--table", action="store_true", help="only print the table of what was run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    for case in [] if chosen.table else cases(chosen.only, chosen.pairs):
        known = {(row["network"], row["pair"]): row for row in read(chosen.out)}.get((case.network, case.pair), {})
        missing = [method for method in chosen.methods if method not in known]
        if missing:
            row = run(case, missing, known)
            with chosen.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    print(table(read(chosen.out)))
    return 0


def cases(only: Sequence[str] | None, pairs: int | None) -> Iterator[Case]:
    """Yield the cases, network by network; those that need data that is not there are left out."""
    for name, some in _sources().items():
        if not only or name in only:
            yield from list(some())[:pairs]


def _sources() -> dict[str, Callable[[], Iterator[Case]]]:
    return {
        "shapes:vgg": lambda: _shapes("shapes:vgg", 0.005),
        "shapes:resnet": lambda: _shapes("shapes:resnet", 0.01),
        "resnet20": lambda: _cifar("resnet20", 0.02),
        "resnet56": lambda: _cifar("resnet56", 0.02),
        "mobilenet_v2": _photos,
    }


def _shapes(name: str, lam: float) -> Iterator[Case]:
    from neurochains.data.shapes import CLASSES

    for pair in SHAPE_PAIRS:
        chosen = [CLASSES[label] for label in pair]
        yield Case(
            name, " / ".join(chosen), lam, lambda: load_model(name), lambda c=chosen: Task.shapes(20, classes=c).images
        )


def _cifar(name: str, lam: float) -> Iterator[Case]:
    if not (DATA / "cifar10.zip").exists():
        return
    archive = zipfile.ZipFile(DATA / "cifar10.zip")
    files = sorted(entry for entry in archive.namelist() if "test/" in entry and entry.endswith(".jpg"))
    classes = sorted({entry.split("/")[-2] for entry in files})
    for pair in CIFAR_PAIRS:
        named = [classes[label] for label in pair]
        yield Case(name, " / ".join(named), lam, lambda: _plain(name), lambda n=named: _cifar_images(archive, files, n))


def _photos() -> Iterator[Case]:
    if not (DATA / "imagenet-700.zip").exists():
        return
    archive = zipfile.ZipFile(DATA / "imagenet-700.zip")
    files = archive.namelist()
    for pair in PHOTO_PAIRS:
        found = [next((entry for entry in files if entry.endswith(f"_{name}.jpg")), None) for name in pair]
        if None not in found:
            yield Case(
                "mobilenet_v2",
                " / ".join(pair),
                0.005,
                lambda: _plain("mobilenet_v2"),
                lambda f=found: _crops(archive, f),
            )


def _plain(name: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location("nets", DATA / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name, str(DATA))


def _pixels(archive: zipfile.ZipFile, entry: str) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(archive.read(entry))).convert("RGB"))


def _cifar_images(archive: zipfile.ZipFile, files: Sequence[str], names: Sequence[str]) -> Tensor:
    generator = np.random.default_rng(0)
    chosen = []
    for name in names:
        own = [entry for entry in files if entry.split("/")[-2] == name]
        chosen += [own[i] for i in generator.permutation(len(own))[:10]]
    pixels = torch.from_numpy(np.stack([_pixels(archive, entry) for entry in chosen])).movedim(3, 1).float() / 255
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    return (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def _crops(archive: zipfile.ZipFile, entries: Sequence[str]) -> Tensor:
    """Return ten random crops of 224 pixels of each picture."""
    generator = np.random.default_rng(0)
    crops = []
    for entry in entries:
        picture = _pixels(archive, entry)
        for _ in range(10):
            top, left = (generator.integers(0, side - 223) for side in picture.shape[:2])
            crops.append(picture[top : top + 224, left : left + 224])
    return torch.from_numpy(np.stack(crops)).movedim(3, 1).float() / 127.5 - 1


def run(case: Case, methods: Sequence[str], known: dict[str, Any]) -> dict[str, Any]:
    """Return one row: sizes, divergences and times of some methods on one case, which stand on those already known."""
    images = case.images()
    network = Network.trace(case.load(), images)
    units = sum(layer.units for layer in network.scored())
    row = {"network": case.network, "pair": case.pair, "units": units, "lam": case.lam, **known}
    row["threads"] = torch.get_num_threads()
    row["plain_seconds"] = known.get("plain_seconds") or _plain_seconds(network, images)
    with kept_memory():
        for method in (method for method in METHODS if method in methods):
            row[method] = _STEPS[method](network, images, row)
    return row


def _budget(network: Network, images: Tensor, row: dict[str, Any]) -> dict[str, Any]:
    return _search(network, images, Goal(divergence=BUDGET), row)


def _thorough(network: Network, images: Tensor, row: dict[str, Any]) -> dict[str, Any]:
    return _search(network, images, Goal(divergence=BUDGET), row, effort="thorough", refit=60)


def _matched(network: Network, images: Tensor, row: dict[str, Any]) -> dict[str, Any]:
    return _search(network, images, Goal(least=max(row["paper"]["filters"], 1)), row)


def _search(network: Network, images: Tensor, goal: Goal, row: dict[str, Any], **settings: Any) -> dict[str, Any]:
    began = time.process_time()
    found = find_subnetwork(
        network,
        images,
        layers=network.scored(),
        objective=kl_divergence,
        goal=goal,
        settings=SearchSettings(**settings),
    )
    return _row(network, images, found.scores, time.process_time() - began, row)


def _paper(network: Network, images: Tensor, row: dict[str, Any]) -> dict[str, Any]:
    began = time.process_time()
    scores = paper_scores(
        network,
        images,
        layers=network.scored(),
        blocks=network.blocks,
        objective=kl_divergence,
        settings=PaperSettings(lam=row["lam"]),
    )
    return _row(network, images, scores, time.process_time() - began, row)


def _controls(network: Network, images: Tensor, row: dict[str, Any]) -> dict[str, Any]:
    """Return controls of the size of the budget method's result, with a refit."""
    count = row["budget"]["filters"]
    chosen = torch.randperm(row["units"], generator=torch.Generator().manual_seed(0))[:count]
    values = torch.zeros(row["units"]).index_fill(0, chosen, 1.0).split([one.units for one in network.scored()])
    sized = Scores({layer.name: part for layer, part in zip(network.scored(), values, strict=True)})
    found = measure_controls(network, Task(images), sized, names=("random", "activation_global"))
    return {name: _numbers(control.given) for name, control in found.items()}


def _plain_seconds(network: Network, images: Tensor, steps: int = 5) -> float:
    """Return the processor time of 300 steps of the paper's loop, written plainly, from that of a few."""
    scored, original = ScoredNetwork(network), network(images).detach()
    scores = {layer.name: torch.ones(layer.units, requires_grad=True) for layer in scored.layers}
    adam = torch.optim.Adam(list(scores.values()), lr=0.005)
    times = []
    for _ in range(steps + 1):
        began = time.process_time()
        outputs, _ = scored(images, scores)
        loss = kl_divergence(outputs, original).mean() + 0.005 * torch.cat(list(scores.values())).abs().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        times.append(time.process_time() - began)
    return 300 * statistics.median(times[1:])


def _row(network: Network, images: Tensor, scores: Scores, seconds: float, row: dict[str, Any]) -> dict[str, Any]:
    measured = _numbers(measure_fidelity(network, Task(images), scores).given)
    return {"filters": scores.kept, **measured, "seconds": seconds, "of_plain": seconds / row["plain_seconds"]}


def _numbers(fidelity: Any) -> dict[str, Any]:
    return {"kl": fidelity.divergence, "agreement": fidelity.agreement}


_STEPS = {
    "budget": _budget,
    "thorough": _thorough,
    "paper": _paper,
    "matched": _matched,
    "controls": _controls,
}


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines, the last of each case; none if it is not there."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return list({(row["network"], row["pair"]): row for row in rows}.values())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of medians over the pairs of each network, as Markdown."""
    lines = [
        "| network (units, pairs) | method | filters | share | KL | all predictions kept | time / 300 plain steps |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows = [row for row in rows if "budget" in row]
    for network in dict.fromkeys(row["network"] for row in rows):
        some = [row for row in rows if row["network"] == network]
        lines += _lines(f"{network} ({some[0]['units']:,}, {len(some)})", some)
    return "\n".join(lines)


def _lines(name: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    words = {
        "budget": f"**budget, KL <= {BUDGET}**",
        "thorough": "budget, thorough",
        "paper": f"paper, lam {rows[0]['lam']}",
        "matched": "budget, paper's size",
    }
    lines = []
    for method, word in words.items():
        entries = [row[method] for row in rows if method in row]
        if not entries:
            continue
        filters = _median(entries, "filters")
        cells = [
            f"{filters:,.0f}",
            f"{filters / rows[0]['units']:.1%}",
            *_fidelity(entries),
            f"{_median(entries, 'of_plain'):.2f}",
        ]
        lines.append(f"| {name} | {word} | {' | '.join(cells)} |")
        name = ""
    filters = _median([row["budget"] for row in rows], "filters")
    controlled = [row["controls"] for row in rows if "controls" in row]
    for control in controlled[0] if controlled else ():
        cells = [
            f"{filters:,.0f}",
            f"{filters / rows[0]['units']:.1%}",
            *_fidelity([row[control] for row in controlled]),
            "",
        ]
        lines.append(f"|  | {control.replace('_', ', ')} | {' | '.join(cells)} |")
    return lines


def _fidelity(entries: Sequence[dict[str, Any]]) -> tuple[str, str]:
    kept = sum(entry["agreement"] == 1 for entry in entries)
    return f"{_median(entries, 'kl'):.3g}", f"{kept} of {len(entries)}"


def _median(entries: Sequence[dict[str, Any]], key: str) -> float:
    return statistics.median(entry[key] for entry in entries)


if __name__ == "__main__":
    raise SystemExit(main())
