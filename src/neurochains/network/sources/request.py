"""What every source shares: the request it answers, reproducible random weights, and messages about names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from neurochains.errors import ModelError, ModelNameError, NeuroChainsError, did_you_mean
from neurochains.network.info import ModelInfo
from neurochains.network.libraries import import_library

__all__ = ["Built", "Request", "Source", "check_known", "fetching", "seeded", "with_classes"]

Built = tuple[nn.Module, ModelInfo]


@dataclass(frozen=True, slots=True)
class Request:
    """What a source shall build.

    Attributes:
        name: the whole name, such as ``"torchvision:resnet50"``.
        spec: what follows the prefix, such as ``"resnet50@IMAGENET1K_V2"``.
        pretrained: with the library's weights, which may be downloaded; otherwise with random ones.
        online: the network may be used, also for what is not weights.
        outputs: the number of outputs; None for what the architecture has by default.
    """

    name: str
    spec: str
    pretrained: bool = True
    online: bool = True
    outputs: int | None = None


Source = Callable[[Request], Built]


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Random numbers on the CPU start from ``seed`` inside, and go on outside as if nothing had happened."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Turn what goes wrong while pretrained weights are fetched into a ModelError with the remedy."""
    try:
        yield
    except NeuroChainsError:
        raise
    except Exception as error:  # each library, and each way to be offline, has its own
        first = next(iter(str(error).splitlines()), "")
        raise ModelError(
            f"The weights of {name} could not be downloaded or read ({type(error).__name__}: {first}). "
            "Give them as a file (weights=..., --weights FILE), or take random ones (pretrained=False)."
        ) from error


def check_known(name: str, known: Iterable[str], prefix: str) -> None:
    """Do nothing if the library knows the name.

    Raises:
        ModelNameError: it does not; lists the nearest names, or a few where none is near.
    """
    known = list(known)
    if name not in known:
        hint = did_you_mean(name, known) or f"It knows {len(known)}, among them {', '.join(known[:5])}."
        raise ModelNameError(f"No model is called {prefix}{name}. {hint}")


def with_classes(info: ModelInfo, request: Request, names: Iterable[str]) -> ModelInfo:
    """Return the info with class names, and synsets where they are ImageNet's; without where the head is another."""
    names = tuple(names)
    if request.outputs is not None and request.outputs != len(names):
        return info
    return replace(info, class_names=names, synsets=_imagenet_synsets(names))


def _imagenet_synsets(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the synsets of the 1,000 ImageNet classes if these are their names; timm has the list."""
    if len(names) != 1000 or not names[0].startswith("tench"):
        return None
    try:
        return tuple(import_library("timm").data.ImageNetInfo("imagenet-1k").label_names())
    except ModelError:
        return None
