"""`prepare`: a bundle of a model on sets of images, for queries that answer at once and for the explorer."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from neurochains.circuits.bundle import Bundle
from neurochains.circuits.bundle_sets import Wishes
from neurochains.circuits.criteria import Reduce
from neurochains.circuits.estimates import Estimate
from neurochains.circuits.image_sets import ImageSet, image_sets
from neurochains.circuits.preparation import Preparation, Step
from neurochains.data import Task
from neurochains.network import ModelInfo, Network, load_model
from neurochains.preprocess import Preprocess

__all__ = ["open_network", "plan", "prepare"]


def prepare(
    model: nn.Module | str | Network,
    images: Task | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    announce: Callable[[Estimate], None] | None = None,
    progress: Callable[[Step], None] | None = None,
    **options: Any,
) -> Bundle:
    """Return the bundle of a model on sets of images, made in a folder, or taken up again there.

    A run that was killed goes on where it was when it is called again with the same settings.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network. It is never changed.
        images: a task, whose labels make the sets, or a folder with a sub-folder for each set.
        out: the folder of the bundle.
        announce: called with the size and the time before anything is written.
        progress: called now and then.
        options: those of `plan`.

    Raises:
        ArtifactError: the place is taken or cannot be written, or there is no room.
        DataError: the images cannot be used.
        SettingsError: an option has a value it cannot have.
        ModelError: the model cannot be traced.
    """
    preparation = plan(model, images, out, **options)
    if announce is not None:
        announce(preparation.estimate)
    return preparation.run(progress)


def plan(
    model: nn.Module | str | Network,
    images: Task | str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    target: str = "loss",
    criterion: str = "activation_gradient",
    reduce: Reduce = "abs",
    kernels: bool = True,
    patches: int = 9,
    projection: str = "auto",
    batch_size: int | None = None,
    classes: Sequence[str | int] | None = None,
    per_class: int | None = None,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    force: bool = False,
) -> Preparation:
    """Return a preparation with its estimate; its `run` makes the bundle. See `prepare`.

    Args:
        model: see `prepare`, and so are ``images`` and ``out``.
        images: see there.
        out: see there.
        target: what importance is measured for, as in `importance`. The loss of images without a label is that of the
            network's own answer.
        criterion: a name of `CRITERIA`.
        reduce: ``"abs"`` or ``"signed"``.
        kernels: keep the importance of kernels too, which most of the bundle's size is.
        patches: how many places to remember for each filter, in each set and overall.
        projection: ``"auto"``, ``"umap"`` or ``"pca"``; UMAP is taken where it is installed.
        batch_size: images at a time.
        classes: which sub-folders, by name, synset or index; all if None.
        per_class: how many images of each; all if None.
        preprocess: how images are prepared; the model's way if None.
        seed: of the draw of images and of the projection.
        device: where the network shall run.
        force: replace a bundle of another model or of other settings.
    """
    drawn = {"classes": classes, "per_class": per_class, "preprocess": preprocess, "seed": seed}
    network, sets = open_network(model, images, device=device, **drawn)
    wishes = Wishes(target, criterion, reduce, kernels, patches, projection, seed, batch_size, preprocess)
    return Preparation(network, sets, out, wishes, force=force)


def open_network(
    model: nn.Module | str | Network,
    images: Task | str | os.PathLike[str],
    *,
    device: str | torch.device | None = None,
    **drawn: Any,
) -> tuple[Network, tuple[ImageSet, ...]]:
    """Return the traced network of a model, and the sets of its images, drawn as `image_sets` is told to."""
    chosen = load_model(model) if isinstance(model, str) else model
    known = _Known(chosen.info) if isinstance(chosen, Network) else chosen
    sets = image_sets(images, model=known, **drawn)
    if isinstance(chosen, Network):
        return chosen, sets
    return Network.trace(chosen, sets[0].load().images[:1], device=device), sets


@dataclass(frozen=True, slots=True)
class _Known:
    """Carries what the zoo knows of a traced network's model, as a model does."""

    neurochains_info: ModelInfo | None
