"""What was switched off, as a chain or a circuit that the other commands read: a zip of its folder.

A chain where only filters and blocks are off. Where kernels are, a circuit for the logit that the network gives the
chosen image.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

import torch

from neurochains.chains import Chain, Scores
from neurochains.circuits import Circuit, read_target
from neurochains.data import Task
from neurochains.errors import SettingsError
from neurochains.explorer.desk import Desk
from neurochains.explorer.live import Off
from neurochains.explorer.view import UPLOAD, View

__all__ = ["chain_of", "circuit_of", "zipped"]


def zipped(desk: Desk, view: View) -> tuple[str, bytes]:
    """Return the name and the bytes of a zip with the network without what is switched off.

    Raises:
        SettingsError: nothing is switched off, or blocks and kernels both are.
        ArtifactError: the model is not known.
    """
    if not view.off:
        raise SettingsError("Nothing is switched off. Switch a filter, a kernel or a block off first.")
    made = circuit_of(desk, view) if any("<" in text for text in view.off) else chain_of(desk, view)
    kind, stream = ("circuit" if isinstance(made, Circuit) else "chain"), io.BytesIO()
    with tempfile.TemporaryDirectory(prefix="neurochains-") as folder:
        place = made.save(Path(folder) / kind)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in sorted(place.rglob("*")):
                archive.write(path, path.relative_to(folder))
    return f"{kind}.zip", stream.getvalue()


def chain_of(desk: Desk, view: View) -> Chain:
    """Return the network without the filters and blocks that are off, on images of the chosen one's set."""
    network, off = desk.network, Off.parse(view.off, desk.network)
    units = {layer.name: torch.ones(layer.units) for layer in network.scored()}
    for unit in off.filters:
        units.setdefault(unit.layer, torch.ones(network.layer(unit.layer).units))[unit.index] = 0.0
    scores = Scores(units, {block.name: float(block.name not in off.blocks) for block in network.blocks})
    made = Chain(network, _images(desk, view), scores, settings={"method": "explorer", "off": list(view.off)})
    made.metrics.update(filters=scores.kept, of=scores.total)
    return made


def circuit_of(desk: Desk, view: View) -> Circuit:
    """Return all kernels but those that are switched off, as a circuit for the answer to the chosen image.

    Raises:
        SettingsError: a block is switched off as well.
    """
    network, off = desk.network, Off.parse(view.off, desk.network)
    if off.blocks:
        raise SettingsError("A circuit has no blocks to skip. Switch the blocks on again, or the kernels.")
    target = f"logit:{int(desk.seen(view.having(image=_of_bundle(view))).logits.argmax())}"
    layers = [layer for layer in network.layers if layer.role == "filter"]
    scores = {layer.name: torch.ones(network.kernels(layer.name).weight.shape[:2]) for layer in layers}
    for unit, column in off.kernels:
        scores[unit.layer][unit.index, column] = 0.0
    for unit in off.filters:
        scores[unit.layer][unit.index] = 0.0
    target, readout = read_target(target, network)
    return Circuit(network, _images(desk, view), target, readout, scores, {"method": "explorer", "target": target})


def _of_bundle(view: View) -> str:
    return "0.0" if view.image == UPLOAD else view.image


def _images(desk: Desk, view: View) -> Task:
    index = int(_of_bundle(view).split(".")[0])
    return desk.task([(index, image) for image in range(min(20, len(desk.bundle.sets[index].images)))])
