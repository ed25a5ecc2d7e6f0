"""Models by name: from torchvision, timm, transformers, the package itself, or a file of one's own.

- ``torchvision:NAME[@WEIGHTS]``, such as ``torchvision:resnet50`` or ``torchvision:resnet50@IMAGENET1K_V1``
- ``timm:NAME[.TAG]``, such as ``timm:resnet50.a1_in1k``
- ``hf:REPOSITORY``, an image classifier of transformers on the hub, or a local folder with one
- ``shapes:NAME``, the bundled networks: ``shapes:vgg``, ``shapes:vgg-sparse``, ``shapes:resnet``, ``shapes:vit``
- ``path/to/file.py:FUNCTION``, what a function without arguments returns; the file is executed
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from neurochains.errors import ModelError, ModelNameError, did_you_mean
from neurochains.network import bundled, sources
from neurochains.network.checkpoints import check_finite, fit_names, load_weights, misshaped, read_weights
from neurochains.network.info import ModelInfo, attach_info, model_info
from neurochains.network.libraries import import_torchvision
from neurochains.network.prepare import prepare
from neurochains.network.sources import Built, Request, Source

__all__ = ["SOURCES", "ModelInfo", "load_model", "model_info", "prepare"]

SOURCES: dict[str, Source] = {
    "hf": sources.from_hub,
    "shapes": sources.from_package,
    "timm": sources.from_timm,
    "torchvision": sources.from_torchvision,
}
_RESIZABLE = ("hf", "timm", "torchvision")  # build a head of any number of outputs


def load_model(
    name: str, *, weights: str | Path | None = None, trust_pickle: bool = False, pretrained: bool = True
) -> nn.Module:
    """Return the model called ``name``, in eval mode, in float32 and without gradients; `model_info` describes it.

    Weights of a model that was fine-tuned on other classes fit as well: the head is built as large as they are.

    Args:
        name: see the top of this module.
        weights: a file to take the weights from: safetensors, or a PyTorch checkpoint that holds tensors only.
        trust_pickle: unpickle arbitrary objects from that checkpoint, which runs code that the file contains.
        pretrained: take the library's weights, which may be downloaded. If False, they are random, the same every
            time, and the network is not used. What a file's own function builds is taken as it is.

    Raises:
        ModelNameError: the name means nothing; lists the nearest.
        WeightsError: the weights do not fit (lists which), are not finite, or are not safe to read.
        ModelError: a library is missing, a download fails, the user's code fails, or the model is quantised.
    """
    source, request = _resolved(name, pretrained=pretrained and weights is None, online=pretrained)
    if weights is None:
        module, info = source(request)
    else:
        module, info = _with_weights(source, request, read_weights(weights, trust_pickle=trust_pickle), str(weights))
    module = prepare(module).eval().requires_grad_(False)
    check_finite(module, name=name)
    return attach_info(module, info)


def _resolved(name: str, *, pretrained: bool, online: bool) -> tuple[Source, Request]:
    """Return the source that a name belongs to, and what to ask it for."""
    kind, colon, spec = name.partition(":")
    if colon and kind in SOURCES:
        return SOURCES[kind], Request(name, spec, pretrained, online)
    if sources.is_file_name(name):
        return sources.from_file, Request(name, name, pretrained, online)
    hint = did_you_mean(name, _known_names())
    raise ModelNameError(
        f"No model is called {name!r}.{' ' if hint else ''}{hint} A name is torchvision:NAME, timm:NAME, "
        "hf:REPOSITORY, shapes:NAME or path/to/file.py:function."
    )


def _known_names() -> list[str]:
    """Return names to suggest: the bundled networks, and torchvision's where it is installed."""
    names = [f"shapes:{name}" for name in bundled.names()]
    try:
        models = import_torchvision().models
    except ModelError:
        return names
    return names + [f"torchvision:{name}" for name in models.list_models(module=models)]


def _with_weights(source: Source, request: Request, stored: Mapping[str, Tensor], file: str) -> Built:
    module, info = source(request)
    state = fit_names(stored, module.state_dict())
    outputs = _other_head(module, state)
    if outputs is not None and request.name.partition(":")[0] in _RESIZABLE:
        module, info = source(replace(request, outputs=outputs))
    load_weights(module, state, source=file, name=request.name)
    return module, replace(info, weights=f"file {file}")


def _other_head(module: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Return the number of outputs in the weights if that is all in which they differ from the module."""
    pairs = misshaped(module, state).values()
    if not pairs or any(wanted[1:] != got[1:] for wanted, got in pairs):
        return None
    sizes = {(wanted[0], got[0]) for wanted, got in pairs}
    return next(iter(sizes))[1] if len(sizes) == 1 else None
