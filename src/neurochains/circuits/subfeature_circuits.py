"""The circuit of one sub-feature as a network that runs, and what it keeps of the filter on each cluster's patches.

If a cluster's circuit is the computation behind that cluster, then it keeps the filter's answers to the patches of its
own cluster and loses those to the others: an intervention that a shared computation would fail.

Shapes: k clusters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neurochains.circuits.circuit import Circuit
from neurochains.circuits.edges import Edges
from neurochains.circuits.readouts import read_target
from neurochains.circuits.subfeature_results import SubFeatures
from neurochains.data import Task
from neurochains.errors import ModelError, SettingsError
from neurochains.network import Network

__all__ = ["answers_kept", "subfeature_circuit"]


def subfeature_circuit(network: Network, task: Task, found: SubFeatures, cluster: int) -> Circuit:
    """Return the circuit of one cluster, without dead ends, on the cluster's images.

    Args:
        network: the traced network that the sub-features were found in.
        task: the images that they were found in.
        found: the sub-features.
        cluster: which.

    Raises:
        SettingsError: there is no such cluster, or no path to the filter is left in its circuit.
        ModelError: the network has other weights.
    """
    _check(network, found, cluster)
    target, readout = read_target(str(found.patches.filter), network)
    kept = Edges(network, readout).connect(found.circuits[cluster])
    scores = {name: mask.float() for name, mask in kept.items() if bool(mask.any())}
    shown = task.subset(found.patches.images[found.members(cluster)])
    return Circuit(network, shown, target, readout, scores, settings={**found.settings, "cluster": cluster})


def answers_kept(network: Network, task: Task, found: SubFeatures, *, batch_size: int = 64) -> Tensor:
    """Return ``(k, k)``: what the circuit of cluster c gives at the patches of cluster d, as a share of the filter's.

    Both are means over the patches of the map before the activation, negative ones as 0; the filter's own are above 0.

    Args:
        network: see `subfeature_circuit`, and so are ``task`` and ``found``.
        task: see there.
        found: see there.
        batch_size: how many images are run at a time.

    Raises:
        SettingsError: no path to the filter is left in a circuit.
        ModelError: the network has other weights.
    """
    shares = torch.zeros(found.clusters, found.clusters)
    for cluster in range(found.clusters):
        circuit = subfeature_circuit(network, task, found, cluster)
        answers = _at_patches(circuit, task, found, batch_size).clamp(min=0)
        for other in range(found.clusters):
            members = found.members(other)
            shares[cluster, other] = answers[members].mean() / found.patches.values[members].mean()
    return shares


@torch.no_grad()
def _at_patches(circuit: Circuit, task: Task, found: SubFeatures, batch_size: int) -> Tensor:
    """Return what a circuit gives at each patch, ``(P,)``."""
    patches, parts = found.patches, []
    for start in range(0, len(patches), batch_size):
        here = slice(start, start + batch_size)
        maps = circuit.run(task.images[patches.images[here]])
        maps = maps if maps.ndim == 3 else maps[..., None]
        parts.append(maps[torch.arange(len(maps)), patches.rows[here], patches.columns[here]].float().cpu())
    return torch.cat(parts)


def _check(network: Network, found: SubFeatures, cluster: int) -> None:
    if cluster < 0:
        raise SettingsError(f"A circuit belongs to a cluster, counted from 0; got {cluster}.")
    wanted = found.provenance.get("model", {}).get("digest", network.digest)
    if wanted != network.digest:
        raise ModelError(
            f"The sub-features of {found.label} were found in a model with other weights: their digest is {wanted}, "
            f"that of this model {network.digest}. Pass the model they were found in."
        )
