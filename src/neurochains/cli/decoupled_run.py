"""What the commands of `neurochains decouple` share: the network of a run, the images to look at, and timing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurochains.cli.models import ModelChoice
from neurochains.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neurochains.data import Task
    from neurochains.decoupling import Decoupled

__all__ = ["load_images", "load_network", "time_networks"]

_SHAPES = "shapes:"
_DRAWN = 20  # of each class, of the built-in images
_CLASSES = 16


def load_network(
    run: str, *, model: str | None, weights: Path | None, trust_pickle: bool, device: str | None
) -> Decoupled:
    """Return the network of a run, or one of the package.

    Raises:
        SettingsError: weights are given without a model.
        ArtifactError: there is none, or it is another model's.
    """
    from neurochains.decoupling import load_decoupled

    if model is None and (weights is not None or trust_pickle):
        raise SettingsError("--weights and --trust-pickle say nothing without --model. Name the model as well.")
    chosen = None if model is None else ModelChoice(model, weights, trust_pickle).load()
    place = run if run.startswith(_SHAPES) or not (Path(run) / "network").is_dir() else str(Path(run) / "network")
    return load_decoupled(place, model=chosen, device=device)


def load_images(network: Decoupled, run: str, images: Path | None, per_class: int | None) -> Task:
    """Return the images of a folder; for a network of the package, without one, images of the shapes data.

    Raises:
        SettingsError: there is no folder.
    """
    from neurochains.data import Task
    from neurochains.preprocess import Preprocess

    if images is not None:
        how = network.record.get("preprocess")
        known = None if how is None else Preprocess.from_json(how)
        return Task.from_folder(images, model=network.detach(), preprocess=known, per_class=per_class)
    if not run.startswith(_SHAPES):
        raise SettingsError("Say which images: --images FOLDER.")
    return Task.shapes(_CLASSES * (per_class or _DRAWN))


def time_networks(network: Decoupled, images: Tensor, repeats: int) -> dict[str, Any]:
    """Return the median processor time of an image in the original, the gated and the dynamic network, by turns."""
    import statistics

    import torch

    from neurochains.decoupling import path_costs

    dynamic = network.dynamic()
    modules: dict[str, nn.Module] = {"original": network.detach(), "gated": network, "dynamic": dynamic}
    times: dict[str, list[float]] = {name: [] for name in modules}
    with torch.no_grad():
        for turn in range(repeats + 1):  # the first does not count
            for image in images.split(1):
                for name, module in modules.items():
                    start = time.process_time()
                    module(image)
                    times[name] += [time.process_time() - start] if turn else []
        difference = float((dynamic(images) - network(images)).abs().max())
    costs = path_costs(network, network.codes(images))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    speed = seconds["original"] / seconds["dynamic"]
    return {"seconds": seconds, "speed": speed, "macs": costs.original / costs.mean, "difference": difference}
