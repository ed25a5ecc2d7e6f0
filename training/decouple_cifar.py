"""Decouple ResNet-20 or ResNet-56 on the JPEG images of CIFAR-10: the baseline, and the rows of Table C.

    python training/decouple_cifar.py --data ../shared/data --network resnet20 --row every
    python training/decouple_cifar.py --data ../shared/data --short --row all

1. The given weights are fine-tuned on the images (JPEG loss costs them ten points): that accuracy is the baseline.
2. The fine-tuned network is decoupled and trained with the losses of a row: ACM alone, with L_s, with L_s and L_kl,
   with L_s and L_mi, or with all.
3. Accuracy, filter states and the cost of the paths are measured on the test images, once, at the end.

Runs on a CPU and on a GPU (``--accelerator gpu --precision 16-mixed``); each step goes on where it was stopped. A full
run of 200 epochs takes more than a day on two cores. ``--short`` is for those: few epochs on some of the images, with
larger weights and rates for the codes, which otherwise would not close in so few steps. The row says how many.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from neurochains.decoupling import (
    CropFlip,
    Decoupled,
    EpochReport,
    LossWeights,
    TrainSettings,
    count_states,
    decouple,
    path_costs,
    train_decoupled,
)
from neurochains.preprocess import Preprocess

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR = Preprocess(size=(32, 32), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
FULL = {"mi": 0.01, "kl": 1.0, "sparse": 0.00015}
SHORT = {"images": 8_000, "test_images": 4_000, "tune_epochs": 3, "epochs": 10, "batch": 64, "lr": 0.02,
         "controller_lr": 0.1, "mi": 0.1, "sparse": 0.015, "kept": 0.6}  # fmt: skip
ROWS = {
    "acm": (),
    "s": ("sparse",),
    "s-kl": ("sparse", "kl"),
    "s-mi": ("sparse", "mi"),
    "all": ("sparse", "kl", "mi"),
}


def main() -> None:
    """Fine-tune, decouple, measure, and write a row of the table."""
    options = _options()
    torch.set_num_threads(options.threads)
    train, test = (_images(options, split) for split in ("train", "test"))
    model = _baseline(options, train)
    baseline = _accuracy(model, test)
    print(f"baseline {100 * baseline:.2f} % on {len(test[1])} test images", flush=True)
    for name in ROWS if options.row == "every" else (options.row,):
        network = decouple(model, torch.zeros(2, 3, 32, 32), seed=options.seed)
        place = options.out / options.network / name
        train_decoupled(network, train, 0.1, loss=_losses(options, name, network.layers),
                        settings=_settings(options, options.epochs), augment=CropFlip(4),
                        preprocess=CIFAR, out=place, resume=True, progress=_tell)  # fmt: skip
        _finish(network, len(train[1]), test, baseline, place)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10.zip, nets.py and the weights")
    parser.add_argument("--network", choices=("resnet20", "resnet56"), default="resnet20")
    parser.add_argument("--row", choices=(*ROWS, "every"), default="all", help="of Table C")
    parser.add_argument("--epochs", type=int, default=200, help="of the decoupling (default 200, the paper's)")
    parser.add_argument("--tune-epochs", type=int, default=20, help="of the fine-tuning before (default 20)")
    parser.add_argument("--lr", type=float, default=0.1, help="of the decoupling (default 0.1, the paper's)")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--images", type=int, default=50_000, help="training images (default all 50000)")
    parser.add_argument("--test-images", type=int, default=10_000, help="(default all 10000)")
    parser.add_argument("--kept", type=float, default=0.0, help="R of L_s (default 0, the paper's)")
    parser.add_argument("--kept-inside", type=float, help="R of the first layer of each block (default as --kept)")
    parser.add_argument("--hard", type=float, default=0.0, help="last share of the steps, without noise (default 0)")
    for name, value in FULL.items():
        parser.add_argument(f"--{name}", type=float, default=value, help=f"weight of L_{name} (default {value})")
    parser.add_argument("--controller-lr", type=float, help="of the controllers (default as --lr)")
    parser.add_argument("--short", action="store_true", help="other defaults, for CPUs: " + str(SHORT))
    parser.add_argument("--precision", default="32", help="32, bf16-mixed or 16-mixed")
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or gpu")
    parser.add_argument("--devices", default="1", help="how many; with several, --strategy ddp")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/cifar"))
    if parser.parse_known_args()[0].short:
        parser.set_defaults(**SHORT)
    return parser.parse_args()


def _images(options: argparse.Namespace, split: str) -> tuple[Tensor, Tensor]:
    """Return pixels (N, 3, 32, 32) uint8 and labels (N,); of the training images, as many of each class."""
    pixels, labels = [], []
    with zipfile.ZipFile(options.data / "cifar10.zip") as archive:
        names = sorted(name for name in archive.namelist() if f"{split}/" in name and name.endswith(".jpg"))
        each = (options.images if split == "train" else options.test_images) // len(CLASSES)
        for label, kind in enumerate(CLASSES):
            for name in [name for name in names if f"/{kind}/" in name][:each]:
                pixels.append(np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")))
                labels.append(label)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _baseline(options: argparse.Namespace, train: tuple[Tensor, Tensor]) -> nn.Module:
    """Return the given network, fine-tuned: trained as a decoupled network whose gates are settled open."""
    model = _given(options.data, options.network)
    example = torch.zeros(2, 3, 32, 32)
    open_gates = decouple(model, example, layers=["layer1.0.conv1"], seed=options.seed)
    open_gates.controllers["layer1.0.conv1"].settled.fill_(1)
    loss = LossWeights(mi=0, kl=0, sparse=0)
    train_decoupled(open_gates, train, 0.1, loss=loss, settings=_settings(options, options.tune_epochs, lr=0.01),
                    augment=CropFlip(4), preprocess=CIFAR, out=options.out / options.network / "baseline",
                    resume=True, progress=_tell)  # fmt: skip
    return open_gates.detach_controllers().requires_grad_(False)


def _given(folder: Path, name: str) -> nn.Module:
    spec = importlib.util.spec_from_file_location("nets", folder / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load(name, folder)


def _settings(options: argparse.Namespace, epochs: int, *, lr: float | None = None) -> TrainSettings:
    return TrainSettings(
        epochs=epochs,
        batch=options.batch,
        lr=lr or options.lr,
        controller_lr=None if lr else options.controller_lr,
        milestones=(0.5, 0.75),
        hard=0.0 if lr else options.hard,
        clip=5.0,
        precision=options.precision,
        accelerator=options.accelerator,
        devices=options.devices,
        strategy=options.strategy,
        seed=options.seed,
    )


def _losses(options: argparse.Namespace, row: str, layers: tuple[str, ...]) -> LossWeights:
    mi, kl, sparse = (getattr(options, name) if name in ROWS[row] else 0.0 for name in ("mi", "kl", "sparse"))
    inside, kept = options.kept_inside, options.kept
    if inside is not None:
        kept = {layer: inside if layer.endswith("conv1") else kept for layer in layers}
    return LossWeights(mi=mi, kl=kl, sparse=sparse, kept=kept)


def _tell(report: EpochReport) -> None:
    shares = ", ".join(f"{name} {100 * value:.0f} %" for name, value in report.shares.items())
    print(f"epoch {report.epoch}/{report.epochs}: loss {report.losses['loss']:.3g}, validation {report.accuracy:.4f}, "
          f"{shares}, on {report.on:.3f}, {report.seconds:.0f} s", flush=True)  # fmt: skip


@torch.no_grad()
def _accuracy(module: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    device = next(module.parameters()).device
    right = [
        (module(CIFAR.normalise(images).to(device)).argmax(1).cpu() == labels).sum()
        for images, labels in zip(test[0].split(500), test[1].split(500), strict=True)
    ]
    return int(sum(right)) / len(test[1])


def _finish(network: Decoupled, images: int, test: tuple[Tensor, Tensor], baseline: float, place: Path) -> None:
    codes = network.codes(CIFAR.normalise(test[0]), batch=500)
    costs, states = path_costs(network, codes), count_states(codes)
    row = {
        "accuracy": _accuracy(network, test),
        "baseline": baseline,
        **costs.to_json(),
        **states.shares,
        "epochs": network.record["settings"]["epochs"],
        "images": images,
        "test_images": len(test[1]),
    }
    network.record["test"] = row
    network.record["states"] = states.to_json()
    network.save(place / "network", force=True)
    (place / "row.json").write_text(json.dumps(row, indent=1))
    print(f"{place.name}: accuracy {100 * row['accuracy']:.2f} % (baseline {100 * baseline:.2f} %), "
          f"{costs.mean / 1e6:.1f}M MACs of {costs.original / 1e6:.1f}M, {100 * costs.saved:.1f} % saved, "
          f"dynamic/silent/energetic {100 * states.shares['dynamic']:.1f}/{100 * states.shares['silent']:.1f}/"
          f"{100 * states.shares['energetic']:.1f} %")  # fmt: skip


if __name__ == "__main__":
    main()
