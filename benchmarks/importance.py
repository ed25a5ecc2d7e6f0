"""Importance of every filter and kernel of AlexNet: time and memory beside a bare pass, and the numbers beside theirs.

AlexNet with random weights, images of noise at 224 px, one filter of the last convolution as the target. In one
process, round after round in turn, so that all are measured under the same load:

1. a bare pass: forward to the target's layer and back to the images, in plain PyTorch, no gradients of parameters;
2. the usual pass: the whole model forward, back to all parameters in front of the target;
3. activation x gradient of all filters and kernels, absolute value inside, and signed.

Process time, best of the rounds, stands as a ratio to the bare pass; memory as the peak above the bare pass's. Then
kernels drawn at random are computed literally: one map each, by a convolution of one channel, in float64, with the
gradient of a plain float32 pass.

``python -m benchmarks importance [--images N] [--rounds N] [--threads N] [--check N] [--out FILE.json]``
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from neurochains.circuits import Importance, importance
from neurochains.data import Task
from neurochains.network import Network, load_model

RESULTS = Path(__file__).with_name("results") / "importance.json"
LAYER, UNIT = 10, 9
TARGET = f"features.{LAYER}[{UNIT}]"
LIMITS = {"abs": 4.0, "signed": 1.6}
MEGABYTES, DIFFERENCE = 600.0, 1e-5
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(arguments: Sequence[str] = ()) -> int:
    """Measure, print the table, and write it as JSON; 1 if a limit is not held."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks importance", description=str(__doc__).splitlines()[0])
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--check", type=int, default=500, help="so many kernels are computed literally")
    parser.add_argument("--out", type=Path, help=f"JSON file, such as {RESULTS}")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = load_model("torchvision:alexnet", pretrained=False)
    task = Task.of(torch.randn(options.images, 3, 224, 224))
    network = Network.trace(model, task.images[:1])
    found = {reduce: importance(network, task, target=TARGET, reduce=reduce) for reduce in LIMITS}
    result = {
        "network": "torchvision:alexnet, random weights",
        "target": TARGET,
        "images": options.images,
        "filters": sum(values.numel() for values in found["abs"].filters.values()),
        "kernels": sum(values.numel() for values in found["abs"].kernels.values()),
        **measure(model, network, task, options.rounds),
        "difference": {name: compare(model, task.images, found[name], options.check) for name in found},
        "kernels_checked": options.check,
    }
    print(table(result))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if holds(result) else 1


def measure(model: nn.Module, network: Network, task: Task, rounds: int) -> dict[str, dict[str, float]]:
    """Return process times as ratios to the bare pass, and peaks of memory in MB above its peak."""
    works: dict[str, Callable[[], object]] = {
        "bare": lambda: bare_pass(model, task.images),
        "usual": lambda: usual_pass(model, task.images),
        **{r: lambda r=r: importance(network, task, target=TARGET, reduce=r) for r in LIMITS},
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    peaks: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            used, peak = watched(work)
            seconds[name].append(used)
            peaks[name].append(peak)
    bare = min(seconds["bare"])
    return {
        "ratio": {name: min(values) / bare for name, values in seconds.items()},
        "megabytes_above": {name: min(values) - min(peaks["bare"]) for name, values in peaks.items()},
        "seconds": {"bare": bare},
    }


def watched(work: Callable[[], object]) -> tuple[float, float]:
    """Return the process time of one call, in seconds, and the peak of the process's memory in MB (0 if unknown)."""
    gc.collect()
    if CLEAR.exists():
        CLEAR.write_text("5")  # Linux: begin the peak anew
    start = time.process_time()
    work()
    used = time.process_time() - start
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    peak = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)
    return used, peak


def bare_pass(model: nn.Module, images: Tensor) -> Tensor:
    """Forward to the target's layer and back to the images."""
    images = images.clone().requires_grad_()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    maps = model.features[: LAYER + 1](images)
    maps[:, UNIT].mean((1, 2)).sum().backward()
    assert images.grad is not None
    return images.grad


def usual_pass(model: nn.Module, images: Tensor) -> None:
    """Run the whole model forward, and back to the parameters."""
    maps: list[Tensor] = []
    handle = model.features[LAYER].register_forward_hook(lambda *call: maps.append(call[-1]))
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    model(images)
    handle.remove()
    maps[0][:, UNIT].mean((1, 2)).sum().backward()
    model.zero_grad(set_to_none=True)


def compare(model: nn.Module, images: Tensor, found: Importance, count: int) -> float:
    """Return the largest difference to the literal reference, as a share of ``mean |a g|``, of kernels at random."""
    generator = torch.Generator().manual_seed(1)
    worst = 0.0
    for name, inputs, slope in opened(model, images):
        values, conv = found.kernels[name], model.get_submodule(name)
        rows = torch.tensor([UNIT]) if name == f"features.{LAYER}" else torch.arange(len(values))
        for _ in range(max(1, count // len(found.kernels))):
            row = int(rows[torch.randint(len(rows), (), generator=generator)])
            column = int(torch.randint(values.shape[1], (), generator=generator))
            kernel = conv.weight[row : row + 1, column : column + 1].detach().double()
            maps = F.conv2d(inputs[:, column : column + 1], kernel, stride=conv.stride, padding=conv.padding)
            products = maps[:, 0] * slope[:, row]
            wanted = (products.abs() if found.reduce == "abs" else products).mean()
            scale = products.abs().mean()
            worst = max(worst, float((values[row, column] - wanted).abs() / scale) if scale > 0 else 0.0)
    return worst


def opened(model: nn.Module, images: Tensor) -> list[tuple[str, Tensor, Tensor]]:
    """Return the name, the input and the gradient at the output of each convolution, of one plain pass."""
    kept: list[tuple[str, Tensor, Tensor]] = []
    value = images.clone().requires_grad_()
    for place, module in enumerate(model.features[: LAYER + 1]):
        inputs, value = value, module(value)
        if isinstance(module, nn.Conv2d):
            kept.append((f"features.{place}", inputs.detach(), value))
        value = value.clone()  # what follows works in place
    slopes = torch.autograd.grad(value[:, UNIT].mean((1, 2)).sum(), [output for _, _, output in kept])
    return [(name, inputs.double(), slope.double()) for (name, inputs, _), slope in zip(kept, slopes, strict=True)]


def holds(result: dict) -> bool:
    """Return whether all limits are held."""
    times = all(result["ratio"][name] <= limit for name, limit in LIMITS.items())
    memory = all(result["megabytes_above"][name] <= MEGABYTES for name in LIMITS)
    return times and memory and max(result["difference"].values()) <= DIFFERENCE


def table(result: dict) -> str:
    """Return the result as text."""
    what = f"{result['filters']:,} filters and {result['kernels']:,} kernels"
    lines = [
        f"{result['network']}, {result['images']} images, {result['target']}: {what}",
        f"{'':12}{'times a bare pass':>18}{'MB above it':>14}{'difference':>14}",
    ]
    for name, ratio in result["ratio"].items():
        difference = f"{result['difference'][name]:.1e}" if name in result["difference"] else ""
        lines.append(f"{name:12}{ratio:18.2f}{result['megabytes_above'][name]:14.0f}{difference:>14}")
    lines.append(f"one bare pass: {result['seconds']['bare']:.2f} s of process time; all limits held: {holds(result)}")
    return "\n".join(lines)
