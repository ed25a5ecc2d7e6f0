"""The chain: what an extraction gives, with everything that is known about it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurochains.chains import paths as routes
from neurochains.chains.onnx_file import check_onnx_extra, write_onnx
from neurochains.chains.parity import compare_outputs, in_batches
from neurochains.chains.record import (
    describe_origin,
    read_scores,
    read_task,
    scores_tensors,
    task_record,
    task_tensors,
)
from neurochains.chains.scores import Scores
from neurochains.chains.storage import read_result, write_result
from neurochains.data import Task
from neurochains.errors import ArtifactError
from neurochains.network.network import Network
from neurochains.network.zoo import load_model

__all__ = ["Chain", "load_chain"]

_ZOO = ("hf:", "shapes:", "timm:", "torchvision:")


@dataclass(frozen=True, eq=False, repr=False)
class Chain:
    """The smallest sub-network that was found to keep the outputs on the images of a task.

    Attributes:
        network: the traced original.
        task: the images that it was extracted on, and those that were held out.
        subnetwork: the scores and gates.
        settings: what was asked for; JSON values.
        metrics: what was measured; JSON values: ``filters``, ``of``, ``layers``, ``kl``, ..., with the same under
            ``held_out`` and those of other sub-networks under ``controls``.
        leave_one_out: by layer name ``(units,)``, the mean divergence without each kept filter; NaN for the others.
        history: one entry for each step: ``step``, ``divergence``, ``filters``, ``seconds``.
        provenance: versions, model, images, seed and time of the extraction.
    """

    network: Network
    task: Task
    subnetwork: Scores
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    leave_one_out: Mapping[str, Tensor] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.provenance:
            self.provenance.update(describe_origin(self.network, self.task, self.settings))

    @property
    def filters(self) -> dict[str, Tensor]:
        """The indices of the kept filters by layer name; layers without any are left out."""
        return self.subnetwork.filters

    @property
    def scores(self) -> dict[str, Tensor]:
        """The scores ``(units,)`` by layer name; 0 for removed units."""
        return dict(self.subnetwork.units)

    @property
    def gates(self) -> dict[str, float]:
        """The gates by block name: 1 for a block that is kept, 0 for one that is skipped."""
        return dict(self.subnetwork.gates)

    def compact(self) -> nn.Module:
        """Return the sub-network as a plain module of exact copies of the kept filters, on the network's device.

        Raises:
            ParityError: it does not compute what the scores say.
        """
        small = self.subnetwork.compact(self.network)
        self._check(small)
        return small

    def check_parity(self) -> float:
        """Return the largest difference of logits between scored and compact network, relative to their range.

        It is measured on the images of the task, and entered in `metrics` as ``parity``.

        Raises:
            ParityError: it is above 1e-4.
        """
        return self._check(self.subnetwork.compact(self.network))

    def to_onnx(self, path: str | os.PathLike[str]) -> float:
        """Write the compact sub-network as an ONNX file of any batch size; return its parity under onnxruntime.

        Raises:
            ModelError: the onnx extra is not installed, or an operation cannot be written as ONNX.
            ParityError: onnxruntime computes something else.
            ArtifactError: the file cannot be written.
        """
        check_onnx_extra()
        return write_onnx(self.compact(), self.task.images, self._outputs(), path)

    def paths(self, k: int = 3) -> dict[int, list[routes.Path]]:
        """Return the `k` best chains of each class, by output index; see `neurochains.chains.paths`."""
        return routes.paths(self.network, self.task, self.subnetwork, k)

    def report(self, path: str | os.PathLike[str], **options: Any) -> Path:
        """Write the report: one HTML file; returns where it is. See `neurochains.report.write_report`."""
        upstairs = import_module("neurochains.report")  # the one thing above that a chain knows by name
        return upstairs.write_report(self, path, **options)

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Return the folder that the chain was saved to: a JSON document and safetensors files.

        The model is not saved, only its name and the digest of its weights. Numbers that are not finite become None.

        Raises:
            ArtifactError: the folder exists and ``force`` is False, or is none of a chain; or it cannot be written.
        """
        tensors = {
            "chain": scores_tensors(self.subnetwork, self.leave_one_out),
            "task": task_tensors(self.task),
        }
        return write_result(folder, self._document(), tensors, force=force)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        model: nn.Module | str | None = None,
        device: str | torch.device | None = None,
    ) -> Chain:
        """Return a saved chain; see `load_chain`."""
        return load_chain(folder, model=model, device=device)

    def _outputs(self) -> Tensor:
        return in_batches(lambda images: self.subnetwork.run(self.network, images), self.task.images)

    def _check(self, small: nn.Module) -> float:
        device = self.network.device
        outputs = in_batches(lambda images: small(images.to(device)), self.task.images)
        self.metrics["parity"] = compare_outputs(outputs, self._outputs(), what="The compact sub-network")
        return self.metrics["parity"]

    def _document(self) -> dict[str, Any]:
        filters = {self.network.layer(name).label: kept.tolist() for name, kept in self.filters.items()}
        return {
            "provenance": self.provenance,
            "settings": self.settings,
            "metrics": self.metrics,
            "layers": {name: self.network.layer(name).label for name in self.subnetwork.units},
            "filters": filters,
            "skipped": list(self.subnetwork.skipped),
            "history": list(self.history),
            "task": task_record(self.task),
        }

    def __repr__(self) -> str:
        kept, total = self.subnetwork.kept, self.subnetwork.total
        text = f"{kept:,} of {total:,} filters in {len(self.filters)} of {len(self.subnetwork.units)} layers"
        shown = (("kl", "KL", ".3f"), ("agreement", "agreement", ".2f"))
        known = [(name, self.metrics.get(key), form) for key, name, form in shown]
        return ", ".join([text, *(f"{name} {value:{form}}" for name, value, form in known if value is not None)])


def load_chain(
    folder: str | os.PathLike[str],
    *,
    model: nn.Module | str | None = None,
    device: str | torch.device | None = None,
) -> Chain:
    """Return the chain that was saved in a folder.

    Args:
        folder: what `Chain.save` wrote.
        model: the model that the chain was extracted from, or its name. By default it is loaded by the name in the
            folder where that is one of the zoo's; the code of a file is never run unless it is named here.
        device: where the network shall run; by default where the model is.

    Raises:
        ArtifactError: no chain is there, or it is damaged; or the model is not known, or has other weights.
        ModelError: the model cannot be loaded.
    """
    document, tensors = read_result(folder)
    try:
        task = read_task(document["task"], tensors["task"])
        origin = document["provenance"]["model"]
        network = Network.trace(_model(origin, model, folder), task.images[:1], device=device)
        _check_digest(network, origin["digest"], folder)
        scores, left_out = read_scores(tensors["chain"], network)
        rest = {key: document[key] for key in ("settings", "metrics", "history", "provenance")}
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}/chain.json is damaged: {error} is missing. Extract the chain again.") from error
    return Chain(network, task, scores, leave_one_out=left_out, **rest)


def _model(origin: Mapping[str, Any], model: nn.Module | str | None, folder: str | os.PathLike[str]) -> nn.Module:
    if isinstance(model, nn.Module):
        return model
    name, weights = model or origin["name"], str(origin["weights"] or "")
    if model is None and not str(name).startswith(_ZOO):
        said = f"{name!r}, which is code of one's own" if name else "a model without a name"
        raise ArtifactError(f"The chain in {folder} is of {said}. Pass it: load_chain(folder, model=...).")
    if name != origin["name"] or not weights.startswith("file "):
        return load_model(str(name), pretrained=weights != "random")
    file = Path(weights.removeprefix("file "))
    if not file.is_file():
        raise ArtifactError(f"The weights of the chain in {folder} came from {file}, which is not there. Pass model=.")
    return load_model(str(name), weights=file)


def _check_digest(network: Network, digest: str, folder: str | os.PathLike[str]) -> None:
    if network.digest != digest:
        raise ArtifactError(
            f"The chain in {folder} was extracted from a model with other weights: their digest is {digest}, that of "
            f"the model at hand {network.digest}. Pass the model it was extracted from: load_chain(folder, model=...)."
        )
