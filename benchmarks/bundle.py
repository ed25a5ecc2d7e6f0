"""Bundles of AlexNet's size: how large, how long, how true the estimate, and how fast a query is answered.

1. *Full size*: AlexNet with 1,000 sets of 10 images each. The importances are drawn at random, since what counts is how
   many they are; all else is what `neurochains prepare` does. Queries of two sets, on filters and on kernels, each on
   sets that were not read before.
2. *Measured*: a few sets of photographs, from beginning to end, beside the estimate that was made beforehand. The
   photographs are those of ``shared/data`` beside the project; without them this part is left out.

``python -m benchmarks bundle [--sets N] [--photographs N] [--threads N] [--at DIR]``
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from neurochains.circuits import Bundle, Measured, plan, prepare, query
from neurochains.circuits.bundle_numbers import SUMMARIES, pack
from neurochains.circuits.bundle_sets import SetWriter, Wishes
from neurochains.circuits.image_sets import ImageSet
from neurochains.circuits.preparation import Preparation
from neurochains.data import Task
from neurochains.network import Network, load_model

PHOTOS = Path(__file__).parents[2] / "shared" / "data" / "imagenet-700.zip"
IMAGES = 10
QUERIES = 20
MOST_BYTES, MOST_SECONDS = 1.5e9, 0.3


def main(arguments: Sequence[str] = ()) -> int:
    """Run both parts and print what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks bundle", description=__doc__)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--photographs", type=int, default=4, help="sets of them, for the measured part")
    parser.add_argument("--threads", type=int, default=None, help="of torch")
    parser.add_argument("--at", type=Path, default=None, help="where bundles are made and removed again")
    chosen = parser.parse_args(arguments)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    model = load_model("torchvision:alexnet", pretrained=False)
    with tempfile.TemporaryDirectory(dir=chosen.at) as place:
        full_size(model, chosen.sets, Path(place) / "full")
        shutil.rmtree(Path(place) / "full")
        if PHOTOS.exists() and chosen.photographs:
            measured(model, chosen.photographs, Path(place))
    return 0


def full_size(model: torch.nn.Module, sets: int, place: Path) -> None:
    """Make a bundle of random numbers, and ask it."""
    pictures = photographs(IMAGES)
    network = Network.trace(model, torch.zeros(1, 3, 224, 224))
    task = Task(pictures.float() / 255, [0] * IMAGES, pixels=pictures)
    known = [
        ImageSet(f"set {index}", index, None, task.names, lambda: task, lambda: task.digests) for index in range(sets)
    ]
    cached: list[dict] = []
    encode = SetWriter.encode

    def encoded(writer: SetWriter, task: Task) -> dict:
        if len(task) != IMAGES:
            return encode(writer, task)
        if not cached:
            cached.append(encode(writer, task))
        return cached[0]

    with mock.patch.object(SetWriter, "measure", invented), mock.patch.object(SetWriter, "encode", encoded):
        started = time.perf_counter()
        preparation = Preparation(network, known, place, Wishes(projection="pca"))
        foreseen = preparation.estimate.bytes
        bundle = preparation.run()
        seconds = time.perf_counter() - started
    size = size_of(place)
    print(f"{bundle!r}")
    print(f"size            {size / 1e6:8.0f} MB  foreseen {foreseen / 1e6:.0f} MB, limit {MOST_BYTES / 1e6:.0f} MB")
    print(f"written in      {seconds:8.1f} s")
    opening = [timed(lambda: Bundle.open(place)) for _ in range(3)]
    print(f"opened in       {1000 * statistics.median(opening):8.1f} ms")
    for kernels in (False, True):
        times = [timed(lambda i=i, k=kernels: ask(bundle, sets, i, kernels=k)) for i in range(QUERIES)]
        kind = "kernels" if kernels else "filters"
        print(f"query, {kind}  {1000 * statistics.median(times):8.1f} ms  slowest {1000 * max(times):.1f} ms")
        assert statistics.median(times) < MOST_SECONDS
    assert size < MOST_BYTES


def ask(bundle: Bundle, sets: int, index: int, *, kernels: bool) -> None:
    """Ask a query of two sets, and for the first 20 rows."""
    first, second = (7 * index) % sets, (11 * index + 5) % sets
    query(f'"set {first}" - 0.5 * ("set {second}" + overall)', bundle, kernels=kernels).rows(20)


def invented(writer: SetWriter, task: Task) -> dict[str, np.ndarray]:
    """Return random numbers in the place of a set's."""
    spans, dice = writer.spans, np.random.default_rng(len(task))
    places = (spans.filters, min(len(task), writer.wishes.patches))
    numbers = {name: dice.random(spans.filters).astype(np.float32) for name in ("filters", *SUMMARIES)}
    kernels = pack(dice.exponential(1e-4, spans.kernels), spans)
    patches = {"patch_value": dice.random(places).astype(np.float32), "patch_place": np.zeros((*places, 3), np.int32)}
    return {**numbers, **kernels, **patches}


def measured(model: torch.nn.Module, sets: int, place: Path) -> None:
    """Prepare a few sets of photographs, and compare with the estimate."""
    folder = unpacked(place / "photos", sets, IMAGES)
    preparation = plan(model, folder, place / "b", projection="pca")
    foreseen = preparation.estimate
    seconds = timed(preparation.run)
    size = size_of(place / "b")
    print(f"\n{foreseen.images} photographs in {foreseen.sets} sets")
    print(f"size            {size / 1e6:8.1f} MB  foreseen {foreseen.bytes / 1e6:.1f} MB")
    print(f"time            {seconds:8.1f} s   foreseen {foreseen.seconds:.1f} s")
    again = timed(lambda: prepare(model, folder, place / "b", projection="pca"))
    print(f"made again in   {again:8.1f} s   (nothing is left to do but to trace the network)")
    first = Bundle.open(place / "b").names.short[0]
    live = timed(lambda: query(f'"{first}" - overall', Measured(model, folder)).rows(20))
    read = timed(lambda: query(f'"{first}" - overall', Bundle.open(place / "b")).rows(20))
    print(f"query           {1000 * read:8.1f} ms  from the bundle; {live:.1f} s from model and images")


def photographs(count: int) -> torch.Tensor:
    """Return pictures ``(N, 3, 224, 224)``: photographs where there are any, else smooth noise."""
    with tempfile.TemporaryDirectory() as place:
        if PHOTOS.exists():
            model = load_model("torchvision:alexnet", pretrained=False)
            folder = unpacked(Path(place), 1, count) / "photographs 0"
            return Task.from_files(sorted(folder.iterdir()), model=model).pixels
    noise = torch.rand(count, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    return (torch.nn.functional.interpolate(noise, size=224, mode="bicubic").clamp(0, 1) * 255).byte()


def unpacked(folder: Path, sets: int, each: int) -> Path:
    """Return a folder with some photographs, in so many sub-folders of so many."""
    with zipfile.ZipFile(PHOTOS) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(".jpg")]
        for index, name in enumerate(names[: sets * each]):
            file = folder / f"photographs {index // each}" / Path(name).name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(archive.read(name))
    return folder


def size_of(place: Path) -> int:
    """Return the length of all files below a place."""
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
