"""Training a decoupled network: all weights together, from the pre-trained ones, with the losses of the paper.

1. The images for validation are split from the training images, or given; the test set is never looked at here.
2. SGD with momentum on backbone, controllers and classifiers of the codes; the learning rate falls in steps.
3. After each epoch: validation, a report, a checkpoint, a line in the logs.
4. A loss that is not finite, or an epoch worse than ten times guessing, ends the training; the network is then as it
   was after the last good epoch.

The loop, devices, precision, several processes and logs are those of Lightning, in `neurochains.decoupling.loop`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurochains.decoupling.decoupled import Decoupled
from neurochains.decoupling.losses import LossWeights
from neurochains.decoupling.objective import Objective
from neurochains.decoupling.sources import ImageSource, as_source, check_apart, known_labels, split
from neurochains.errors import ArtifactError, DataError, SettingsError
from neurochains.preprocess import Preprocess

__all__ = ["LAST", "EpochReport", "TrainSettings", "is_first_process", "train_decoupled"]

LAST = "last.checkpoint"
_PRECISIONS = ("32", "16-mixed", "bf16-mixed")
_LOGS = ("csv", "tensorboard")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to train; the defaults are those of the paper for ResNet-56 on CIFAR-10, but for the learning rate.

    Attributes:
        epochs, batch: how often each image is seen, and how many at a time in each process.
        lr: the learning rate; 0.1 in the paper, which is much for few epochs from trained weights.
        controller_lr: that of the controllers and the classifiers of codes; `lr` if None.
        warmup: share of all steps over which the learning rates rise from 0. Without it the backbone, which knows no
            gates yet, drives all votes up to where the codes have no gradient, and nothing closes any more.
        milestones: shares of the epochs after which the learning rate is divided by ten.
        momentum, weight_decay: of SGD.
        hard: share of all steps, the last ones, with the codes of inference instead of noisy ones. Few steps leave
            votes near 0, where noise makes other codes than inference does: weights and batch norm then have not seen
            what they are to work with. Ours; 0, as in the paper, leaves it out.
        clip: largest norm of the gradient; None leaves it as it is.
        precision: ``"32"``, ``"bf16-mixed"`` or ``"16-mixed"``; the controllers stay in the type of their weights.
        accelerator, devices, strategy: as Lightning has them; ``strategy="ddp"`` trains on several devices.
        workers: processes that read images.
        seed: of the split, the order, the changes of images and the noise of the codes.

    Raises:
        SettingsError: a value is out of range.
    """

    epochs: int = 200
    batch: int = 128
    lr: float = 0.01
    controller_lr: float | None = None
    warmup: float = 0.05
    milestones: Sequence[float] = (0.5, 0.75)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    hard: float = 0.0
    clip: float | None = None
    precision: str = "32"
    accelerator: str = "auto"
    devices: int | str = 1
    strategy: str = "auto"
    workers: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1; got {getattr(self, name)}.")
        for name in ("lr", "controller_lr", "clip"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise SettingsError(f"{name} must be positive; got {value}.")
        if not 0 <= self.momentum < 1 or not 0 <= self.weight_decay < math.inf:
            raise SettingsError(
                f"momentum must be from 0 to below 1, weight_decay 0 or more; got {self.momentum}, {self.weight_decay}."
            )
        if not 0 <= self.hard <= 1:
            raise SettingsError(f"hard must be a share of the steps from 0 to 1; got {self.hard}.")
        if not 0 <= self.warmup < 1:
            raise SettingsError(f"warmup must be a share of the steps from 0 to below 1; got {self.warmup}.")
        if any(not 0 < share <= 1 for share in self.milestones):
            raise SettingsError(f"milestones must be shares of the epochs above 0, up to 1; got {self.milestones}.")
        if self.precision not in _PRECISIONS:
            raise SettingsError(f"precision must be one of {', '.join(_PRECISIONS)}; got {self.precision!r}.")

    @property
    def drops(self) -> list[int]:
        """The epochs after which the learning rate falls."""
        return sorted({max(1, round(share * self.epochs)) for share in self.milestones})


@dataclass(frozen=True, slots=True)
class EpochReport:
    """What is known after an epoch.

    Attributes:
        epoch, epochs: how many are done, and of how many.
        losses: means over the epoch: ``loss``, ``task`` and those of ``mi``, ``kl``, ``sparse`` that have a weight.
        lr: the learning rate of the backbone.
        accuracy, val_loss: share of right answers and mean cross entropy on the images for validation.
        agreement: how well codes follow the mean outputs of their layer: a correlation, in the mean over layers and
            images. L_kl asks for it, but a softmax of bits is nearly flat and hardly tells.
        on: the mean share of controlled filters that an image uses.
        shares: of ``dynamic``, ``silent`` and ``energetic`` filters on these images.
        seconds: since the training began, without what came before it was resumed.
    """

    epoch: int
    epochs: int
    losses: dict[str, float]
    lr: float
    accuracy: float
    val_loss: float
    agreement: float
    on: float
    shares: dict[str, float]
    seconds: float


@dataclass(slots=True)
class Job:
    """One training: what the loop needs to know, and what it finds out."""

    objective: Objective
    train: ImageSource
    val: ImageSource
    settings: TrainSettings
    out: Path | None
    resume: bool
    logs: tuple[str, ...]
    progress: Callable[[EpochReport], None] | None
    history: list[EpochReport] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path | None:
        """The file that a training goes on from."""
        return None if self.out is None else self.out / LAST


def train_decoupled(
    decoupled: Decoupled,
    train: Any,
    val: Any = 0.1,
    *,
    loss: LossWeights | None = None,
    settings: TrainSettings | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    preprocess: Preprocess | None = None,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    logs: Sequence[str] = ("csv",),
    progress: Callable[[EpochReport], None] | None = None,
) -> Decoupled:
    """Train a decoupled network, which is returned, in eval mode, with `record` filled in.

    Args:
        decoupled: what `decouple` made; it is changed, the model that it was made from is not.
        train: a folder of class folders, a `Task` with labels, ``(images, labels)``, or a data set of (image, label).
        val: the same for validation, or a share of the training images to split off. Not the test set.
        loss: the weights of the losses.
        settings: epochs, learning rate, devices and so on.
        augment: changes a batch ``(B, C, H, W)`` of training images, such as `CropFlip`.
        preprocess: how images of a folder, or pixels, are prepared; as the model says if None.
        out: a folder for the checkpoint and the logs; nothing is written if None.
        resume: go on from the checkpoint in `out` if there is one; the same settings give what an unbroken run gives.
        logs: any of ``"csv"`` and ``"tensorboard"``.
        progress: is called with an `EpochReport` after each epoch.

    Raises:
        DataError: images or labels are missing, do not fit, or are used for training and validation at once.
        SettingsError: a setting is out of range, the folder holds another training, or lightning is not installed.
        TrainingError: the loss diverged.
        ArtifactError: the checkpoint cannot be read or written, or is another training's.
    """
    weights, chosen = _by_name(loss or LossWeights(), decoupled), settings or TrainSettings()
    weights.check_layers(decoupled.layers)
    given, checked = _sources(train, val, decoupled, preprocess, chosen.seed)
    _check_labels(decoupled, given, checked)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(chosen.seed)
        objective = Objective(decoupled, weights, augment)
    place = _checked_place(out, resume)
    job = Job(objective, given, checked, chosen, place, resume, _checked_logs(logs, out), progress)
    from neurochains.decoupling.loop import run_training

    run_training(job)
    decoupled.eval()
    decoupled.record.update(_record(job))
    return decoupled


def is_first_process() -> bool:
    """Return whether this is the one of several training processes that writes and prints; True if it is alone."""
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not several or torch.distributed.get_rank() == 0


def _by_name(weights: LossWeights, decoupled: Decoupled) -> LossWeights:
    """Return the weights with dotted names where shares to keep are given by label."""
    if not isinstance(weights.kept, Mapping):
        return weights
    names = {decoupled.network.layer(name).label: name for name in decoupled.layers}
    return replace(weights, kept={names.get(given, given): share for given, share in weights.kept.items()})


def _sources(
    train: Any, val: Any, decoupled: Decoupled, preprocess: Preprocess | None, seed: int
) -> tuple[ImageSource, ImageSource]:
    whole = as_source(train, model=decoupled.detach(), preprocess=preprocess)
    if isinstance(val, (int, float)):
        return split(whole, float(val), seed=seed)
    other = as_source(val, model=decoupled.detach(), preprocess=preprocess)
    check_apart(whole, other)
    return whole, other


def _check_labels(decoupled: Decoupled, *sources: ImageSource) -> None:
    """Check shapes and labels on the first images; all labels where they are at hand."""
    wanted, outputs = decoupled.network.input_shape, decoupled.network.outputs
    for source in sources:
        images, labels = source.read(range(min(2, len(source))))
        if tuple(images.shape[1:]) != wanted:
            raise DataError(f"Wanted training images (N, {', '.join(map(str, wanted))}); got {tuple(images.shape)}.")
        known = known_labels(source)
        known = labels if known is None else known
        if int(known.min()) < 0 or int(known.max()) >= outputs:
            raise DataError(
                f"Wanted labels from 0 to {outputs - 1}, one for each output of the network; got {int(known.min())} to "
                f"{int(known.max())}. Training needs the class of every image."
            )


def _checked_place(out: str | os.PathLike[str] | None, resume: bool) -> Path | None:
    if out is None:
        if resume:
            raise SettingsError("resume=True needs the folder of the training that goes on: out=.")
        return None
    place = Path(out)
    if (place / LAST).exists() and not resume:
        raise ArtifactError(f"{place} holds a training already. Choose another folder, or go on with resume=True.")
    return place


def _checked_logs(logs: Sequence[str], out: str | os.PathLike[str] | None) -> tuple[str, ...]:
    wrong = [name for name in logs if name not in _LOGS]
    if wrong:
        raise SettingsError(f"logs must be of {', '.join(_LOGS)}; got {wrong[0]!r}.")
    return () if out is None else tuple(logs)


def _record(job: Job) -> dict[str, Any]:
    how: Preprocess | None = getattr(job.train, "preprocess", None)
    return {
        "loss": asdict(job.objective.weights),
        "settings": asdict(job.settings),
        "history": [asdict(report) for report in job.history],
        "preprocess": None if how is None else how.to_json(),
    }
