"""Importance: how much each filter and each kernel matters for a target on some images.

1. The target is parsed; the layers that lead to it are opened (`probe`): what they read, compute and show.
2. Batch by batch, the target of each image is computed and its gradient, of the *sum* over images, so that the numbers
   do not depend on the batch size.
3. The criterion turns maps, gradients and weights into one number for each filter and kernel (`criteria`, `kernels`).
4. What does not lead to the target, the other filters of its own layer, is 0; layers that do not are left out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from neurochains.chains import describe_origin, full_precision, read_result, write_result
from neurochains.circuits.criteria import Criterion, Question, Reduce, find_criterion
from neurochains.circuits.probe import Probe, layers_to
from neurochains.circuits.targets import Target
from neurochains.data import Task
from neurochains.errors import ArtifactError, DataError, SettingsError
from neurochains.network import Layer, Network, load_model

__all__ = ["Importance", "importance", "load_importance"]

Normalisation = Literal["layer-minmax", "layer-sum", "none"]

_KIND = "importance"


@dataclass(frozen=True, eq=False, repr=False)
class Importance:
    """The importance of filters and kernels for a target.

    Attributes:
        filters: by dotted layer name, in order of execution, ``(O,)``.
        kernels: by dotted layer name, ``(O, I)``, I per group, as in `Network.kernels`; one for each weight of a linear
            layer.
        target: as text.
        criterion: its name in `CRITERIA`.
        reduce: ``"abs"`` or ``"signed"``.
        images: their names.
        provenance: versions, model, image digests and time.

    Both are in the network's precision, on the CPU. Layers that do not lead to the target are absent; in the target's
    own layer all filters but the target's are 0.
    """

    filters: Mapping[str, Tensor]
    kernels: Mapping[str, Tensor]
    target: str
    criterion: str = "activation_gradient"
    reduce: Reduce = "abs"
    images: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def normalised(self, how: Normalisation) -> Importance:
        """Return the importance with the values of each layer, filters and kernels by themselves, brought to one scale.

        ``"layer-minmax"`` brings them to [0, 1] (equal values become 0), ``"layer-sum"`` divides by the sum of their
        absolute values (a layer of zeros stays), ``"none"`` leaves them.

        Raises:
            SettingsError: there is no such normalisation.
        """
        if how not in _NORMALISATIONS:
            raise SettingsError(f"Wanted one of {', '.join(_NORMALISATIONS)}; got {how!r}.")
        scale = _NORMALISATIONS[how]
        parts = ({name: scale(values) for name, values in part.items()} for part in (self.filters, self.kernels))
        filters, kernels = parts
        return replace(self, filters=filters, kernels=kernels)

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Return the folder that the importance was saved to: a JSON document and a safetensors file.

        Raises:
            ArtifactError: the folder exists and ``force`` is False, or holds something else; or it cannot be written.
        """
        document = {
            "target": self.target,
            "criterion": self.criterion,
            "reduce": self.reduce,
            "images": list(self.images),
            "provenance": dict(self.provenance),
            "layers": list(self.filters),
        }
        tensors = {f"filter/{name}": values for name, values in self.filters.items()}
        tensors |= {f"kernel/{name}": values for name, values in self.kernels.items()}
        return write_result(folder, document, {_KIND: tensors}, kind=_KIND, force=force)

    def __repr__(self) -> str:
        filters, kernels = (sum(v.numel() for v in part.values()) for part in (self.filters, self.kernels))
        what = f"{self.criterion}, {self.reduce}" if self.reduce != "abs" else self.criterion
        return f"Importance({filters:,} filters and {kernels:,} kernels for {self.target!r}: {what})"


def importance(
    model: nn.Module | str | Network,
    task: Task | Tensor,
    *,
    target: str | Target,
    criterion: str | Criterion = "activation_gradient",
    reduce: Reduce = "abs",
    batch_size: int | None = None,
    layers: Sequence[str] | None = None,
) -> Importance:
    """Return how much each filter and each kernel that leads to a target matters for it on a task's images.

    Args:
        model: a module in eval mode, a name of the zoo, or a traced network. It is never changed.
        task: the images; a tensor ``(N, C, H, W)`` counts as a task without labels.
        target: ``"loss"``, ``"logit:3"``, ``"features.10[9]"``, ``"L4B1C2_48@max"``, ...; see `Target`.
        criterion: a name of `CRITERIA`, or one with options: ``CRITERIA["force"].having(keep=0.05)``.
        reduce: ``"abs"``: the absolute value inside all sums (Eq. 4 of the VISCNN paper); ``"signed"``: none at all.
        batch_size: images at a time, which changes speed and memory but no result; what 256 MB of maps allow if None.
        layers: names of the layers to measure; if None, all with filters (a plain MLP: hidden layers) that lead to it.

    Raises:
        SettingsError: an option has a value it cannot have, or the target has no such form.
        LayerError: a layer or filter means nothing, or does not lead to the target.
        DataError: the images do not fit the model, or their values or labels cannot be used.
        ModelError: the model cannot be traced.
    """
    task = Task.of(task)
    found = find_criterion(criterion, reduce)
    network = _network(model, task)
    asked = Target.parse(target, network)
    if asked.text == "loss":
        task.check_outputs(network.outputs)
    opened = layers_to(network, asked, layers)
    with torch.enable_grad(), full_precision():
        values = found.measure(Question(Probe(network, asked, opened), task, reduce, batch_size))
    filters = {layer.name: _finished(values.filters[layer.name], layer, asked, network) for layer in opened}
    kernels = {layer.name: _finished(values.kernels[layer.name], layer, asked, network) for layer in opened}
    origin = describe_origin(network, task, {})
    return Importance(filters, kernels, asked.text, found.name, reduce, task.names, origin)


def load_importance(folder: str | os.PathLike[str]) -> Importance:
    """Return the importance that `Importance.save` wrote.

    Raises:
        ArtifactError: none is there, or it is damaged.
    """
    document, tensors = read_result(folder, kind=_KIND)
    try:
        layers, values = document["layers"], tensors[_KIND]
        filters = {name: values[f"filter/{name}"] for name in layers}
        kernels = {name: values[f"kernel/{name}"] for name in layers}
        words = {name: document[name] for name in ("target", "criterion", "reduce", "provenance")}
        return Importance(filters, kernels, images=tuple(document["images"]), **words)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}/{_KIND}.json is damaged: {error} is missing. Compute it again.") from error


def _network(model: nn.Module | str | Network, task: Task) -> Network:
    if isinstance(model, Network):
        return model
    return Network.trace(load_model(model) if isinstance(model, str) else model, task.images[:1])


def _finished(values: Tensor, layer: Layer, target: Target, network: Network) -> Tensor:
    """Return values in the network's precision, 0 for what does not lead to the target.

    Raises:
        DataError: they are not finite.
    """
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"The importance for {target.text!r} is not finite in {layer.name}: maps or weights overflow.")
    alive = target.reads(layer)
    if alive is not None:
        values = values * alive.view(-1, *[1] * (values.ndim - 1))
    return values.to(network.dtype)


def _spread(values: Tensor) -> Tensor:
    lowest, highest = values.min(), values.max()
    return (values - lowest) / (highest - lowest) if highest > lowest else torch.zeros_like(values)


def _share(values: Tensor) -> Tensor:
    total = values.abs().sum()
    return values / total if total > 0 else values


_NORMALISATIONS = {"layer-minmax": _spread, "layer-sum": _share, "none": lambda values: values}
