"""The training loop: Lightning's, told what to compute, where to write, and when to stop."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurochains.decoupling.checkpoints import read_checkpoint
from neurochains.decoupling.objective import Objective, Tally
from neurochains.decoupling.sources import loader
from neurochains.decoupling.trainer import import_lightning, interrupts, make_trainer, own_randomness, quiet
from neurochains.decoupling.training import EpochReport, Job, TrainSettings
from neurochains.errors import ArtifactError, TrainingError

__all__ = ["run_training"]

_GUESSING = 10.0  # times the entropy of a guess: a mean loss above it is no training any more


def run_training(job: Job) -> None:
    """Train as the job says; its network and history are filled in.

    Raises:
        SettingsError: lightning, or tensorboard where it is asked for, is not installed.
        TrainingError: the loss diverged; the network is as it was after the last good epoch.
        ArtifactError: the checkpoint is of another training.
    """
    pytorch = import_lightning()
    good = _GoodState(job)
    checkpoint = _resumed(job)
    with quiet(), own_randomness(job.settings), interrupts():
        trainer = make_trainer(pytorch, job)
        job.objective.train()  # Lightning leaves the mode as it is
        try:
            trainer.fit(_module(pytorch, job, good), ckpt_path=checkpoint)
        except _DivergedError as error:
            raise good.restored(str(error)) from error
        finally:
            _set_hashing(job, True)


def _set_hashing(job: Job, hashing: bool) -> None:
    for controller in job.objective.decoupled.controllers.values():
        controller.hashing = hashing


class _DivergedError(Exception):
    """The loss is no loss any more; the message says since when."""


class _GoodState:
    """The network after the last epoch that ended well."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.keep()

    def keep(self) -> None:
        state = self._job.objective.decoupled.state_dict()
        self._state = {name: value.detach().cpu().clone() for name, value in state.items()}

    def restored(self, reason: str) -> TrainingError:
        """Put the network back and return the error to raise."""
        job = self._job
        job.objective.decoupled.load_state_dict(self._state)
        job.objective.decoupled.eval()
        kept = f" Its checkpoint is in {job.checkpoint}." if job.checkpoint and job.checkpoint.exists() else ""
        return TrainingError(
            f"The training diverged: {reason}. The network is as it was after epoch {len(job.history)}.{kept} Lower "
            f"lr (now {job.settings.lr:g}) or the weights of the losses, or set clip=1.0."
        )


def _module(pytorch: Any, job: Job, good: _GoodState) -> Any:
    """Return the job as Lightning wants to see it."""
    epochs = _Epochs(job, good)

    class Training(pytorch.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.objective = job.objective

        def training_step(self, batch: Any, _: int) -> Tensor:
            return epochs.step(self, *batch)

        def validation_step(self, batch: Any, _: int) -> None:
            epochs.count(self.objective, *batch)

        def on_validation_epoch_end(self) -> None:
            epochs.validated(self)

        def on_train_epoch_end(self) -> None:
            epochs.end(self)

        def configure_optimizers(self) -> Any:
            return _optimiser(job.objective, job.settings)

        def train_dataloader(self) -> Any:
            return epochs.batches(self, train=True)

        def val_dataloader(self) -> Any:
            return epochs.batches(self, train=False)

        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["neurochains"] = epochs.state()

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            epochs.load(checkpoint["neurochains"])

    return Training()


class _Epochs:
    """What happens in each epoch, and what is added up in it."""

    def __init__(self, job: Job, good: _GoodState) -> None:
        self._job, self._good = job, good
        self._start = time.monotonic()
        self._sums: dict[str, Tensor] = {}
        self._steps = 0
        self._epoch = -1
        self._counted: Tensor | None = None
        self._tally: Tally | None = None
        self._resumed = False

    def batches(self, module: Any, *, train: bool) -> Any:
        source, settings, trainer = (self._job.train if train else self._job.val), self._job.settings, module.trainer
        seed = settings.seed if train else None
        place = {"rank": trainer.global_rank, "ranks": trainer.world_size}
        start = len(self._job.history)  # Lightning asks for the first batches before it says which epoch it is
        return loader(source, settings.batch, seed=seed, workers=settings.workers, epoch=start, **place)

    def _begin(self, module: Any) -> None:
        """Begin an epoch: its random numbers depend on its number alone, so that a resumed run draws the same.

        Called at the first step, for Lightning leaves out the hook for it after a resumption.
        """
        if self._resumed:
            self._good.keep()
            self._resumed = False
        self._sums, self._steps, self._epoch = {}, 0, module.current_epoch
        torch.manual_seed((self._job.settings.seed * 100_003 + self._epoch) * 1_009 + module.global_rank)

    def _set_rates(self, module: Any) -> None:
        settings = self._job.settings
        factor = 0.1 ** sum(drop <= self._epoch for drop in settings.drops)
        rising = settings.warmup * module.trainer.estimated_stepping_batches
        if module.global_step < rising:
            factor *= (module.global_step + 1) / rising
        for group in module.optimizers().param_groups:
            group["lr"] = group["initial_lr"] * factor

    def step(self, module: Any, images: Tensor, labels: Tensor) -> Tensor:
        if self._epoch != module.current_epoch:
            self._begin(module)
        self._set_rates(module)
        steps = module.trainer.estimated_stepping_batches
        _set_hashing(self._job, module.global_step < (1 - self._job.settings.hard) * steps)
        losses = self._job.objective.losses(images, labels)
        if not bool(torch.isfinite(losses["loss"])):
            raise _DivergedError(f"the loss became {float(losses['loss'])} in epoch {module.current_epoch + 1}")
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._steps += 1
        return losses["loss"]

    def count(self, objective: Objective, images: Tensor, labels: Tensor) -> None:
        counted = objective.tally(images, labels)
        self._counted = counted if self._counted is None else self._counted + counted

    def validated(self, module: Any) -> None:
        if self._counted is None:  # a process without images of its own
            size = Tally.size(self._job.objective.decoupled)
            self._counted = torch.zeros(size, dtype=torch.float64, device=module.device)
        total = module.trainer.strategy.reduce(self._counted, reduce_op="sum")
        self._counted = None
        self._tally = Tally.of(total, self._job.objective.decoupled)

    def end(self, module: Any) -> None:
        assert self._tally is not None
        means = {name: float(value / self._steps) for name, value in self._sums.items()}
        classes = self._job.objective.decoupled.network.outputs
        if not means["task"] <= _GUESSING * math.log(max(2, classes)):
            raise _DivergedError(f"the cross entropy of epoch {module.current_epoch + 1} was {means['task']:.3g}")
        report = self._report(module, means, self._tally)
        self._job.history.append(report)
        self._good.keep()
        if self._job.checkpoint is not None:
            module.trainer.save_checkpoint(self._job.checkpoint)
        if module.trainer.is_global_zero:
            self._tell(module, report)

    def _tell(self, module: Any, report: EpochReport) -> None:
        for logger in module.loggers:
            logger.log_metrics(_values(report), step=report.epoch)
            logger.save()
        if "csv" in self._job.logs and self._job.out is not None:
            _write_csv(self._job.out / "metrics.csv", self._job.history)
        if self._job.progress is not None:
            self._job.progress(report)

    def _report(self, module: Any, means: dict[str, float], tally: Tally) -> EpochReport:
        return EpochReport(
            epoch=module.current_epoch + 1,
            epochs=self._job.settings.epochs,
            losses=means,
            lr=float(module.optimizers().param_groups[0]["lr"]),
            accuracy=tally.accuracy,
            val_loss=tally.loss,
            agreement=tally.agreement,
            on=tally.states.mean_on,
            shares=tally.states.shares,
            seconds=time.monotonic() - self._start,
        )

    def state(self) -> dict[str, Any]:
        fields = EpochReport.__dataclass_fields__
        return {
            "digest": self._job.objective.decoupled.network.digest,
            "layers": list(self._job.objective.decoupled.layers),
            "settings": _comparable(self._job),
            "history": [{name: getattr(report, name) for name in fields} for report in self._job.history],
        }

    def load(self, state: dict[str, Any]) -> None:
        self._job.history[:] = [EpochReport(**report) for report in state["history"]]
        self._resumed = True  # its weights come later


def _values(report: EpochReport) -> dict[str, float]:
    """Return the numbers of a report in one flat table."""
    train = {f"train/{name}": value for name, value in report.losses.items()}
    val = {"accuracy": report.accuracy, "loss": report.val_loss, "agreement": report.agreement, "on": report.on}
    val |= report.shares
    return {**train, **{f"val/{name}": value for name, value in val.items()}, "lr": report.lr}


def _write_csv(path: Path, history: Sequence[EpochReport]) -> None:
    """Write one line for each epoch so far, those before a training was resumed included."""
    rows = [{"epoch": report.epoch, **_values(report), "seconds": report.seconds} for report in history]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.getvalue(), encoding="utf-8")


def _optimiser(objective: Objective, settings: TrainSettings) -> Any:
    """Return SGD on everything; controllers and classifiers of codes may have a rate of their own."""
    controls = {id(part) for controller in objective.decoupled.controllers.values() for part in controller.parameters()}
    controls |= {id(part) for part in objective.heads.parameters()}
    rates = {False: settings.lr, True: settings.controller_lr or settings.lr}
    groups = [
        {
            "params": [part for part in objective.parameters() if (id(part) in controls) == controlling],
            "initial_lr": rate,
        }
        for controlling, rate in rates.items()
    ]
    return torch.optim.SGD(groups, settings.lr, settings.momentum, weight_decay=settings.weight_decay)


def _resumed(job: Job) -> str | None:
    """Return the checkpoint to go on from, after checking that it is this training's."""
    if not job.resume or job.checkpoint is None or not job.checkpoint.exists():
        return None
    state = read_checkpoint(job.checkpoint)["neurochains"]
    own = job.objective.decoupled
    if state["digest"] != own.network.digest or tuple(state["layers"]) != own.layers:
        raise ArtifactError(
            f"The checkpoint {job.checkpoint} is of another network, or of other controlled layers. Decouple the "
            "network that it was made with, or choose another folder."
        )
    before = {"hard": 0.0, **state["settings"]}  # older checkpoints do not name it
    changed = [name for name, value in _comparable(job).items() if before.get(name) != value]
    if changed:
        raise ArtifactError(
            f"The checkpoint {job.checkpoint} was made with another {changed[0]}: {before.get(changed[0])} "
            f"instead of {_comparable(job)[changed[0]]}. Use the same settings, or choose another folder."
        )
    return str(job.checkpoint)


def _comparable(job: Job) -> dict[str, Any]:
    """Return the settings that a resumed training must share with the one that it goes on from."""
    names = ("epochs", "batch", "lr", "controller_lr", "momentum", "weight_decay", "warmup", "hard", "seed")
    weights = job.objective.weights
    kept = weights.kept if isinstance(weights.kept, (int, float)) else dict(weights.kept)
    losses = {"mi": weights.mi, "kl": weights.kl, "sparse": weights.sparse, "kept": kept}
    return {**{name: getattr(job.settings, name) for name in names}, **losses, "images": len(job.train)}
