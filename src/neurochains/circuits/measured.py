"""Importances measured when a query names them: of sets and single images, with the model at hand.

Nothing is measured before it is named, nothing twice, and what a bundle already holds is read from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from neurochains.circuits.bundle import Bundle
from neurochains.circuits.bundle_document import BundleLayer
from neurochains.circuits.bundle_graph import describe_layers
from neurochains.circuits.bundle_numbers import Spans
from neurochains.circuits.criteria import Reduce, find_criterion
from neurochains.circuits.prepare import open_network
from neurochains.circuits.probe import layers_to
from neurochains.circuits.set_names import OVERALL, SetNames
from neurochains.circuits.targets import Target
from neurochains.circuits.vectors import importance_vectors
from neurochains.data import Task
from neurochains.errors import ExpressionError, SettingsError
from neurochains.network import Filter, Network
from neurochains.preprocess import Preprocess

__all__ = ["Measured"]

Array = NDArray[Any]
_MOST_SHOWN = 8


class Measured:
    """Images whose importances are measured with a model, for `query` to name.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network. It is never changed.
        images: a task, whose labels make the sets, or a folder with a sub-folder for each set.
        target: what importance is measured for, as in `importance`; that of the bundle if there is one. The loss of
            images without a label is that of the network's own answer.
        criterion: a name of `CRITERIA`; that of the bundle if there is one.
        reduce: ``"abs"`` or ``"signed"``; that of the bundle if there is one.
        batch_size: images at a time.
        bundle: of this model; what it holds is not measured again.
        classes: which sub-folders, by name, synset or index; all if None.
        per_class: how many images of each; all if None.
        preprocess: how images are prepared; the model's way if None.
        seed: of the draw of images.
        device: where the network shall run.

    Raises:
        ArtifactError: the bundle is of another model.
        DataError: the images cannot be used.
        SettingsError: an option has a value it cannot have, or not that of the bundle.
    """

    def __init__(
        self,
        model: nn.Module | str | Network,
        images: Task | str | os.PathLike[str],
        *,
        target: str | None = None,
        criterion: str | None = None,
        reduce: Reduce | None = None,
        batch_size: int | None = None,
        bundle: Bundle | None = None,
        classes: Sequence[str | int] | None = None,
        per_class: int | None = None,
        preprocess: Preprocess | None = None,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        wished = {"target": target, "criterion": criterion, "reduce": reduce}
        self.settings: Mapping[str, Any] = _settings(wished, bundle)
        find_criterion(self.settings["criterion"], self.settings["reduce"])
        drawn = {"classes": classes, "per_class": per_class, "preprocess": preprocess, "seed": seed}
        self.network, self.sets = open_network(model, images, device=device, **drawn)
        self.bundle = bundle
        if bundle is not None:
            bundle.check_model(self.network)
        scored = layers_to(self.network, Target.parse(self.settings["target"], self.network))
        self.layers: tuple[BundleLayer, ...] = describe_layers(self.network, scored)
        self.spans = Spans([layer for layer in self.layers if layer.scored])
        self._batch_size = batch_size
        self._found: dict[tuple[int, int], tuple[Array, Array]] = {}

    @cached_property
    def names(self) -> SetNames:
        """What the sets and images are called."""
        return SetNames(self.sets)

    def values(self, name: str, *, kernels: bool = False) -> Array:
        """Return the importance of all filters ``(F,)`` or kernels ``(K,)`` for a set or an image, in one vector.

        Raises:
            ExpressionError: nothing is called that, or several images are.
        """
        if self.bundle is not None and (name == OVERALL or self.bundle.names.candidates(name)):
            return self.bundle.values(name, kernels=kernels)
        if name == OVERALL:
            return self._overall(kernels)
        if self.names.candidates(name):
            return self._of(self.names.find(name))[kernels]
        return self._of(*self._image(name))[kernels]

    def sources(self, layer: str) -> tuple[tuple[Filter, ...], ...]:
        """Return, for each input channel of a layer over all groups, the filters it comes from."""
        return self.network.sources(layer)

    def _overall(self, kernels: bool) -> Array:
        """Return the mean over all images, each counting the same."""
        counts = np.array([len(known.images) for known in self.sets], np.float64)
        shares = counts / counts.sum()
        return np.asarray(sum(share * self._of(index)[kernels] for index, share in enumerate(shares)))

    def _image(self, name: str) -> tuple[int, int]:
        found = self.names.images(name)
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(repr(self.sets[index].images[image]) for index, image in found[:_MOST_SHOWN])
            raise ExpressionError(f"{name!r} names {len(found)} images: {listed}. Name one in full, in quotes.")
        known = self.bundle.names if self.bundle is not None else self.names
        raise ExpressionError(f"No class, set or image is called {name!r}. {known.suggestion(name)}")

    def _of(self, index: int, image: int = -1) -> tuple[Array, Array]:
        """Return the vectors of filters and kernels of a set, or of one image of it."""
        key = index, image
        if key not in self._found:
            task = self.sets[index].load()
            part = task if image < 0 else task.subset([image])
            options = {**self.settings, "batch_size": self._batch_size}
            self._found[key] = importance_vectors(self.network, part, self.spans, **options)
        return self._found[key]


def _settings(wished: Mapping[str, str | None], bundle: Bundle | None) -> dict[str, Any]:
    """Return target, criterion and reduce: those of the bundle, which a wish must not contradict."""
    usual = {"target": "loss", "criterion": "activation_gradient", "reduce": "abs"}
    known = usual if bundle is None else {key: bundle.settings[key] for key in usual}
    for key, value in wished.items():
        if bundle is not None and value not in (None, known[key]):
            raise SettingsError(
                f"The bundle was prepared with the {key} {known[key]!r}, not {value!r}. Leave the option out, or query "
                "the model and the images without the bundle."
            )
    return {key: wished[key] or value for key, value in known.items()}
