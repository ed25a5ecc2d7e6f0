"""Image classifiers of transformers, from the Hugging Face hub or a local folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from neurochains.errors import ModelError, ModelNameError, WeightsError
from neurochains.network.info import ModelInfo
from neurochains.network.libraries import import_library
from neurochains.network.sources.request import Built, Request, fetching, seeded, with_classes
from neurochains.preprocess import Preprocess

__all__ = ["from_hub", "hub_preprocess"]


def from_hub(request: Request) -> Built:
    """Return an image classifier of transformers; the spec is a repository on the hub or a local folder.

    Raises:
        ModelNameError: no such repository.
        WeightsError: the repository has no trained classifier, only a backbone.
        ModelError: transformers is not installed, or the files could not be downloaded.
    """
    transformers = import_library("transformers")
    local = not request.online or Path(request.spec).is_dir()
    with fetching(request.name):
        config = _hub_config(transformers, request, local)
        if request.pretrained:
            module = _hub_model(transformers, request, local)
        else:
            module = _random_model(transformers, request, config)
    return module, _hub_info(transformers, request, config, local)


def _hub_config(transformers: Any, request: Request, local: bool) -> Any:
    try:
        return transformers.AutoConfig.from_pretrained(request.spec, local_files_only=local)
    except (OSError, ValueError) as error:
        if "not a valid model identifier" in str(error):
            raise ModelNameError(
                f"{request.spec} is neither a folder here nor a repository on the hub. "
                "Check the spelling: hf:OWNER/NAME or hf:path/to/folder."
            ) from error
        if request.online:
            raise
        raise ModelError(
            f"The architecture of {request.name} is known to the hub only, and pretrained=False uses no network. "
            "Give a folder with a config.json."
        ) from error


def _random_model(transformers: Any, request: Request, config: Any) -> nn.Module:
    config.num_labels = request.outputs or config.num_labels
    try:
        with seeded():
            return transformers.AutoModelForImageClassification.from_config(config)
    except ValueError as error:
        raise ModelError(f"{request.name} is a {config.model_type} model, not an image classifier.") from error


def _hub_model(transformers: Any, request: Request, local: bool) -> nn.Module:
    auto = transformers.AutoModelForImageClassification
    module, report = auto.from_pretrained(request.spec, local_files_only=local, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(
            f"{request.name} has no weights for {', '.join(missing[:8])}, so it is not a trained classifier. "
            "Name a repository that was trained for classification."
        )
    return module


def _hub_info(transformers: Any, request: Request, config: Any, local: bool) -> ModelInfo:
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(request.spec, local_files_only=local)
        preprocess = hub_preprocess(processor.to_dict())
    except (OSError, ValueError):  # a model without pre-processing
        preprocess = None
    words = f"transformers {request.spec}" if request.pretrained else "random"
    names = [config.id2label[index] for index in sorted(config.id2label)]
    if all(name == f"LABEL_{index}" for index, name in enumerate(names)):
        return ModelInfo(request.name, preprocess, weights=words)
    return with_classes(ModelInfo(request.name, preprocess, weights=words), request, names)


def hub_preprocess(settings: Mapping[str, Any]) -> Preprocess | None:
    """Return what an image processor of transformers does; None where it does something `Preprocess` cannot.

    A processor that resizes the shorter side and does not crop is given the centre crop that batches need.
    """
    resampling = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}.get(settings.get("resample") or 0)
    geometry = _hub_geometry(settings)
    if geometry is None or resampling is None or settings.get("do_flip_channel_order"):
        return None
    mean, std = _hub_statistics(settings)
    return Preprocess(geometry[0], mean, std, geometry[1], resampling)


def _hub_geometry(settings: Mapping[str, Any]) -> tuple[tuple[int, int], int | tuple[int, int]] | None:
    """Return (size, resize)."""
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    if not settings.get("do_resize", True):
        return None
    cropped = (crop["height"], crop["width"]) if settings.get("do_center_crop") and "height" in crop else None
    if "height" in size:
        squashed = (size["height"], size["width"])
        return cropped or squashed, squashed
    if "shortest_edge" not in size:
        return None
    short = size["shortest_edge"]
    fraction = settings.get("crop_pct")  # ConvNeXt: enlarge and crop below 384 pixels, squash above
    if fraction is None:
        return cropped or (short, short), short
    return (short, short), int(short / fraction) if short < 384 else (short, short)


def _hub_statistics(settings: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the (mean, std) that do to pixels in [0, 1] what the processor's rescaling and normalising does."""
    factor = settings.get("rescale_factor", 1 / 255) * 255 if settings.get("do_rescale", True) else 255.0
    offset = 1.0 if settings.get("rescale_offset") else 0.0
    normalised = settings.get("do_normalize", True) and settings.get("image_mean") is not None
    mean = settings["image_mean"] if normalised else [0.0] * 3
    std = settings["image_std"] if normalised else [1.0] * 3
    return tuple((value + offset) / factor for value in mean), tuple(value / factor for value in std)
