"""`neurochains decouple train`: a copy of a model whose filters are switched for each image, trained and saved."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurochains.cli import options as o
from neurochains.cli.console import results_console, tell, working, write_json
from neurochains.cli.models import ModelChoice
from neurochains.cli.progress import duration
from neurochains.errors import ArtifactError, SettingsError

if TYPE_CHECKING:
    from neurochains.decoupling import Decoupled, EpochReport

__all__ = ["train"]

NETWORK = "network"
_LOSSES, _TRAINING = "The losses", "The training"


class Precision(str, Enum):
    """Of the products in training."""

    full = "32"
    bfloat = "bf16-mixed"
    half = "16-mixed"


Layers = Annotated[
    list[str] | None, typer.Option(metavar="LAYER...", help="Which to control.", show_default="all convolutions")
]
KeepOne = Annotated[bool, typer.Option("--keep-one", help="Never switch off all the filters of a layer.")]
Val = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Images for validation.", rich_help_panel=_TRAINING)]
ValShare = Annotated[
    float, typer.Option(metavar="S", help="Without --val: share of the images.", rich_help_panel=_TRAINING)
]
Mi = Annotated[float, typer.Option(metavar="L", min=0, help="Codes tell of the class.", rich_help_panel=_LOSSES)]
Kl = Annotated[float, typer.Option(metavar="L", min=0, help="Codes agree with outputs.", rich_help_panel=_LOSSES)]
Sparse = Annotated[float, typer.Option(metavar="L", min=0, help="Codes are sparse.", rich_help_panel=_LOSSES)]
Kept = Annotated[
    list[str] | None,
    typer.Option(
        metavar="R...", help="Share to keep: 0.6, or LAYER=0.6 ...", show_default="0", rich_help_panel=_LOSSES
    ),
]
Epochs = Annotated[int, typer.Option(metavar="N", min=1, help="Times each image is seen.", rich_help_panel=_TRAINING)]
Batch = Annotated[int, typer.Option(metavar="N", min=1, help="Images at a time.", rich_help_panel=_TRAINING)]
Rate = Annotated[float, typer.Option(metavar="RATE", help="Learning rate.", rich_help_panel=_TRAINING)]
ControllerRate = Annotated[
    float | None, typer.Option(metavar="RATE", help="Of the controllers.", rich_help_panel=_TRAINING)
]
Hard = Annotated[
    float,
    typer.Option(
        metavar="S", min=0, max=1, help="Share of steps, the last, with codes of inference.", rich_help_panel=_TRAINING
    ),
]
Clip = Annotated[float | None, typer.Option(metavar="N", help="Largest gradient norm.", rich_help_panel=_TRAINING)]
Crop = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="Shift by so much, and mirror.", rich_help_panel=_TRAINING)
]
Precisions = Annotated[Precision, typer.Option(metavar="HOW", help="32, bf16-mixed, 16-mixed.")]
Devices = Annotated[str, typer.Option(metavar="N", help="How many, or auto.", rich_help_panel=_TRAINING)]
Accelerator = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, gpu.", rich_help_panel=_TRAINING)]
Strategy = Annotated[str, typer.Option(metavar="NAME", help="ddp for several devices.", rich_help_panel=_TRAINING)]
Workers = Annotated[int, typer.Option(metavar="N", min=0, help="Read images.", rich_help_panel=_TRAINING)]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write logs for it, too.")]


def train(
    model: o.Model,
    images: o.Images,
    out: o.OutFolder,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    input_size: o.InputSize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    layers: Layers = None,
    keep_one: KeepOne = False,
    val: Val = None,
    val_share: ValShare = 0.1,
    mi: Mi = 0.01,
    kl: Kl = 1.0,
    sparse: Sparse = 0.0002,
    kept: Kept = None,
    epochs: Epochs = 200,
    batch: Batch = 128,
    lr: Rate = 0.01,
    controller_lr: ControllerRate = None,
    hard: Hard = 0.0,
    clip: Clip = None,
    crop: Crop = None,
    precision: Precisions = Precision.full,
    accelerator: Accelerator = "auto",
    devices: Devices = "1",
    strategy: Strategy = "auto",
    workers: Workers = 0,
    seed: o.Seed = 0,
    resume: Resume = False,
    tensorboard: TensorBoard = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Train the copy. After a kill or Ctrl-C the same command with --resume goes on."""
    choice = ModelChoice(model, weights, trust_pickle, False, input_size, mean, std)
    losses = {"mi": mi, "kl": kl, "sparse": sparse, "kept": kept}
    rates = {"lr": lr, "controller_lr": controller_lr, "hard": hard, "clip": clip, "epochs": epochs, "batch": batch}
    where = {"accelerator": accelerator, "devices": devices, "strategy": strategy, "workers": workers}
    job = _Job(
        choice, images, out, val or val_share, losses, {**rates, **where, "precision": precision.value, "seed": seed}
    )
    job.run(layers, keep_one, crop, resume=resume, tensorboard=tensorboard, as_json=as_json, quiet=quiet)


@dataclass(frozen=True, slots=True)
class _Job:
    """One training: of which model, on which images, to where, with which losses and settings."""

    choice: ModelChoice
    images: Path
    out: Path
    val: Path | float
    losses: dict[str, Any]
    settings: dict[str, Any]

    def run(
        self,
        layers: list[str] | None,
        keep_one: bool,
        crop: int | None,
        *,
        resume: bool,
        tensorboard: bool,
        as_json: bool,
        quiet: bool,
    ) -> None:
        """Train, save, and say what came of it."""
        if (self.out / NETWORK).exists():
            raise ArtifactError(f"{self.out} holds a finished training already. Choose another --out.")
        with working(f"what is finished is kept in {self.out}; go on with --resume."):
            from neurochains.decoupling import CropFlip, decouple, is_first_process

            model = self.choice.load()
            example = self.choice.example(model)
            network = decouple(model, example, layers=layers, keep_one=keep_one, seed=self.settings["seed"])
            options = {"augment": None if crop is None else CropFlip(padding=crop), "resume": resume}
            options |= {"logs": ("csv", "tensorboard") if tensorboard else ("csv",)}
            self._train(network, progress=None if quiet else _Teller(), **options)
            first = is_first_process()
            if first:
                network.save(self.out / NETWORK)
        if first:
            _show(network, self.out, as_json=as_json, quiet=quiet)

    def _train(self, network: Decoupled, **options: Any) -> None:
        from neurochains.decoupling import LossWeights, TrainSettings, train_decoupled

        loss = LossWeights(**{**self.losses, "kept": _kept(self.losses["kept"])})
        how = self.choice.preprocess(network.detach())
        settings = TrainSettings(**self.settings)
        train_decoupled(
            network, self.images, self.val, loss=loss, settings=settings, preprocess=how, out=self.out, **options
        )


def _kept(words: list[str] | None) -> float | dict[str, float]:
    """Return one share, or one for each layer that is named."""
    if not words:
        return 0.0
    try:
        if len(words) == 1 and "=" not in words[0]:
            return float(words[0])
        return {name: float(share) for name, share in (word.rsplit("=", 1) for word in words)}
    except ValueError as error:
        raise SettingsError(
            f"--kept takes one share, such as 0.6, or LAYER=SHARE for each layer; got {' '.join(words)}."
        ) from error


@dataclass(slots=True)
class _Teller:
    """Tells of each epoch; how long the others will take, it knows from those that this process ran."""

    ran: int = 0

    def __call__(self, report: EpochReport) -> None:
        self.ran += 1
        left = report.seconds / self.ran * (report.epochs - report.epoch)
        tell(
            f"epoch {report.epoch}/{report.epochs}: loss {report.losses['loss']:.3g}, accuracy {report.accuracy:.1%}, "
            f"{report.on:.0%} of the filters on, {report.shares['dynamic']:.0%} dynamic, about {duration(left)} left"
        )


def _show(network: Decoupled, out: Path, *, as_json: bool, quiet: bool) -> None:
    last = network.record["history"][-1]
    if as_json:
        write_json({**last, "folder": str(out)})
    elif not quiet:
        results_console().print(
            f"accuracy {last['accuracy']:.1%} on the images for validation, {last['on']:.0%} of the filters on\n"
            f"Saved in {out}; see it with: neurochains decouple states {shlex.quote(str(out))} --images FOLDER",
            soft_wrap=True,
        )
