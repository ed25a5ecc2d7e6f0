"""Train a small vision transformer: the bundled ``shapes:vit``, or one on CIFAR-10.

    python training/train_vit.py shapes --threads 1
    python training/train_vit.py cifar10 --data ../shared/data/cifar10.zip --out /tmp/cifar10_vit

AdamW, linear warm-up, cosine decay. The convolutions of the stem learn with batch norms, which are folded into them
at the end. The images are drawn or read once and stay in memory; every epoch ends with a checkpoint beside the
weights, and the same command goes on from it. On a GPU the products are in bfloat16.
The accuracy that is printed and stored is that of the float16-rounded weights on the test split.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from train_shapes import PACKAGE_WEIGHTS, drawn_images, rounded

from neurochains.network.vision_transformer import VisionTransformer
from neurochains.preprocess import Preprocess
from neurochains.shapes_spec import PREPROCESS

CIFAR10 = Preprocess(size=(32, 32), mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616), resize=32)


@dataclass(frozen=True)
class Recipe:
    """What differs between the two data sets."""

    build: Callable[[], VisionTransformer]
    preprocess: Preprocess
    lr: float
    epochs: int
    batch: int
    weight_decay: float
    smoothing: float
    mixing: float  # of images and labels in pairs: the parameter of the Beta distribution, 0 for none
    dropping: float  # of patches: the largest share, drawn for each batch
    warm_up: float  # in epochs


def cifar10_vit() -> VisionTransformer:
    """Return the CIFAR-10 network with random weights; `load_model("training/train_vit.py:cifar10_vit")` finds it."""
    return VisionTransformer(side=32, patch=4, width=192, heads=6, hidden=576, depth=9, classes=10)


RECIPES = {
    "shapes": Recipe(VisionTransformer, PREPROCESS, 2e-3, 12, 64, 0.05, 0.02, 0.0, 0.3, 0.3),
    "cifar10": Recipe(cifar10_vit, CIFAR10, 1e-3, 150, 256, 0.1, 0.1, 0.2, 0.2, 5),
}


def main() -> None:
    """Train, measure and save as the command line says."""
    options = _options()
    recipe = RECIPES[options.data_set]
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    train = _images(options, "train")
    print(f"{len(train[1])} images in {time.perf_counter() - start:.0f} s", flush=True)
    module = recipe.build()
    module.patch_embed = _with_norms(module.patch_embed)
    module.to(options.device)
    _fit(module, *train, recipe, options)
    module.patch_embed = _without_norms(module.eval().patch_embed)
    state = rounded(module)
    module.load_state_dict(state)
    accuracy = _accuracy(module, *_images(options, "test"), recipe.preprocess)
    print(f"test accuracy {100 * accuracy:.2f} %, {time.perf_counter() - start:.0f} s")
    _save(state, recipe, options, accuracy)


def _with_norms(stem: nn.Sequential) -> nn.Sequential:
    """Return a stem with a batch norm behind each convolution that a ReLU follows."""
    parts: dict[str, nn.Module] = {}
    for name, part in stem.named_children():
        parts[name] = part
        if name.startswith("conv"):
            parts[f"norm_{name}"] = nn.BatchNorm2d(cast(nn.Conv2d, part).out_channels)
    return nn.Sequential(OrderedDict(parts))


def _without_norms(stem: nn.Sequential) -> nn.Sequential:
    """Return a stem in eval mode with its batch norms folded into the convolutions."""
    parts = dict(stem.named_children())
    norms = {name.removeprefix("norm_"): parts.pop(name) for name in list(parts) if name.startswith("norm_")}
    for name, norm in norms.items():
        parts[name] = fuse_conv_bn_eval(cast(nn.Conv2d, parts[name]), cast(nn.BatchNorm2d, norm))
    return nn.Sequential(OrderedDict(parts))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_set", choices=tuple(RECIPES))
    parser.add_argument("--data", type=Path, help="cifar10.zip with train/<class>/*.jpg and test/<class>/*.jpg")
    parser.add_argument("--images", type=int, default=48_000, help="training images of shapes (default 48000)")
    parser.add_argument("--test-images", type=int, default=4_000, help="test images of shapes (default 4000)")
    parser.add_argument("--epochs", type=int, help="default 12 for shapes, 150 for cifar10")
    parser.add_argument("--seed", type=int, default=0, help="of the images, the initial weights and the order")
    parser.add_argument("--cache", type=Path, help="folder in which the drawn images of shapes are kept")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=PACKAGE_WEIGHTS, help="folder for the weights and the checkpoint")
    options = parser.parse_args()
    options.epochs = options.epochs or RECIPES[options.data_set].epochs
    if options.data_set == "cifar10" and options.data is None:
        parser.error("cifar10 needs --data")
    options.out.mkdir(parents=True, exist_ok=True)
    return options


def _images(options: argparse.Namespace, split: str) -> tuple[Tensor, Tensor]:
    """Return pixels (N, 3, H, W) uint8 and labels (N,) on the device."""
    if options.data_set == "shapes":
        count = options.images if split == "train" else options.test_images
        pixels, labels = _drawn(count, split, options)
    else:
        pixels, labels = _zipped(options.data, split)
    return pixels.to(options.device), labels.to(options.device)


def _drawn(count: int, split: str, options: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """Return images of shapes, from the cache where they are there."""
    place = options.cache / f"shapes-{split}-{options.seed}-{count}.pt" if options.cache else None
    if place is not None and place.exists():
        return torch.load(place, weights_only=True)
    drawn = drawn_images(count, options.seed, split, options.threads)
    if place is not None:
        torch.save(drawn, place)
    return drawn


def _zipped(path: Path, split: str) -> tuple[Tensor, Tensor]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.startswith(f"{split}/") and name.endswith(".jpg"))
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names])
    classes = sorted({name.split("/")[1] for name in names})
    labels = torch.tensor([classes.index(name.split("/")[1]) for name in names])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), labels


def _fit(
    module: VisionTransformer, pixels: Tensor, labels: Tensor, recipe: Recipe, options: argparse.Namespace
) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    steps = math.ceil(len(labels) / recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, _rise_and_fall(round(recipe.warm_up * steps), steps * options.epochs)
    )
    checkpoint = options.out / f"{options.data_set}_vit.checkpoint.pt"
    parts = {"module": module, "optimiser": optimiser, "schedule": schedule}
    start = time.process_time()
    for epoch in range(_resume(checkpoint, parts), options.epochs):
        module.train()
        chosen = torch.randperm(len(labels)).to(options.device).split(recipe.batch)
        losses = [_step(module, pixels[part], labels[part], optimiser, schedule, recipe) for part in chosen]
        print(
            f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {time.process_time() - start:.0f} s of the processor",
            flush=True,
        )
        _keep(checkpoint, parts, epoch + 1)
    checkpoint.unlink(missing_ok=True)


def _rise_and_fall(warm_up: int, total: int) -> Callable[[int], float]:
    """Return the learning rate's share of its peak: linear at first, then half a cosine down to 0."""

    def share(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / max(1, total - warm_up))

    return share


def _resume(checkpoint: Path, parts: dict) -> int:
    """Return the epochs that a checkpoint holds, with everything set as it was after them."""
    if not checkpoint.exists():
        return 0
    stored = torch.load(checkpoint, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    torch.set_rng_state(stored["random"])
    print(f"goes on after epoch {stored['epoch']}", flush=True)
    return stored["epoch"]


def _keep(checkpoint: Path, parts: dict, epoch: int) -> None:
    states = {name: part.state_dict() for name, part in parts.items()}
    temporary = checkpoint.with_suffix(".tmp")
    torch.save({**states, "random": torch.get_rng_state(), "epoch": epoch}, temporary)
    os.replace(temporary, checkpoint)


def _step(
    module: VisionTransformer,
    pixels: Tensor,
    labels: Tensor,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
) -> float:
    images = _moved(recipe.preprocess.normalise(_flipped(pixels)))
    share = (
        float(np.random.default_rng(int(torch.randint(2**31, ()))).beta(recipe.mixing, recipe.mixing))
        if recipe.mixing
        else 1.0
    )
    images = share * images + (1 - share) * images.flip(0) if recipe.mixing else images
    optimiser.zero_grad()
    with torch.autocast("cuda", torch.bfloat16, enabled=pixels.is_cuda):
        logits = module.read(_thinned(module.embed(images), recipe.dropping)).float()
    losses = [
        nn.functional.cross_entropy(logits, wanted, label_smoothing=recipe.smoothing)
        for wanted in (labels, labels.flip(0))
    ]
    loss = share * losses[0] + (1 - share) * losses[1]
    loss.backward()
    nn.utils.clip_grad_norm_(module.parameters(), 1.0)
    optimiser.step()
    schedule.step()
    return loss.item()


def _flipped(pixels: Tensor) -> Tensor:
    """Return the images, each mirrored with probability one half."""
    mirrored = torch.rand(len(pixels), 1, 1, 1).to(pixels.device) < 0.5
    return torch.where(mirrored, pixels.flip(-1), pixels)


def _moved(images: Tensor) -> Tensor:
    """Return the images, each moved by up to 4 pixels in both directions, with zeros moved in."""
    height, width = images.shape[-2:]
    padded = nn.functional.pad(images, (4, 4, 4, 4))
    down, right = torch.randint(0, 9, (2, len(images), 1, 1)).to(images.device)
    rows = (down + torch.arange(height, device=images.device).view(1, -1, 1))[:, None]
    columns = (right + torch.arange(width, device=images.device).view(1, 1, -1))[:, None]
    each = torch.arange(len(images), device=images.device).view(-1, 1, 1, 1)
    return padded[each, torch.arange(3, device=images.device).view(1, -1, 1, 1), rows, columns]


def _thinned(tokens: Tensor, most: float) -> Tensor:
    """Return the tokens (N, T, width) with a share of the patches dropped, others in each image."""
    patches = tokens.shape[1] - 1
    kept = patches - int(torch.randint(0, int(most * patches) + 1, ()))
    chosen = 1 + torch.rand(len(tokens), patches).argsort(1)[:, :kept].to(tokens.device)
    each = torch.arange(len(tokens), device=tokens.device)[:, None]
    return torch.cat([tokens[:, :1], tokens[each, chosen]], 1)


@torch.no_grad()
def _accuracy(module: VisionTransformer, pixels: Tensor, labels: Tensor, preprocess: Preprocess) -> float:
    module.eval()
    predicted = [module(preprocess.normalise(part)).argmax(1) for part in pixels.split(250)]
    return (torch.cat(predicted) == labels).double().mean().item()


def _save(state: dict[str, Tensor], recipe: Recipe, options: argparse.Namespace, accuracy: float) -> None:
    count = f"{options.images} images" if options.data_set == "shapes" else "50000 images"
    metadata = {
        "network": f"{options.data_set}:vit",
        "test_accuracy": f"{accuracy:.4f}",
        "test_images": str(options.test_images if options.data_set == "shapes" else 10_000),
        "seed": str(options.seed),
        "recipe": f"AdamW {recipe.lr:g}, cosine, weight decay {recipe.weight_decay:g}, "
        f"up to {recipe.dropping:g} of the patches dropped, {options.epochs} epochs of {count}, batch {recipe.batch}",
    }
    path = options.out / f"{options.data_set}_vit.safetensors"
    save_file({name: value.cpu() for name, value in state.items()}, path, metadata=metadata)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
