"""What is known about a model from the zoo besides its weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from neurochains.preprocess import Preprocess

__all__ = ["ModelInfo", "attach_info", "model_info"]

_ATTRIBUTE = "neurochains_info"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Where a model comes from, what its input looks like and what its outputs mean.

    Attributes:
        name: as given to `load_model`.
        preprocess: how images become its input; None where that is not known.
        class_names: one for each output; None where they are not known.
        synsets: the WordNet id of each output, such as ``"n02110341"``; None where they are not known.
        weights: in words, where the weights come from; ``"random"`` if they are.
    """

    name: str
    preprocess: Preprocess | None = None
    class_names: tuple[str, ...] | None = None
    synsets: tuple[str, ...] | None = None
    weights: str = "random"


def model_info(module: nn.Module) -> ModelInfo | None:
    """Return what the zoo knows about a model; None for a model that is not from the zoo."""
    info = getattr(module, _ATTRIBUTE, None)
    return info if isinstance(info, ModelInfo) else None


def attach_info(module: nn.Module, info: ModelInfo) -> nn.Module:
    """Return the module, which from now on carries ``info`` for `model_info` to read."""
    setattr(module, _ATTRIBUTE, info)
    return module
