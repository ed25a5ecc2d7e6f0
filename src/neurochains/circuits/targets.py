"""Targets: what an importance, a circuit or a sub-feature is about, as one number for each image.

Written as text: ``"loss"``, ``"logit:3"``, ``"features.10[9]"`` or ``"L4B1C2_48"`` for a filter, and
``"layer4.0.conv2:direction"`` for a direction among the filters of a layer, given as a vector. A filter's map, or the
map of a direction, becomes one number by its mean over positions, or what is written behind it: ``@max``, ``@centre``,
or a position ``@h,w`` (row, column).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from neurochains.errors import DataError, LayerError, SettingsError, did_you_mean
from neurochains.network import Filter, Layer, Network
from neurochains.network.nodes import batch_axis, node_shape, output_node

__all__ = ["Position", "Target"]

Position = str | tuple[int, int]

_FORMS = '"loss", "logit:3", "features.10[9]", "L4B1C2_48@max" or "layer4.0.conv2:direction"'
_POSITIONS = ("mean", "max", "centre")
_PLACED = re.compile(r"(?P<what>.*[\]\w])\s*@\s*(?P<position>[^@\[\]:]*)", re.S)
_CALL = re.compile(r"\d+(_\d+)?")
_CELL = re.compile(r"(\d+)\s*,\s*(\d+)")
_DIRECTION = "direction"


@dataclass(frozen=True, slots=True)
class Target:
    """What is asked about: the loss, a logit, a filter's map, or the map of a direction in a layer.

    Attributes:
        text: as it is written, in full.
        layer: of a filter or a direction; None for a logit and the loss.
        unit: the index of the logit or the filter; None for the loss and a direction.
        position: ``"mean"``, ``"max"``, ``"centre"`` or (row, column) of the map; ``"mean"`` where there is no map.
        direction: as many numbers as the layer has units, or None.
    """

    text: str
    layer: Layer | None = None
    unit: int | None = None
    position: Position = "mean"
    direction: tuple[float, ...] | None = None

    @classmethod
    def parse(cls, text: str | Target, network: Network, *, direction: Tensor | None = None) -> Target:
        """Return the target that a text means in a network; a target of another network is looked up in this one.

        Args:
            text: see the module's description.
            network: whose logits and filters are meant.
            direction: ``(units,)``, for ``"layer:direction"`` only; used as given, not normalised.

        Raises:
            SettingsError: the text has no such form, the network no such logit, or the map no such position.
            LayerError: there is no such layer or filter; lists the nearest names.
        """
        if isinstance(text, Target):
            return text._bound(network)
        written = str(text).strip()
        what, position = _split(written)
        if what.endswith(f":{_DIRECTION}"):
            return _direction(written, network.layer(what[: -len(_DIRECTION) - 1]), position, direction)
        if direction is not None:
            raise SettingsError(f'A direction goes with a target "LAYER:{_DIRECTION}"; got {written!r} and a vector.')
        if what.casefold() == "loss" or what.casefold().startswith("logit"):
            return _output(written, what, position, network)
        unit = _filter(written, what, network)
        layer = network.layer(unit.layer)
        return cls(written, layer, unit.index, _checked(position, layer, written))

    def _bound(self, network: Network) -> Target:
        """Return the same target of a network."""
        if self.layer is not None and self.layer.site.graph is network.module.graph:
            return self
        vector = None if self.direction is None else torch.tensor(self.direction, dtype=torch.float64)
        return Target.parse(self.text, network, direction=vector)

    def end(self, network: Network) -> fx.Node:
        """Return the last node of the network's graph that the target needs: a layer's site, or the output."""
        return output_node(network.module.graph) if self.layer is None else self.layer.site

    def values(self, logits: Tensor | None, maps: Mapping[str, Tensor], labels: Tensor | None = None) -> Tensor:
        """Return the target of each image, ``(B,)``.

        Args:
            logits: ``(B, outputs)``; may be None where the target is a map.
            maps: by layer name, as `neurochains.edit.tap` gives them: before the activation.
            labels: ``(B,)``, which the loss needs: cross-entropy in nats.

        Raises:
            DataError: the loss of images without labels.
        """
        if self.layer is not None:
            return _at(self._map(maps[self.layer.name], self.layer), self.position, self.layer)
        if logits is None:
            raise DataError(f"The target {self.text!r} is made from the logits, and none were given.")
        if self.unit is not None:
            return logits[:, self.unit]
        return F.cross_entropy(logits, known_labels(labels, len(logits)).to(logits.device), reduction="none")

    def reads(self, layer: Layer) -> Tensor | None:
        """Return, of the target's own layer, which units it is made of, ``(units,)`` of 0 and 1; None if of all."""
        if self.layer is None or layer.name != self.layer.name:
            return None
        if self.direction is not None:
            return (torch.tensor(self.direction) != 0).double()
        return F.one_hot(torch.tensor(self.unit), layer.units).double()

    def _map(self, value: Tensor, layer: Layer) -> Tensor:
        """Return the map of the filter or direction, the axis of the units left out."""
        if self.unit is not None:
            return value.select(layer.axis, self.unit)
        assert self.direction is not None
        return value.movedim(layer.axis, -1) @ torch.tensor(self.direction, dtype=value.dtype, device=value.device)

    def __str__(self) -> str:
        return self.text


def known_labels(labels: Tensor | None, count: int) -> Tensor:
    """Return labels, all known.

    Raises:
        DataError: some are not.
    """
    unknown = count if labels is None else int((labels < 0).sum())
    if labels is None or unknown:
        raise DataError(
            f"The loss needs the label of each image; {unknown} of {count} have none. Give labels with the task, or a "
            'target such as "logit:3".'
        )
    return labels


def _split(written: str) -> tuple[str, Position]:
    """Return what is meant and where: the number of a call in a layer's name is no position."""
    match = _PLACED.fullmatch(written)
    if match is None or _CALL.fullmatch(match["position"]):
        return written, "mean"
    given = match["position"].strip().casefold()
    cell = _CELL.fullmatch(given)
    if cell:
        return match["what"], (int(cell[1]), int(cell[2]))
    named = {"center": "centre"}.get(given, given)
    if named not in _POSITIONS:
        near = did_you_mean(named, _POSITIONS)
        raise SettingsError(
            f"A position is written @{', @'.join(_POSITIONS)} or @h,w (row, column); got {written!r}. {near}".rstrip()
        )
    return match["what"], named


def _output(written: str, what: str, position: Position, network: Network) -> Target:
    if position != "mean":
        raise SettingsError(f"{what!r} has no map, so no position either; got {written!r}.")
    if what.casefold() == "loss":
        return Target("loss")
    match = re.fullmatch(r"logit\s*:\s*(\d+)", what, re.I)
    if match is None:
        raise SettingsError(f"A logit is written logit:3, by its index; got {written!r}.")
    if int(match[1]) >= network.outputs:
        raise SettingsError(f"The network has {network.outputs} logits, 0 to {network.outputs - 1}; got {written!r}.")
    return Target(f"logit:{int(match[1])}", unit=int(match[1]))


def _filter(written: str, what: str, network: Network) -> Filter:
    try:
        return network.filter(what)
    except LayerError as error:
        if re.search(r"[\[_]\d+\]?$", what):
            raise
        raise LayerError(_no_form(written, network)) from error


def _no_form(written: str, network: Network) -> str:
    names = ["loss", "logit:0", *(f"{layer.name}[0]" for layer in network.layers)]
    return f"A target is written {_FORMS}; got {written!r}. {did_you_mean(written, names)}".rstrip()


def _direction(written: str, layer: Layer, position: Position, vector: Tensor | None) -> Target:
    wanted = f"({layer.units},)"
    if vector is None:
        raise SettingsError(f"{written!r} needs a vector {wanted}: Target.parse(text, network, direction=vector).")
    if tuple(vector.shape) != (layer.units,) or not bool(torch.isfinite(vector).all()) or not bool(vector.any()):
        raise SettingsError(
            f"A direction in {layer.name} is a vector {wanted} of finite numbers, not all 0; got {tuple(vector.shape)}."
        )
    where = _checked(position, layer, written)
    return Target(written, layer, None, where, tuple(vector.double().tolist()))


def _checked(position: Position, layer: Layer, written: str) -> Position:
    """Return a position; refuse one that the layer's map does not have."""
    if position in ("mean", "max"):
        return position
    if layer.map_size is None:
        raise SettingsError(
            f"{layer.name} has no rows and columns, so a target there is the mean or the @max; got {written!r}."
        )
    height, width = layer.map_size
    if isinstance(position, tuple) and not (position[0] < height and position[1] < width):
        raise SettingsError(
            f"The map of {layer.name} has {height} rows and {width} columns, counted from 0; got {written!r}."
        )
    return position


def _at(value: Tensor, position: Position, layer: Layer) -> Tensor:
    """Return one number for each image of a map without its axis of units: ``(B, H, W)`` and other shapes."""
    rows = _by_image(value, layer)
    if position == "mean":
        return rows.mean(1)
    if position == "max":
        return rows.amax(1)
    assert layer.map_size is not None
    height, width = layer.map_size
    row, column = (height // 2, width // 2) if isinstance(position, str) else position
    return rows[:, row * width + column]


def _by_image(value: Tensor, layer: Layer) -> Tensor:
    """Return ``(B, positions)``: where an image was cut into windows, those of all its windows."""
    found = batch_axis(layer.site.meta["val"])
    if found is None:
        raise LayerError(f"The map of {layer.name} {node_shape(layer.site)} is the same for all images: no target.")
    axis, windows = found
    value = value.movedim(axis - (axis > layer.axis), 0)
    return value.reshape(len(value) // windows, -1)
