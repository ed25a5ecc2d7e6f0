"""Circuits of filters by every method and size, on images that none of them saw, in one table.

For each network some filters are drawn: of the layers in its second half, whose maps vary on the images and to which at
least 30 filters lead. For each filter:

1. circuits of 5, 10, 20, 30 and 50 % of the kernels by every method are found on the ranking images;
2. Pearson and Spearman correlation and normalised error of the filter's map are measured on the other images.

It passes where at every size the budget method has the highest median correlation of all methods that there are, and a
median of at least .8 at 10 %. Its scores are tuned; ``binary`` is the same without, and stands in the table too.
Circuits of fewer than 30 filters are left out of the medians. Filters are kept one by one as JSON lines, and a run that
was stopped goes on where it was.

``python -m benchmarks circuits [--only NAME ...] [--targets N] [--methods NAME ...] [--threads N] [--table]``
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

from neurochains.circuits import METHODS, SIZES, Edges, compare_methods
from neurochains.data import Task
from neurochains.edit import Readout, tap
from neurochains.errors import SettingsError
from neurochains.network import Network, load_model

DATA = Path(__file__).parents[2] / "shared" / "data"
RESULTS = Path(__file__).with_name("results") / "circuits.jsonl"
LEAST_FILTERS = 30
WANTED = 0.8
ALL = (*METHODS, "binary")
VARIES = 1e-4  # least variance of a filter's map, as a share of the layer's


@dataclass(frozen=True)
class Source:
    """A network with its ranking images and others."""

    model: Callable[[], nn.Module]
    images: Callable[[], tuple[Tensor, Tensor]]
    needs: Path | None = None


def main(arguments: Sequence[str] = ()) -> int:
    """Run the filters that have no result yet, then print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks circuits", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=list(SOURCES), help="networks")
    parser.add_argument("--targets", type=int, default=3, help="filters of each network")
    parser.add_argument("--methods", nargs="*", choices=ALL, default=ALL)
    parser.add_argument("--threads", type=int, default=None, help="of torch")
    parser.add_argument("--table", action="store_true", help="only print the table of what was run")
    parser.add_argument("--out", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    torch.set_flush_denormal(True)
    for name in [] if chosen.table else chosen.only or SOURCES:
        for row in rows_of(name, chosen.targets, chosen.methods, done(read(chosen.out))):
            with chosen.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(name, row["target"], {m: round(r[1]["pearson"] or 0, 3) for m, r in shown(row)}, flush=True)
    rows = read(chosen.out)
    print(table(rows))
    return 0 if passes(rows) else 1


def rows_of(name: str, count: int, methods: Sequence[str], known: set[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    """Yield one row for each filter of a network without a result; nothing where its data is not there."""
    source = SOURCES[name]
    if source.needs is not None and not source.needs.exists():
        return
    given, others = source.images()
    network = Network.trace(source.model(), given[:2])
    for target in targets(network, given, count):
        if (name, target) not in known:
            began = time.process_time()
            found = compare_methods(network, given, target=target, unseen=others, methods=methods)
            seconds = time.process_time() - began
            entries = [row.as_row() for row in found]
            yield {"network": name, "target": target, "images": len(given), "seconds": seconds, "methods": entries}


def targets(network: Network, images: Tensor, count: int, *, seed: int = 0) -> list[str]:
    """Return filters drawn from the second half of the layers: their maps vary, and enough filters lead to them."""
    layers = [layer for layer in network.layers if layer.role == "filter"]
    late = layers[len(layers) // 2 :]
    dice = np.random.default_rng(seed)
    found: list[str] = []
    for place in np.linspace(0, len(late) - 1, 4 * count).round().astype(int):
        layer = late[place]
        with torch.no_grad():
            maps = tap(network, [layer.name])(images[:16])[1][layer.name].movedim(layer.axis, 0).flatten(1)
        varying = (maps.var(1) > VARIES * maps.var()).nonzero().flatten().tolist()
        unit = int(dice.choice(varying))
        if enough(network, layer.name, unit):
            found.append(f"{layer.name}[{unit}]")
    return [found[i] for i in np.linspace(0, len(found) - 1, min(count, len(found))).round().astype(int)]


def enough(network: Network, layer: str, unit: int) -> bool:
    """Return whether a tenth of the kernels can join thirty filters."""
    try:
        edges = Edges(network, Readout(layer, (unit,), (1.0,)))
    except SettingsError:
        return False
    filters = sum(int(mask.any(1).sum()) for mask in edges.leading.values())
    return filters >= 2 * LEAST_FILTERS and edges.total >= 20 * LEAST_FILTERS


# --- images and models ------------------------------------------------------------------------------------------------


def plain(name: str) -> nn.Module:
    """Return one of the networks that lie beside the data."""
    spec = importlib.util.spec_from_file_location("nets", DATA / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name, str(DATA))


def pictures(archive: Path, folder: str, count: int, crop: int | None = None) -> Tensor:
    """Return pictures drawn from an archive as ``(N, 3, H, W)`` in [0, 255]; where asked, their middles."""
    with zipfile.ZipFile(archive) as opened:
        files = sorted(entry for entry in opened.namelist() if folder in entry and entry.endswith(".jpg"))
        chosen = np.random.default_rng(0).permutation(len(files))[:count]
        arrays = [np.array(Image.open(io.BytesIO(opened.read(files[i]))).convert("RGB")) for i in chosen]
    if crop is not None:
        corners = [((a.shape[0] - crop) // 2, (a.shape[1] - crop) // 2) for a in arrays]
        arrays = [a[top : top + crop, left : left + crop] for a, (top, left) in zip(arrays, corners, strict=True)]
    return torch.from_numpy(np.stack(arrays)).movedim(3, 1).float()


def cifar_images() -> tuple[Tensor, Tensor]:
    """Return 80 test images of CIFAR-10 and 160 others."""
    mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
    values = (pictures(DATA / "cifar10.zip", "test/", 240) / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    return values[:80], values[80:]


def photographs() -> tuple[Tensor, Tensor]:
    """Return 40 photographs and 40 others."""
    values = pictures(DATA / "imagenet-700.zip", "", 80, crop=224) / 127.5 - 1
    return values[:40], values[40:]


def shapes_images() -> tuple[Tensor, Tensor]:
    """Return 64 images of the shapes data and 96 others."""
    return Task.shapes(64).images, Task.shapes(96, seed=1).images


SOURCES = {
    "shapes:vgg": Source(lambda: load_model("shapes:vgg"), shapes_images),
    "resnet56": Source(lambda: plain("resnet56"), cifar_images, DATA / "cifar10.zip"),
    "mobilenet_v2": Source(lambda: plain("mobilenet_v2"), photographs, DATA / "imagenet-700.zip"),
}


# --- the table --------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines; none if it is not there."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def done(rows: Sequence[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return which filters of which networks have a result."""
    return {(row["network"], row["target"]) for row in rows}


def shown(row: dict[str, Any]) -> Iterator[tuple[str, tuple[float, dict[str, Any]]]]:
    """Yield each method with its agreement at 10 %."""
    for entry in row["methods"]:
        if entry["keep"] == SIZES[1]:
            yield entry["method"], (entry["keep"], entry["unseen"] or {"pearson": 0.0})


def median(rows: Sequence[dict[str, Any]], method: str, size: float, key: str = "pearson") -> float | None:
    """Return the median of a measure over filters; a collapse counts as no correlation. None where there are none."""
    entries = [e for row in rows for e in row["methods"] if (e["method"], e["keep"]) == (method, size)]
    counted = [e for e in entries if e["unseen"] is None or e["filters"] >= LEAST_FILTERS]
    if not counted:
        return None
    return statistics.median(0.0 if entry["unseen"] is None else entry["unseen"][key] for entry in counted)


def passes(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether the budget method is ahead at every size of every network, and good enough at 10 %."""
    for network in {row["network"] for row in rows}:
        some = [row for row in rows if row["network"] == network]
        for size in SIZES:
            ours = median(some, "budget", size)
            theirs = [median(some, method, size) for method in ALL if method != "budget"]
            if ours is None or any(other is not None and other > ours for other in theirs):
                return False
        if (median(some, "budget", SIZES[1]) or 0.0) < WANTED:
            return False
    return bool(rows)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the table of median correlations over the filters of each network, as Markdown."""
    heads = " | ".join(f"{size:.0%}" for size in SIZES)
    lines = [f"| network (filters) | method | {heads} | error at 10% |", f"| --- | --- |{' ---: |' * (len(SIZES) + 1)}"]
    for network in dict.fromkeys(row["network"] for row in rows):
        some = [row for row in rows if row["network"] == network]
        label = f"{network} ({len(some)})"
        for method in dict.fromkeys(entry["method"] for row in some for entry in row["methods"]):
            values = [*(median(some, method, size) for size in SIZES), median(some, method, SIZES[1], "error")]
            cells = " | ".join("-" if value is None else f"{value:.3f}" for value in values)
            lines.append(f"| {label} | {f'**{method}**' if method == 'budget' else method} | {cells} |")
            label = ""
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
