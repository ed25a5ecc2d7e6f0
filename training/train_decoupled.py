"""Train the decoupled network of the package, `shapes:resnet`, and write its weights as float16 safetensors.

    python training/train_decoupled.py --bfloat16

Needs nothing but the package with its extra `decouple`: the images are drawn first and kept in memory (12 KB each). A
run that was stopped goes on with the same command; ``--start`` goes on from a finished network with other settings, and
the record keeps those of both. What is printed and stored is measured with the rounded weights on the test split, which
nothing else here looks at.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import neurochains as nc
from neurochains import decoupling
from neurochains.data import shapes
from neurochains.decoupling import CropFlip, Decoupled, EpochReport, LossWeights, TrainSettings


def main() -> None:
    """Train, measure and save as the command line says."""
    options = _options()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    train = _images(options.images, options.seed, "train", options.first)
    val = _images(options.val_images, options.seed, "val")
    print(f"{options.images} images drawn in {time.perf_counter() - start:.0f} s", flush=True)
    network = _start(options)
    before = {name: value for name, value in network.record.items() if name not in ("states", "test")}
    decoupling.train_decoupled(
        network,
        train,
        val,
        loss=LossWeights(mi=options.mi, kl=options.kl, sparse=options.sparse, kept=_kept(network, options)),
        settings=_settings(options),
        augment=CropFlip(padding=4),
        out=options.run,
        resume=True,
        progress=_tell,
    )
    if before:
        network.record["before"] = before
    _finish(network, _images(options.test_images, options.seed, "test"), options.out)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--start", help="a decoupled network to go on from; by default every gate starts open")
    parser.add_argument("--first", type=int, default=0, help="number of the first training image (default 0)")
    parser.add_argument("--images", type=int, default=12_000, help="training images (default 12000)")
    parser.add_argument("--val-images", type=int, default=800)
    parser.add_argument("--test-images", type=int, default=4_000, help="test images (default 4000)")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.03, help="of the backbone")
    parser.add_argument("--controller-lr", type=float, default=0.1, help="of the controllers")
    parser.add_argument("--mi", type=float, default=0.3)
    parser.add_argument("--kl", type=float, default=1.0)
    parser.add_argument("--sparse", type=float, default=0.015)
    parser.add_argument("--kept", type=float, default=0.6, help="share of the wide layers, which end a block")
    parser.add_argument("--kept-inside", type=float, default=0.9, help="share of the narrow layers inside the blocks")
    parser.add_argument("--seed", type=int, default=0, help="of the images, the initial weights, the order, the noise")
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16; faster where the CPU can")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", type=Path, default=Path("runs/decoupled-shapes"), help="folder for the checkpoint")
    parser.add_argument("--out", type=Path, help="file for the weights; by default that of the package")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> TrainSettings:
    return TrainSettings(
        epochs=options.epochs,
        batch=64,
        lr=options.lr,
        controller_lr=options.controller_lr,
        warmup=0.1,
        milestones=(0.6, 0.85),
        clip=5.0,
        precision="bf16-mixed" if options.bfloat16 else "32",
        accelerator="cpu",
        seed=options.seed,
    )


def _kept(network: Decoupled, options: argparse.Namespace) -> dict[str, float]:
    """Return the share to keep of each layer: the narrow ones have little to spare."""
    inside = ("conv1", "conv2")
    return {name: options.kept_inside if name.endswith(inside) else options.kept for name in network.layers}


def _start(options: argparse.Namespace) -> Decoupled:
    if options.start:
        return decoupling.load_decoupled(options.start)
    return decoupling.decouple(nc.load_model("shapes:resnet"), torch.zeros(2, 3, 64, 64), seed=options.seed)


def _images(count: int, seed: int, split: str, first: int = 0) -> tuple[Tensor, Tensor]:
    """Return pixels (N, 3, 64, 64) uint8 and labels (N,)."""
    drawn = shapes.batch(np.arange(first, first + count).tolist(), seed=seed, split=split)
    return torch.from_numpy(drawn.pixels), torch.from_numpy(drawn.labels).long()


def _tell(report: EpochReport) -> None:
    losses = ", ".join(f"{name} {value:.3g}" for name, value in report.losses.items())
    shares = ", ".join(f"{name} {100 * value:.0f} %" for name, value in report.shares.items())
    print(f"epoch {report.epoch}: {losses}; accuracy {report.accuracy:.4f}, {shares}, on {report.on:.3f}, "
          f"{report.seconds:.0f} s", flush=True)  # fmt: skip


def _finish(network: Decoupled, test: tuple[Tensor, Tensor], out: Path | None) -> None:
    """Round the weights, measure with them, and write them."""
    rounded = {key: _rounded(value) for key, value in network.body.state_dict().items()}
    network.body.load_state_dict(rounded)
    images = shapes.PREPROCESS.normalise(test[0])
    states = network.states(images)
    accuracy = float((network.predict(images).argmax(1) == test[1]).double().mean())
    network.record["states"] = states.to_json()
    costs = decoupling.path_costs(network, network.codes(images))
    network.record["test"] = {"images": len(images), "accuracy": accuracy, "costs": costs.to_json()}
    path = decoupling.save_bundled(network, out)
    print(f"test accuracy {100 * accuracy:.2f} %, {states.shares}, {100 * costs.saved:.1f} % of MACs saved")
    print(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


def _rounded(value: Tensor) -> Tensor:
    return value.half().float() if value.is_floating_point() else value


if __name__ == "__main__":
    main()
