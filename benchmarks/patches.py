"""Patch and unit chains: what a vision transformer can spare, beside controls, and what finding that out costs.

1. ``shapes:vit``, 50 test images, KL <= .05 for each: the share of patches dropped over all blocks; as many patches at
   random and by attention; the paper's recipe.
2. The same images, KL <= .05 on average: the shares of hidden units kept, alone and with heads, beside controls, and
   the agreement with the original on unseen images.
3. DeiT-small with random weights at 224 px: the time of an extraction on 20 images as a share of the paper's 300 plain
   steps (a few of them timed), and of the hard run with 10 % of the tokens as a share of the original's.

Times are processor times of one process and stand as ratios.

``python -m benchmarks patches [--only shapes units deit] [--images N] [--threads N] [--out FILE.json]``
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurochains.chains.objectives import kl_divergence
from neurochains.chains.patch_selections import attended_patches, judge_patches, paper_patches, random_patches
from neurochains.chains.patches import find_patches
from neurochains.data import Task
from neurochains.edit.token_steps import weighing
from neurochains.edit.tokens import TokenNetwork
from neurochains.extraction import extract
from neurochains.network import Network, load_model

RESULTS = Path(__file__).with_name("results") / "patches.json"
NAMES = ("shapes", "units", "deit")
FIDELITY = 0.05
PLAIN_STEPS, TIMED_STEPS = 300, 5
SHARE = 0.1
UNSEEN = 400


def shapes(count: int) -> dict[str, Any]:
    """Return sizes and divergences on the bundled transformer."""
    images = Task.shapes(count, seed=0, split="test").images
    tokens = TokenNetwork(Network.trace(load_model("shapes:vit"), images[:2]))
    seconds, found = timed(lambda: find_patches(tokens, images, fidelity=FIDELITY))
    others = {"random": random_patches(found.kept), "attention": attended_patches(tokens, images, found.kept)}
    paper_seconds, others["paper"] = timed(lambda: paper_patches(tokens, images))
    rows = {"budget": found.kept, **others}
    return {
        "images": count,
        "seconds": round(seconds, 1),
        "paper_seconds": round(paper_seconds, 1),
        "minimal": float(found.minimal.float().mean()),
        "kept_by_block": [round(value, 2) for value in found.kept.sum(2).float().mean(0).tolist()],
        **{name: measured(tokens, images, kept) for name, kept in rows.items()},
    }


def measured(tokens: TokenNetwork, images: Tensor, kept: Tensor) -> dict[str, float]:
    """Return what one selection of patches comes to."""
    divergence, agrees = judge_patches(tokens, images, kept)
    dropped = 1 - kept.double().mean((1, 2))
    return {
        "median_dropped": float(dropped.median()),
        "least_dropped": float(dropped.min()),
        "kl": float(divergence.mean()),
        "largest_kl": float(divergence.max()),
        "agreement": float(agrees.double().mean()),
    }


def units(count: int) -> dict[str, Any]:
    """Return which hidden units, and which heads and hidden units, of the bundled transformer a task needs."""
    return {" and ".join(scored): units_of(count, scored) for scored in (("hidden",), ("heads", "hidden"))}


def units_of(count: int, scored: tuple[str, ...]) -> dict[str, Any]:
    """Return what a chain of some units keeps, beside its controls, and how it answers to unseen images."""
    task, unseen = Task.shapes(count, seed=0, split="test"), Task.shapes(UNSEEN, seed=7, split="test").images
    seconds, chain = timed(lambda: extract("shapes:vit", task, units=scored, fidelity=FIDELITY))
    kept = {
        f"{role}_kept": share(chain.scores[layer.name] for layer in chain.network.in_order if layer.role == role)
        for role in scored
    }
    with torch.no_grad():
        same = chain.compact()(unseen).argmax(1) == chain.network(unseen).argmax(1)
    return {
        "images": count,
        "seconds": round(seconds, 1),
        **kept,
        "kl": chain.metrics["kl"],
        "agreement": chain.metrics["agreement"],
        "unseen_agreement": float(same.double().mean()),
        "controls_kl": {name: values["kl"] for name, values in chain.metrics["controls"].items()},
    }


def share(scores: Iterable[Tensor]) -> float:
    """Return the share of scores that are not 0."""
    every = torch.cat(list(scores))
    return float((every != 0).double().mean())


def deit(count: int) -> dict[str, Any]:
    """Return the ratios of time on DeiT-small with random weights."""
    torch.manual_seed(0)
    images = torch.randn(count, 3, 224, 224)
    network = Network.trace(load_model("timm:deit_small_patch16_224", pretrained=False), images[:2])
    tokens = TokenNetwork(network)
    step = plain_step(tokens, images)
    seconds, found = timed(lambda: find_patches(tokens, images, fidelity=FIDELITY))
    kept = torch.rand(count, 1, tokens.tokens.patches).argsort(2) < round(SHARE * tokens.tokens.count)
    kept = kept.expand(-1, len(tokens.tokens.blocks), -1)
    with torch.no_grad():
        network(images)
        whole = min(timed(lambda: network(images))[0] for _ in range(3))
        hard = min(timed(lambda: tokens.dropped(images, kept))[0] for _ in range(3))
    return {
        "images": count,
        "extraction_over_300_plain_steps": seconds / (step * PLAIN_STEPS),
        "median_dropped": float(found.dropped.median()),
        "kl": float(found.divergence.mean()),
        "agreement": float(found.agrees.double().mean()),
        "tokens_kept": SHARE,
        "hard_run_times_faster": whole / hard,
    }


def plain_step(tokens: TokenNetwork, images: Tensor) -> float:
    """Return the median time of a step of the paper's recipe, after a first: all tokens, forward and back."""
    stream = tokens.embed(images)
    original = tokens.read(stream).detach()
    scores = torch.ones(len(images), len(tokens.tokens.blocks), tokens.tokens.patches, requires_grad=True)
    adam = torch.optim.Adam([scores], lr=0.005)

    def step() -> None:
        loss = kl_divergence(tokens.read(stream, weighing(scores.cumprod(1))), original).sum()
        adam.zero_grad()
        (loss + 0.005 * scores.sum()).backward()
        adam.step()

    return statistics.median([timed(step)[0] for _ in range(1 + TIMED_STEPS)][1:])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor's seconds and the result of some work."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked for, print it and keep it as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks.patches", description=str(__doc__).splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--images", type=int, help="default 50 of shapes, 20 for DeiT")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    runs = {
        "shapes": lambda: shapes(options.images or 50),
        "units": lambda: units(options.images or 50),
        "deit": lambda: deit(options.images or 20),
    }
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    for name in options.only:
        known[name] = runs[name]()
        print(name, json.dumps(known[name], indent=1), flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(known, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
