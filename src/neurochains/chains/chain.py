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
from neurochains.chains.origin import check_digest, find_model
from neurochains.chains.parity import compare_outputs, in_batches
from neurochains.chains.patch_network import PatchedNetwork
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
from neurochains.errors import ArtifactError, ModelError
from neurochains.network.network import Network

__all__ = ["Chain", "load_chain"]


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
        patches: ``(N, blocks, tokens)`` bool, which tokens of a vision transformer each image keeps; the special ones
            come first and are always kept. None where patches were not searched.
    """

    network: Network
    task: Task
    subnetwork: Scores
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    leave_one_out: Mapping[str, Tensor] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    patches: Tensor | None = None

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

        With `patches` it is a `PatchedNetwork`, which takes the images of the task, all and in order, and drops their
        tokens.

        Raises:
            ParityError: it does not compute what the scores say.
        """
        small = self.subnetwork.compact(self.network)
        self._check(small)
        if self.patches is None:
            return small
        patched = self._patched(small, self.patches)
        self._check_patches(patched)
        return patched

    def check_parity(self) -> float:
        """Return the largest difference of logits between scored and compact network, relative to their range.

        It is measured on the images of the task, and entered in `metrics` as ``parity``.

        Raises:
            ParityError: it is above 1e-4.
        """
        small = self.subnetwork.compact(self.network)
        parity = self._check(small)
        if self.patches is not None:
            parity = max(parity, self._check_patches(self._patched(small, self.patches)))
        return parity

    def to_onnx(self, path: str | os.PathLike[str]) -> float:
        """Write the compact sub-network as an ONNX file of any batch size; return its parity under onnxruntime.

        Raises:
            ModelError: the onnx extra is not installed, an operation cannot be written as ONNX, or patches are dropped,
                other ones for each image.
            ParityError: onnxruntime computes something else.
            ArtifactError: the file cannot be written.
        """
        check_onnx_extra()
        if self.patches is not None:
            raise ModelError("An ONNX file is for any images, but patches are kept for each image of the task alone.")
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
        if self.patches is not None:
            tensors["patches"] = {"kept": self.patches}
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

    def _patched(self, small: nn.Module, patches: Tensor) -> PatchedNetwork:
        reduced = Network.trace(small, self.task.images[:2]) if self.subnetwork.units else self.network
        return PatchedNetwork(reduced, patches)

    def _check_patches(self, patched: PatchedNetwork) -> float:
        """Compare tokens that are really dropped with weights of 0, on the images of the task."""
        images = self.network.check(self.task.images)
        with torch.no_grad():
            dropped, weighed = patched(images).cpu(), patched.weighed(images).cpu()
        parity = compare_outputs(dropped, weighed, what="The network without the dropped patches")
        self.metrics["parity"] = max(self.metrics.get("parity") or 0.0, parity)
        return parity

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
        noun = "units" if any(layer.name in self.subnetwork.units for layer in self.network.heads) else "filters"
        text = f"{kept:,} of {total:,} {noun} in {len(self.filters)} of {len(self.subnetwork.units)} layers"
        if self.patches is not None:
            tokens = f"{int(self.patches.sum()):,} of {self.patches.numel():,} tokens of {len(self.patches)} images"
            text = f"{text}, {tokens}" if total else tokens
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
        network = Network.trace(find_model(origin, model, folder), task.images[:1], device=device)
        check_digest(network, origin["digest"], folder)
        scores, left_out = read_scores(tensors["chain"], network)
        rest = {key: document[key] for key in ("settings", "metrics", "history", "provenance")}
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}/chain.json is damaged: {error} is missing. Extract the chain again.") from error
    patches = tensors.get("patches", {}).get("kept")
    return Chain(network, task, scores, leave_one_out=left_out, patches=patches, **rest)
