"""Train a bundled network on the shapes data set with hierarchical group sparsity, so that most of its kernels die.

    python training/train_sparse.py vgg --bfloat16

It goes on from the weights of the network without the penalty (``--scratch``: from random ones), by the recipe of
`train_shapes.py` with two additions:

1. The loss gains ``strength * hierarchical_group_sparsity(network)`` (Mitsuno et al. 2020).
2. After ``--prune-after`` of the epochs, kernels whose largest weight is below ``--dead`` of the largest of their
   convolution are set to 0 and kept there, and the penalty ends: the rest of the training makes up for both.

The share of kernels that are exactly 0 in the stored float16 weights is printed and stored with the accuracy.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from train_shapes import PACKAGE_WEIGHTS, accuracy_of, augmented, drawn_images, rounded

from neurochains.circuits.sparsity import dead_kernels, hierarchical_group_sparsity
from neurochains.network import bundled

LEARNING_RATE = {"vgg": 1e-3, "resnet": 4e-3}


def main() -> None:
    """Train, measure and save as the command line says."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    train = drawn_images(options.images, options.seed, "train", options.threads)
    module = bundled.build(options.network) if options.scratch else bundled.load(options.network).requires_grad_()
    module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _fit(module, *train, options)
    state = rounded(module)
    module.load_state_dict(state)
    dead = {name: mask.double().mean().item() for name, mask in dead_kernels(module).items()}
    share = torch.cat([mask.flatten() for mask in dead_kernels(module).values()]).double().mean().item()
    accuracy = accuracy_of(module, *drawn_images(options.test_images, options.seed, "test", options.threads))
    print(f"test accuracy {100 * accuracy:.2f} %, {100 * share:.1f} % of the kernels dead:")
    print("  ".join(f"{name} {100 * part:.1f} %" for name, part in dead.items()))
    _save(state, options, accuracy, share)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=sorted(LEARNING_RATE))
    parser.add_argument("--scratch", action="store_true", help="start from random weights")
    parser.add_argument("--strength", type=float, default=2e-4, help="of the penalty (default 2e-4)")
    parser.add_argument("--form", default="squared_lasso", help="of the penalty (default squared_lasso)")
    parser.add_argument("--dead", type=float, default=0.05, help="share of the largest weight (default 0.05)")
    parser.add_argument("--prune-after", type=float, default=0.6, help="share of the epochs (default 0.6)")
    parser.add_argument("--images", type=int, default=12_000, help="training images (default 12000)")
    parser.add_argument("--test-images", type=int, default=4_000, help="test images (default 4000)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, help="peak learning rate (default 1e-3 for vgg, 4e-3 for resnet)")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0, help="of the images, the initial weights and the order")
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16; faster where the CPU can")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=PACKAGE_WEIGHTS, help="folder for the weights file")
    options = parser.parse_args()
    options.lr = options.lr or LEARNING_RATE[options.network]
    return options


def _fit(module: nn.Module, pixels: Tensor, labels: Tensor, options: argparse.Namespace) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    steps = options.epochs * math.ceil(len(labels) / options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=options.lr, total_steps=steps, pct_start=0.2)
    start, last = time.perf_counter(), round(options.prune_after * options.epochs)
    dead: dict[str, Tensor] = {}
    for epoch in range(options.epochs):
        if epoch == last:
            dead = dead_kernels(module, threshold=options.dead)
        module.train()
        losses = []
        for chosen in torch.randperm(len(labels)).split(options.batch):
            strength = 0.0 if dead else options.strength
            losses.append(_step(module, pixels[chosen], labels[chosen], optimiser, strength, options))
            _keep_dead(module, dead)
            schedule.step()
        share = torch.cat([mask.flatten() for mask in dead_kernels(module, threshold=options.dead).values()])
        print(
            f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {100 * share.double().mean():.1f} % of the kernels below "
            f"{options.dead:g}, {time.perf_counter() - start:.0f} s",
            flush=True,
        )


def _step(
    module: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    strength: float,
    options: argparse.Namespace,
) -> float:
    """Take one step; return the loss without the penalty."""
    optimiser.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
        logits = module(augmented(pixels)).float()
    loss = nn.functional.cross_entropy(logits, labels, label_smoothing=0.02)
    penalty = strength * hierarchical_group_sparsity(module, form=options.form) if strength else 0.0
    (loss + penalty).backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    return loss.item()


@torch.no_grad()
def _keep_dead(module: nn.Module, dead: dict[str, Tensor]) -> None:
    """Set dead kernels to 0: the optimiser's momentum moves them at first."""
    for name, mask in dead.items():
        weight = module.get_submodule(name).weight
        weight.mul_(~mask[..., None, None])


def _save(state: dict[str, Tensor], options: argparse.Namespace, accuracy: float, share: float) -> None:
    start = "random weights" if options.scratch else f"shapes:{options.network}"
    metadata = {
        "network": f"shapes:{options.network}-sparse",
        "test_accuracy": f"{accuracy:.4f}",
        "test_images": str(options.test_images),
        "dead_kernels": f"{share:.4f}",
        "seed": str(options.seed),
        "recipe": f"from {start}, AdamW {options.lr:g} one-cycle, weight decay {options.weight_decay:g}, "
        f"{options.epochs} epochs of {options.images} images, batch {options.batch}, "
        f"{'bfloat16' if options.bfloat16 else 'float32'} products, hierarchical group sparsity {options.form} times "
        f"{options.strength:g} for {options.prune_after:g} of the epochs, then kernels below {options.dead:g} of their "
        "convolution's largest weight kept at 0",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"shapes_{options.network}-sparse.safetensors"
    save_file(state, path, metadata=metadata)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
