"""Networks of timm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from torch import nn

from neurochains.errors import ModelError, ModelNameError
from neurochains.network.info import ModelInfo
from neurochains.network.libraries import import_library
from neurochains.network.sources.request import Built, Request, check_known, fetching, seeded
from neurochains.preprocess import Preprocess

__all__ = ["from_timm", "timm_preprocess"]


def from_timm(request: Request) -> Built:
    """Return a network of timm; the spec is ``NAME``, ``NAME.TAG`` or ``hf-hub:REPOSITORY``.

    Raises:
        ModelNameError: no such architecture or tag; lists the nearest.
        ModelError: timm is not installed, or the weights could not be downloaded.
    """
    timm = import_library("timm")
    hub = request.spec.startswith("hf-hub:")
    if not hub:
        _check_timm_name(timm, request.spec)
    elif not request.online:
        raise ModelError(f"{request.name} is described on the hub only, so it cannot be had with pretrained=False.")
    options = {} if request.outputs is None else {"num_classes": request.outputs}
    with seeded(), fetching(request.name) if request.online else nullcontext():
        module = timm.create_model(request.spec, pretrained=request.pretrained, **options)
    return module, _timm_info(request, module)


def _check_timm_name(timm: Any, spec: str) -> None:
    name, _, tag = spec.partition(".")
    check_known(name, timm.list_models(), "timm:")
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    if tag and tag not in tags:
        raise ModelNameError(f"timm has no weights {tag} for {name}; it has {', '.join(tags) or 'none'}.")


def _timm_info(request: Request, module: nn.Module) -> ModelInfo:
    data = import_library("timm").data
    preprocess = timm_preprocess(data.resolve_model_data_config(module))
    tag = getattr(module, "pretrained_cfg", {}).get("tag", "")
    words = f"timm {request.spec.partition('.')[0]}{'.' if tag else ''}{tag}" if request.pretrained else "random"
    info = ModelInfo(request.name, preprocess, weights=words)
    subset = data.infer_imagenet_subset(module)
    if subset is None or request.outputs is not None:
        return info
    imagenet = data.ImageNetInfo(subset)
    names, synsets = tuple(imagenet.label_descriptions()), tuple(imagenet.label_names())
    return ModelInfo(info.name, preprocess, names, synsets, words)


def timm_preprocess(config: Mapping[str, Any]) -> Preprocess | None:
    """Return timm's evaluation transform; None where it does something `Preprocess` cannot."""
    _, height, width = config["input_size"]
    scaled = (math.floor(height / config["crop_pct"]), math.floor(width / config["crop_pct"]))
    if config["crop_mode"] == "squash":
        resize: int | tuple[int, int] = scaled
    elif config["crop_mode"] == "center" and height == width:
        resize = scaled[0]
    else:
        return None
    return Preprocess((height, width), tuple(config["mean"]), tuple(config["std"]), resize, config["interpolation"])
