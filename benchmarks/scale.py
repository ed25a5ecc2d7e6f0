"""The budget method on large networks: time and memory beside 300 plain steps, down to one filter in a hundred.

ResNet-50 and VGG-19 of torchvision, 20 random images of 224 px, random weights. Each measurement runs in a process of
its own, so that the largest memory it held is its own too:

1. a plain step: scores by multiplication at full width, forward and backward, Adam; its time times 300;
2. the extraction, `size=0.01`, without measures and controls.

Times are processor time. Where the time of the extraction goes is counted: curvatures (one forward pass, up to six
backward passes), forward passes, and the certificate.

``python -m benchmarks scale [--only resnet50 vgg19] [--size 0.01] [--threads N] [--out FILE]``
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.budget import Search
from neurochains.chains.goal import make_goal
from neurochains.chains.objectives import kl_divergence
from neurochains.chains.search import SearchSettings, find_subnetwork
from neurochains.edit import ScoredNetwork
from neurochains.memory import kept_memory
from neurochains.network import Network, load_model

NETWORKS = ("resnet50", "vgg19")
RESULTS = Path(__file__).with_name("results") / "scale.json"
IMAGES = 20
STEPS = 3


def main(arguments: Sequence[str] = ()) -> int:
    """Measure the networks asked for, each way in a process of its own, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks scale", description=__doc__)
    parser.add_argument("--only", nargs="*", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--size", type=float, default=0.01, help="the part of the filters to end at")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--measure", choices=("plain", "extraction"), help="measure one thing in this process")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    if chosen.measure:
        print(json.dumps(_measure(chosen.measure, chosen.only[0], chosen.size)))
        return 0
    rows = json.loads(chosen.out.read_text()) if chosen.out.exists() else {}
    for name in chosen.only:
        rows[name] = {way: _in_its_own_process(way, name, chosen) for way in ("plain", "extraction")}
        chosen.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    return 0


def _in_its_own_process(way: str, name: str, chosen: argparse.Namespace) -> dict[str, Any]:
    told = ["--measure", way, "--only", name, "--size", str(chosen.size), "--threads", str(chosen.threads)]
    shown = subprocess.run(  # noqa: S603 - this program itself
        [sys.executable, "-m", "benchmarks", "scale", *told], check=True, capture_output=True, text=True
    )
    return json.loads(shown.stdout.splitlines()[-1])


def _measure(way: str, name: str, size: float) -> dict[str, Any]:
    torch.manual_seed(0)
    images = torch.randn(IMAGES, 3, 224, 224)
    network = Network.trace(load_model(f"torchvision:{name}", pretrained=False), images[:2])
    before = _peak()
    found = _plain(network, images) if way == "plain" else _extraction(network, images, size)
    return {**found, "peak_mb": _peak(), "loaded_mb": before, "threads": torch.get_num_threads()}


def _plain(network: Network, images: Tensor) -> dict[str, Any]:
    scored, original = ScoredNetwork(network), network(images).detach()
    scores = {layer.name: torch.ones(layer.units, requires_grad=True) for layer in scored.layers}
    adam = torch.optim.Adam(list(scores.values()), lr=0.005)
    times = []
    for _ in range(STEPS):
        began = time.process_time()
        loss = kl_divergence(scored(images, scores)[0], original).mean()
        adam.zero_grad()
        (loss + 0.005 * torch.cat(list(scores.values())).abs().sum()).backward()
        adam.step()
        times.append(time.process_time() - began)
    return {"seconds": 300 * statistics.median(times)}


def _extraction(network: Network, images: Tensor, size: float) -> dict[str, Any]:
    layers = network.scored()
    total = sum(layer.units for layer in layers)
    goal = make_goal(fidelity=None, agreement=None, size=size, total=total)
    spent = _watch_spending()
    began = time.process_time()
    with kept_memory():
        found = find_subnetwork(
            network, images, layers=layers, objective=kl_divergence, goal=goal, settings=SearchSettings()
        )
    seconds = time.process_time() - began
    outputs, original = found.scores.run(network, images), network(images)
    divergence = float(kl_divergence(outputs, original).mean())
    return {"seconds": seconds, "filters": found.scores.kept, "of": total, "kl": divergence, "spent": spent}


def _watch_spending() -> dict[str, float]:
    """Return the seconds spent on curvatures and forward passes, filled while the search runs."""
    spent = {"curvature": 0.0, "forward": 0.0}
    for key, name in (("curvature", "measure"), ("forward", "_run")):
        setattr(Search, name, _timed(getattr(Search, name), spent, key))
    return spent


def _timed(function: Any, spent: dict[str, float], key: str) -> Any:
    def timed(*args: Any, **options: Any) -> Any:
        began = time.process_time()
        result = function(*args, **options)
        spent[key] += time.process_time() - began
        return result

    return timed


def _peak() -> float:
    """Return the most memory that this process ever held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def table(rows: dict[str, Any]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| network | filters | KL | time / 300 plain steps | curvatures, forwards | peak memory / a plain step's |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in rows.items():
        plain, ours = row["plain"], row["extraction"]
        shares = ", ".join(f"{seconds / ours['seconds']:.0%}" for seconds in ours["spent"].values())
        lines.append(
            f"| {name} | {ours['filters']} of {ours['of']:,} | {ours['kl']:.3g} "
            f"| {ours['seconds'] / plain['seconds']:.2f} | {shares} | {ours['peak_mb'] / plain['peak_mb']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
