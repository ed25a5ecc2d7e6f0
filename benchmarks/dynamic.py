"""Dynamic inference in real time: what a path saves in multiply-accumulates, and what of it is left in seconds.

VGG-16 at 224 px, one image at a time, on the CPU. Half of the filters of each controlled layer are on, another half
drawn at random for each run, so that nothing can be kept from one image to the next. The weights are random: what is
measured does not depend on them. Processor time is measured in turn and compared as a ratio, to the original as it is
and to the original on images that lie channels last, which dynamic inference uses itself.

``python -m benchmarks dynamic [--network NAME] [--size N] [--rounds N] [--threads N] [--share S] [--profile]``
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neurochains.decoupling import Decoupled, DynamicNetwork, decouple, path_costs
from neurochains.network import load_model


def main(arguments: Sequence[str] = ()) -> int:
    """Measure and print one line for each round, then the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks dynamic", description=__doc__)
    parser.add_argument("--network", default="torchvision:vgg16", help="a model name; its weights are random")
    parser.add_argument("--size", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--share", type=float, default=0.5, help="of the filters of each layer that are on")
    parser.add_argument("--profile", action="store_true", help="show where the time goes instead")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(0)
    images = torch.randn(1, 3, chosen.size, chosen.size)
    model = load_model(chosen.network, pretrained=False).eval().requires_grad_(False)
    decoupled = decouple(model, images)
    if chosen.profile:
        _profile(decoupled, images, chosen.share)
        return 0
    _report(model, decoupled, images, chosen)
    return 0


def _report(model: nn.Module, decoupled: Decoupled, images: Tensor, chosen: argparse.Namespace) -> None:
    full, last, gated, dynamic, saved, differences = [], [], [], [], [], []
    turned = images.contiguous(memory_format=torch.channels_last)
    for _ in range(chosen.rounds):
        network = _halved(decoupled, chosen.share)
        costs = path_costs(decoupled, decoupled.codes(images))
        saved.append(costs.original / costs.mean)
        wanted = decoupled.predict(images)
        differences.append(float((network(images) - wanted).abs().max() / (wanted.max() - wanted.min())))
        for module, given, times in ((model, images, full), (model, turned, last), (decoupled, images, gated),
                                     (network, images, dynamic)):  # fmt: skip
            times.append(_seconds(module, given))
    promised = statistics.median(saved)
    print(f"{chosen.network}, {chosen.size} px, batch 1, {chosen.threads} thread(s), median of {chosen.rounds} rounds")
    for name, times in (("original", full), ("original, channels last", last), ("gated", gated), ("dynamic", dynamic)):
        print(f"{name:24}{1000 * statistics.median(times):7.1f} ms of processor time")
    for name, times in (("original", full), ("original, channels last", last)):
        ratios = [one / other for one, other in zip(times, dynamic, strict=True)]
        speed = statistics.median(ratios)
        print(f"beside the {name}: MACs / {promised:.2f}, time / {speed:.2f} (rounds from {min(ratios):.2f} to "
              f"{max(ratios):.2f}): {speed / promised:.2f} of what the MACs promise")  # fmt: skip
    print(f"largest difference of logits to the gated network {max(differences):.1e} of their range")


def _halved(decoupled: Decoupled, share: float) -> DynamicNetwork:
    """Return the dynamic network, after the controllers were set to switch on a random share of each layer."""
    for controller in decoupled.controllers.values():
        filters = controller.expand.out_features
        on = torch.randperm(filters)[: round(share * filters)]
        votes = torch.full((filters,), -1.0)
        votes[on] = 1.0
        controller.expand.weight.data.zero_()
        controller.expand.bias.data.copy_(votes)
    return decoupled.dynamic()


@torch.no_grad()
def _seconds(module: nn.Module, images: Tensor, repeats: int = 3) -> float:
    """Return the least processor time of some passes, after one that does not count."""
    module(images)
    times = []
    for _ in range(repeats):
        start = time.process_time()
        module(images)
        times.append(time.process_time() - start)
    return min(times)


def _profile(decoupled: Decoupled, images: Tensor, share: float) -> None:
    network = _halved(decoupled, share)
    network(images)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        network(images)
    print(profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=15))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
