"""Lightning's trainer and what surrounds it: its import, logs, files, random numbers, warnings and Ctrl-C."""

from __future__ import annotations

import importlib.util
import logging
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from neurochains.decoupling.checkpoints import read_checkpoint, write_checkpoint
from neurochains.decoupling.training import Job, TrainSettings
from neurochains.errors import SettingsError
from neurochains.network.libraries import import_torchvision

__all__ = ["import_lightning", "interrupts", "make_trainer", "own_randomness", "quiet"]


def import_lightning() -> Any:
    """Return ``lightning.pytorch``.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if importlib.util.find_spec("torchvision") is not None:
                import_torchvision()  # lightning imports it, and a build that does not fit torch would end that
            import lightning.pytorch as pytorch
    except ImportError as error:
        raise SettingsError(
            "Training needs lightning, which is not installed. Install it with: pip install 'neurochains[decouple]'"
        ) from error
    return pytorch


def make_trainer(pytorch: Any, job: Job) -> Any:
    """Return the trainer that a job's settings ask for.

    Raises:
        SettingsError: there is no such accelerator, device or strategy here, or logs for TensorBoard are asked for
            and it is not installed.
    """
    settings = job.settings
    where = {name: getattr(settings, name) for name in ("accelerator", "devices", "strategy", "precision")}
    loggers = _loggers(job)
    try:
        return pytorch.Trainer(
            **where,
            max_epochs=settings.epochs,
            gradient_clip_val=settings.clip,
            logger=loggers,
            plugins=[_files()],
            default_root_dir=str(job.out or Path.cwd()),
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except Exception as error:  # Lightning's own kinds, which differ between its versions
        asked = ", ".join(f"{name}={value!r}" for name, value in where.items())
        raise SettingsError(f"Training cannot run here with {asked}: {str(error).rstrip('.')}.") from error


def _loggers(job: Job) -> Any:
    if "tensorboard" not in job.logs:
        return False
    from lightning.pytorch.loggers import TensorBoardLogger

    try:
        return TensorBoardLogger(str(job.out), name="", version="tensorboard")
    except ModuleNotFoundError as error:
        raise SettingsError(
            "Logs for TensorBoard need tensorboard, which is not installed. Install it with: pip install tensorboard"
        ) from error


def _files() -> Any:
    """Return what reads and writes checkpoints for Lightning."""
    from lightning.pytorch.plugins.io import CheckpointIO

    class Files(CheckpointIO):
        def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
            del storage_options
            write_checkpoint(path, checkpoint)

        def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: Any = None) -> dict[str, Any]:
            del map_location, weights_only
            return read_checkpoint(path)

        def remove_checkpoint(self, path: Any) -> None:
            Path(path).unlink(missing_ok=True)

    return Files()


@contextmanager
def own_randomness(settings: TrainSettings) -> Iterator[None]:
    """Inside, the global generators may be seeded; afterwards they are as they were."""
    devices = list(range(torch.cuda.device_count())) if settings.accelerator != "cpu" else []
    with torch.random.fork_rng(devices=devices):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, Lightning neither warns about loaders nor announces devices."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def interrupts() -> Iterator[None]:
    """Inside, Ctrl-C ends the training as it ends everything else: Lightning would exit, deaf to the next one."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
