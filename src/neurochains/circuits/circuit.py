"""The circuit: the filters and kernels that give a target its map, as a sub-network that runs.

Shapes: B images, O filters and I inputs per group of a layer, h x w positions of the target's map.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neurochains.chains import (
    check_digest,
    describe_origin,
    find_model,
    read_result,
    read_task,
    task_record,
    task_tensors,
    write_result,
)
from neurochains.circuits.problem import Agreement, Kept, Problem, agreement
from neurochains.data import Task
from neurochains.edit import KernelNetwork, Readout, compact, cut, scale_kernels
from neurochains.errors import ArtifactError
from neurochains.network import Filter, Network
from neurochains.network.parity import measure_parity

__all__ = ["Circuit", "KeptKernel", "load_circuit"]

_KIND = "circuit"


@dataclass(frozen=True, slots=True)
class KeptKernel:
    """A kernel of a circuit, as an edge.

    Attributes:
        sources: the kept filters that reach its channel, several behind a residual add; ``Filter("input", c)`` is a
            channel of the image.
        filter: whose kernel it is.
        column: its place among the filter's kernels, 0 to I - 1.
        score: what it is multiplied by.
    """

    sources: tuple[Filter, ...]
    filter: Filter
    column: int
    score: float


@dataclass(frozen=True, eq=False, repr=False)
class Circuit:
    """Kernels, and the filters between them, that give a target's map.

    Attributes:
        network: the traced original.
        task: the images that it was found on, and those that were held out.
        target: as text.
        readout: what the target reads.
        scores: by dotted layer name, in order of execution, ``(O, I)``: what each kernel is multiplied by; 0 for
            removed ones. All are 0 or 1 unless the budget method tuned them. Layers without a kept kernel are absent.
        settings: what was asked for; JSON values.
        metrics: what was measured; JSON values: ``kernels``, ``of``, ``keep``, ``filters``, ``layers``, ``pearson``,
            ``spearman``, ``error``, with the last three under ``held_out`` too.
        provenance: versions, model, images, seed and time.
    """

    network: Network
    task: Task
    target: str
    readout: Readout
    scores: Mapping[str, Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.provenance:
            self.provenance.update(describe_origin(self.network, self.task, self.settings))

    @property
    def kernels(self) -> dict[str, Tensor]:
        """Which kernels are kept: by dotted layer name, bool ``(O, I)``, I per group; layers without any are absent."""
        return {name: scores > 0 for name, scores in self.scores.items()}

    @property
    def filters(self) -> dict[str, Tensor]:
        """The indices of the filters that have a kept kernel, by dotted layer name."""
        return {name: mask.any(1).nonzero().flatten() for name, mask in self.kernels.items()}

    @property
    def size(self) -> int:
        """The number of kept kernels."""
        return sum(int(mask.sum()) for mask in self.kernels.values())

    @property
    def tuned(self) -> bool:
        """Whether some kernels count more or less than in the original."""
        return any(bool(((scores != 0) & (scores != 1)).any()) for scores in self.scores.values())

    def edges(self) -> list[KeptKernel]:
        """Return the kept kernels as edges, layer by layer."""
        kept = {Filter(name, int(i)) for name, indices in self.filters.items() for i in indices}
        found = []
        for name, scores in self.scores.items():
            kernels = self.network.kernels(name)
            for unit, column in scores.nonzero().tolist():
                sources = kernels.sources[kernels.inputs_of(unit)[column]]
                living = tuple(source for source in sources if source in kept or source.layer == "input")
                found.append(KeptKernel(living, Filter(name, unit), column, scores[unit, column].item()))
        return found

    def run(self, images: Tensor) -> Tensor:
        """Return the target's map ``(B, h, w)``, or ``(B, 1)`` for a logit; at full width, and with gradients.

        Raises:
            DataError: the images do not fit the network.
        """
        device, dtype = self.network.device, self.network.dtype
        layers = [self.network.layer(name) for name in self._whole()]
        graph = KernelNetwork(self.network, layers=layers, filters=layers, taps=[self.readout.layer])
        kernels = {name: scores.to(device=device, dtype=dtype) for name, scores in self._whole().items()}
        alive = {name: scores.any(1).to(dtype) for name, scores in kernels.items()}
        return self.readout.of(self.network, graph(images, kernels, alive)[graph.taps[0]])

    def compact(self) -> nn.Module:
        """Return the circuit as a plain module: images to the target's map, as `run` gives it.

        It has the kept filters only; their kept kernels are exact copies times their scores, the others zeros.

        Raises:
            ParityError: it does not compute what the scores say.
        """
        small = self._compact()
        self._check(small)
        return small

    def check_parity(self) -> float:
        """Return the largest difference of maps between the compact module and `run`, relative to their range.

        It is measured on the images of the task, and entered in `metrics` as ``parity``.

        Raises:
            ParityError: it is above 1e-4.
        """
        return self._check(self._compact())

    def as_network(self) -> Network:
        """Return the whole network with this circuit's kernels only: what feature visualisation and taps work on."""
        whole = self._whole()
        return scale_kernels(self.network, whole, {name: scores.any(1).float() for name, scores in whole.items()})

    def measure(self, task: Task) -> Agreement:
        """Return how well the circuit gives the target's map on some images.

        Raises:
            DataError: the images do not fit the network.
        """
        problem = Problem(self.network, self.readout, task.images)
        return agreement(problem.maps(self._kept(problem)), problem.original)

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
        """Return the folder that the circuit was saved to: a JSON document and safetensors files.

        The model is not saved, only its name and the digest of its weights.

        Raises:
            ArtifactError: the folder exists and ``force`` is False, or is none of a circuit; or it cannot be written.
        """
        document = {
            "provenance": self.provenance,
            "settings": self.settings,
            "metrics": self.metrics,
            "target": self.target,
            "readout": asdict(self.readout),
            "filters": {name: kept.tolist() for name, kept in self.filters.items()},
            "task": task_record(self.task),
        }
        tensors = {_KIND: {f"score/{n}": v.float() for n, v in self.scores.items()}, "task": task_tensors(self.task)}
        return write_result(folder, document, tensors, kind=_KIND, force=force)

    def _whole(self) -> dict[str, Tensor]:
        """Return the scores of all layers with kernels, in front of the target or not."""
        layers = [layer for layer in self.network.layers if layer.role == "filter"]
        shapes = {layer.name: getattr(self.network.module, layer.weight).shape[:2] for layer in layers}
        return {name: self.scores.get(name, torch.zeros(shape)) for name, shape in shapes.items()}

    def _kept(self, problem: Problem) -> Kept:
        scores = {name: self.scores.get(name, torch.zeros(m.shape)) for name, m in problem.edges.leading.items()}
        return Kept({name: values > 0 for name, values in scores.items()}, dict(scores))

    def _compact(self) -> nn.Module:
        whole = self._whole()
        network = cut(scale_kernels(self.network, whole), self.readout)
        known = {layer.name for layer in network.layers}
        return compact(network, {name: scores.any(1) for name, scores in whole.items() if name in known})

    def _check(self, small: nn.Module) -> float:
        with torch.no_grad():
            batches = self.task.images.to(self.network.dtype).split(32)
            pairs = [(self.run(batch), small(batch.to(self.network.device))) for batch in batches]
        original, rewritten = (torch.cat([part.flatten(1) for part in column]) for column in zip(*pairs, strict=True))
        self.metrics["parity"] = measure_parity(original, rewritten).check().relative
        return self.metrics["parity"]

    def __repr__(self) -> str:
        filters = sum(len(kept) for kept in self.filters.values())
        text = f"Circuit of {self.target}: {self.size:,} kernels, {filters:,} filters in {len(self.scores)} layers"
        known = self.metrics.get("held_out") or self.metrics
        return text if "pearson" not in known else f"{text}, correlation {known['pearson']:.2f}"


def load_circuit(
    folder: str | os.PathLike[str],
    *,
    model: nn.Module | str | None = None,
    device: str | torch.device | None = None,
) -> Circuit:
    """Return the circuit that was saved in a folder.

    Args:
        folder: what `Circuit.save` wrote.
        model: the model that the circuit is of, or its name; as in `load_chain`.
        device: where the network shall run; by default where the model is.

    Raises:
        ArtifactError: no circuit is there, or it is damaged; or the model is not known, or has other weights.
        ModelError: the model cannot be loaded.
    """
    document, tensors = read_result(folder, kind=_KIND)
    try:
        task = read_task(document["task"], tensors["task"])
        origin = document["provenance"]["model"]
        network = Network.trace(find_model(origin, model, folder, kind=_KIND), task.images[:1], device=device)
        check_digest(network, origin["digest"], folder, kind=_KIND)
        readout = _read_readout(document["readout"])
        scores = _read_scores(tensors[_KIND], network)
        rest = {key: document[key] for key in ("settings", "metrics", "provenance")}
        return Circuit(network, task, document["target"], readout, scores, **rest)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{folder}/circuit.json is damaged: {error} is missing. Find the circuit again.") from error


def _read_readout(record: Mapping[str, Any]) -> Readout:
    units, weights = (record[key] for key in ("units", "weights"))
    if not isinstance(units, Sequence) or not isinstance(weights, Sequence) or len(units) != len(weights):
        raise KeyError("readout")
    return Readout(str(record["layer"]), tuple(int(unit) for unit in units), tuple(float(w) for w in weights))


def _read_scores(tensors: Mapping[str, Tensor], network: Network) -> dict[str, Tensor]:
    """Return the scores in the network's order of layers.

    Raises:
        ArtifactError: they belong to another network.
    """
    scores = {name.removeprefix("score/"): values for name, values in tensors.items()}
    shapes = {layer.name: getattr(network.module, layer.weight).shape[:2] for layer in network.layers}
    for name, values in scores.items():
        if shapes.get(name) != values.shape:
            raise ArtifactError(
                f"The saved kernels do not fit the model: {name} with {tuple(values.shape)} is no layer of it. "
                "Pass the model that the circuit was found in."
            )
    return {name: scores[name] for name in shapes if name in scores}
