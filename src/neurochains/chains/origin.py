"""The model that a saved result came from: found by what was written down about it, and told from another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from neurochains.errors import ArtifactError
from neurochains.network.network import Network
from neurochains.network.zoo import load_model

__all__ = ["check_digest", "find_model"]

_ZOO = ("hf:", "shapes:", "timm:", "torchvision:")


def find_model(
    origin: Mapping[str, Any],
    model: nn.Module | str | None,
    folder: str | os.PathLike[str],
    *,
    kind: str = "chain",
) -> nn.Module:
    """Return the model of a saved result.

    Args:
        origin: what `describe_origin` wrote under ``"model"``.
        model: the model itself or its name; where it is None, it is loaded by its name if that is one of the zoo's.
        folder: of the result, for messages.
        kind: of the result, for messages: ``load_KIND`` reads it.

    Raises:
        ArtifactError: the model is code of one's own, has no name, or its weights are not there.
        ModelError: it cannot be loaded.
    """
    if isinstance(model, nn.Module):
        return model
    name, weights = model or origin["name"], str(origin["weights"] or "")
    if model is None and not str(name).startswith(_ZOO):
        said = f"{name!r}, which is code of one's own" if name else "a model without a name"
        raise ArtifactError(f"The {kind} in {folder} is of {said}. Pass it: load_{kind}(folder, model=...) or --model.")
    if name != origin["name"] or not weights.startswith("file "):
        return load_model(str(name), pretrained=weights != "random")
    file = Path(weights.removeprefix("file "))
    if not file.is_file():
        raise ArtifactError(f"The weights of the {kind} in {folder} came from {file}, which is not there. Pass model=.")
    return load_model(str(name), weights=file)


def check_digest(network: Network, digest: str, folder: str | os.PathLike[str], *, kind: str = "chain") -> None:
    """Refuse a network with other weights than the result came from.

    Raises:
        ArtifactError: the digests differ.
    """
    if network.digest != digest:
        raise ArtifactError(
            f"The {kind} in {folder} was extracted from a model with other weights: their digest is {digest}, that of "
            f"the model at hand {network.digest}. Pass the model it was extracted from: load_{kind}(folder, model=...)."
        )
