"""Classification networks of torchvision."""

from __future__ import annotations

import warnings
from typing import Any

from neurochains.errors import ModelNameError
from neurochains.network.info import ModelInfo
from neurochains.network.libraries import import_torchvision
from neurochains.network.sources.request import Built, Request, check_known, fetching, seeded, with_classes
from neurochains.preprocess import Preprocess

__all__ = ["from_torchvision"]


def from_torchvision(request: Request) -> Built:
    """Return a classification network of torchvision; the spec is ``NAME`` or ``NAME@WEIGHTS``.

    Raises:
        ModelNameError: no such architecture or weights; lists the nearest.
        ModelError: torchvision is not installed, or the weights could not be downloaded.
    """
    models = import_torchvision().models
    name, _, tag = request.spec.partition("@")
    check_known(name, models.list_models(module=models), "torchvision:")
    weights = _torchvision_weights(models.get_model_weights(name), name, tag)
    if request.pretrained:
        with fetching(request.name):
            module = models.get_model(name, weights=weights)
        return module, _torchvision_info(request, weights, f"torchvision {weights}")
    options = {} if request.outputs is None else {"num_classes": request.outputs}
    with seeded(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # inception_v3 and googlenet announce another initialisation
        module = models.get_model(name, weights=None, **options)
    return module, _torchvision_info(request, weights, "random")


def _torchvision_weights(choices: Any, name: str, tag: str) -> Any:
    known = {weights.name: weights for weights in choices}
    if not tag or tag == "DEFAULT":
        return choices.DEFAULT
    if tag not in known:
        raise ModelNameError(f"torchvision has no weights {tag} for {name}; it has {', '.join(known)}.")
    return known[tag]


def _torchvision_info(request: Request, weights: Any, words: str) -> ModelInfo:
    transform = weights.transforms()
    preprocess = Preprocess(
        size=(transform.crop_size[0], transform.crop_size[0]),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        resize=transform.resize_size[0],
        interpolation=transform.interpolation.value,
    )
    return with_classes(ModelInfo(request.name, preprocess, weights=words), request, weights.meta["categories"])
