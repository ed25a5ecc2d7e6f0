"""Train a bundled network on the shapes data set and write its weights as float16 safetensors.

    python training/train_shapes.py vgg --bfloat16
    python training/train_shapes.py resnet --bfloat16

Needs nothing but the package: the images are drawn first and kept in memory (12 KB each). AdamW with
a one-cycle schedule; the drawing has all the augmentation there is, mirroring and shifts are added.
The accuracy that is printed and stored is that of the float16-rounded weights on the test split.
"""

from __future__ import annotations

import argparse
import math
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neurochains.data import shapes
from neurochains.network import bundled

PACKAGE_WEIGHTS = Path(bundled.__file__).parent / "weights"
LEARNING_RATE = {"vgg": 1.5e-3, "resnet": 6e-3}
EPOCHS = {"vgg": 10, "resnet": 14}


def main() -> None:
    """Train, measure and save as the command line says."""
    options = _options()
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    train = drawn_images(options.images, options.seed, "train", options.threads)
    print(f"{options.images} images drawn in {time.perf_counter() - start:.0f} s")
    module = bundled.build(options.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _fit(module, *train, options)
    state = rounded(module)
    module.load_state_dict(state)
    accuracy = accuracy_of(module, *drawn_images(options.test_images, options.seed, "test", options.threads))
    print(f"test accuracy {100 * accuracy:.2f} % on {options.test_images} images, {time.perf_counter() - start:.0f} s")
    _save(state, options, accuracy)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=tuple(EPOCHS))
    parser.add_argument("--images", type=int, default=24_000, help="training images (default 24000)")
    parser.add_argument("--test-images", type=int, default=4_000, help="test images (default 4000)")
    parser.add_argument("--epochs", type=int, help="default 10 for vgg, 14 for resnet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, help="peak learning rate (default 1.5e-3 for vgg, 6e-3 for resnet)")
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0, help="of the images, the initial weights and the order")
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16; faster where the CPU can")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=PACKAGE_WEIGHTS, help="folder for the weights file")
    options = parser.parse_args()
    options.lr = options.lr or LEARNING_RATE[options.network]
    options.epochs = options.epochs or EPOCHS[options.network]
    return options


def drawn_images(count: int, seed: int, split: str, workers: int) -> tuple[Tensor, Tensor]:
    """Return pixels (N, 3, 64, 64) uint8 and labels (N,), drawn by several processes."""
    chunks = np.array_split(np.arange(count), max(1, count // 500))
    with ProcessPoolExecutor(workers) as pool:
        drawn = list(pool.map(_draw, chunks, [seed] * len(chunks), [split] * len(chunks)))
    pixels, labels = zip(*drawn, strict=True)
    return torch.from_numpy(np.concatenate(pixels)), torch.from_numpy(np.concatenate(labels))


def _draw(indices: np.ndarray, seed: int, split: str) -> tuple[np.ndarray, np.ndarray]:
    images = shapes.batch(indices.tolist(), seed=seed, split=split)
    return images.pixels, images.labels


def _fit(module: nn.Module, pixels: Tensor, labels: Tensor, options: argparse.Namespace) -> None:
    optimiser = torch.optim.AdamW(module.parameters(), lr=options.lr, weight_decay=options.weight_decay)
    steps = options.epochs * math.ceil(len(labels) / options.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=options.lr, total_steps=steps, pct_start=0.2)
    start = time.perf_counter()
    for epoch in range(options.epochs):
        module.train()
        losses = []
        for chosen in torch.randperm(len(labels)).split(options.batch):
            optimiser.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16):
                logits = module(augmented(pixels[chosen])).float()
            loss = nn.functional.cross_entropy(logits, labels[chosen], label_smoothing=0.02)
            loss.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {time.perf_counter() - start:.0f} s", flush=True)


def augmented(pixels: Tensor) -> Tensor:
    """Return normalised images, one half of the batches mirrored, all moved by up to 4 pixels."""
    if torch.rand(()) < 0.5:
        pixels = pixels.flip(-1)
    down, right = torch.randint(-4, 5, (2,)).tolist()
    pixels = torch.roll(pixels, (down, right), (-2, -1))
    return shapes.PREPROCESS.normalise(pixels).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy_of(module: nn.Module, pixels: Tensor, labels: Tensor) -> float:
    """Return the share of images whose largest logit is that of their label."""
    module.eval()
    predicted = [module(shapes.PREPROCESS.normalise(part)).argmax(1) for part in pixels.split(250)]
    return (torch.cat(predicted) == labels).double().mean().item()


def rounded(module: nn.Module) -> dict[str, Tensor]:
    """Return the state with every float rounded to float16; counters are kept."""
    state = module.state_dict()
    return {
        key: (value.half() if value.is_floating_point() else value).contiguous(memory_format=torch.contiguous_format)
        for key, value in state.items()
    }


def _save(state: dict[str, Tensor], options: argparse.Namespace, accuracy: float) -> None:
    metadata = {
        "network": f"shapes:{options.network}",
        "test_accuracy": f"{accuracy:.4f}",
        "test_images": str(options.test_images),
        "seed": str(options.seed),
        "recipe": f"AdamW {options.lr:g} one-cycle, weight decay {options.weight_decay:g}, {options.epochs} epochs "
        f"of {options.images} images, batch {options.batch}, {'bfloat16' if options.bfloat16 else 'float32'} products",
    }
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"shapes_{options.network}.safetensors"
    save_file(state, path, metadata=metadata)
    print(f"wrote {path}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
