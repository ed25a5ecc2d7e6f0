"""The model that the options name, and how its images are prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from neurochains.cli.values import parse_shape
from neurochains.errors import SettingsError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neurochains.chains import Chain
    from neurochains.preprocess import Preprocess

__all__ = ["ModelChoice", "check_device", "load_run"]

_CHANNELS = 3
_BATCH = 2


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What the command line says about the model; None and False where it says nothing."""

    name: str
    weights: Path | None = None
    trust_pickle: bool = False
    random: bool = False
    input_size: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None

    def load(self) -> nn.Module:
        """Return the model.

        Raises:
            SettingsError: weights are given and random ones asked for.
            ModelError: it cannot be loaded.
        """
        from neurochains.network import load_model

        if self.random and self.weights is not None:
            raise SettingsError("--weights and --random-weights cannot be had at once. Give one of them.")
        return load_model(self.name, weights=self.weights, trust_pickle=self.trust_pickle, pretrained=not self.random)

    def preprocess(self, model: nn.Module) -> Preprocess:
        """Return how images are prepared: as the model says, but for what the command line says.

        Raises:
            SettingsError: neither says it all.
        """
        from neurochains.preprocess import Preprocess

        known = _known(model)
        shape = None if self.input_size is None else parse_shape(self.input_size)[1:]
        mean, std = tuple(self.mean or ()), tuple(self.std or ())
        if known is not None:
            changed = known if shape is None else _resized(known, shape)
            return replace(changed, mean=mean or known.mean, std=std or known.std)
        if shape is None or not mean or not std:
            raise SettingsError(
                f"{self.name} does not say how its images are prepared. Give --input-size, --mean and --std as in its "
                "training, such as: --input-size 224 --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225."
            )
        return Preprocess(shape, mean, std)

    def example(self, model: nn.Module) -> Tensor:
        """Return a batch of random numbers of the shape of the model's input.

        Raises:
            SettingsError: the shape is not known.
        """
        import torch

        shape = (_BATCH, *self._shape(model))
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def _shape(self, model: nn.Module) -> tuple[int, int, int]:
        known = _known(model)
        channels = _CHANNELS if known is None else known.channels
        if self.input_size is not None:
            given, height, width = parse_shape(self.input_size)
            return channels if given is None else given, height, width
        if known is None:
            raise SettingsError(
                f"{self.name} does not say how large its input is. Give it: --input-size 224 or 1x28x28."
            )
        return channels, *known.size


def check_device(device: str | None) -> None:
    """Check that a device is there.

    Raises:
        SettingsError: it is not.
    """
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise SettingsError(
            f"There is no device {device!r} here ({reason}). Give --device cpu, or leave the option out."
        ) from error


def load_run(run: Path, *, model: str | None, weights: Path | None, trust_pickle: bool) -> Chain:
    """Return a saved chain, with the model that the options name if they name one.

    Raises:
        SettingsError: weights are given without a model.
        ArtifactError: there is no chain, or it is another model's.
        ModelError: the model cannot be loaded.
    """
    from neurochains.chains import load_chain

    if model is None and (weights is not None or trust_pickle):
        raise SettingsError("--weights and --trust-pickle say nothing without --model. Name the model as well.")
    chosen = None if model is None else ModelChoice(model, weights, trust_pickle).load()
    return load_chain(run, model=chosen)


def _known(model: nn.Module) -> Preprocess | None:
    from neurochains.network import model_info

    info = model_info(model)
    return None if info is None else info.preprocess


def _resized(known: Preprocess, size: tuple[int, int]) -> Preprocess:
    """Return the pre-processing for another input size: the same share of the picture, cropped or squashed."""
    if isinstance(known.resize, tuple):
        return replace(known, size=size, resize=size)
    scale = max(size) / max(known.size)
    return replace(known, size=size, resize=None if known.resize is None else round(known.resize * scale))
