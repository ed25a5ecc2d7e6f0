"""What layers and filters are called: paper labels, dotted names, and text that means either.

VGG: ``L34`` is ``features.34``. ResNet: ``L4B1C2`` is ``layer4.0.conv2``, ``L4B3SC`` a projection shortcut, ``L0``
the stem. Other families: ``L<n>`` in order of execution. The dotted name is always accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from neurochains.errors import LayerError, did_you_mean
from neurochains.network.layers import Filter, Layer

__all__ = ["find_filter", "find_layer", "label_layers"]

_VGG = re.compile(r"(?:.*\.)?features\.(\d+)")
_RESNET = re.compile(r"(?:.*\.)?layer(\d+)\.(\d+)\.(conv(\d+)|downsample\.\d+|shortcut\.\d+)")
_STEM = re.compile(r"(?:.*\.)?conv1")
_UNIT = re.compile(r"(?P<layer>.+?)(?:\[(?P<bracket>\d+)\]|_(?P<underscore>\d+))")


def label_layers(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return the layers with the labels that papers use for their family; unique, whatever the family."""
    filters = [layer for layer in layers if layer.role == "filter"]
    for pattern, label in ((_VGG, _vgg_label), (_RESNET, _resnet_label)):
        fitting = [layer for layer in filters if pattern.fullmatch(_path(layer))]
        strays = [layer for layer in filters if layer not in fitting and not _STEM.fullmatch(_path(layer))]
        if fitting and not strays:
            return _unique([replace(layer, label=label(layer)) for layer in layers])
    return tuple(layers)


def find_layer(layers: Mapping[str, Layer], text: str) -> Layer:
    """Return the layer with a dotted name or label (``"layer4.0.conv2"``, ``"L4B1C2"``), whatever its case.

    Raises:
        LayerError: no layer is called that; lists the nearest names.
    """
    if text in layers:
        return layers[text]
    for layer in layers.values():
        if text.casefold() in (layer.label.casefold(), layer.name.casefold()):
            return layer
    known = [name for layer in layers.values() for name in (layer.name, layer.label)]
    raise LayerError(f"No layer is called {text!r}. {_hint(text, known)}")


def find_filter(layers: Mapping[str, Layer], text: str) -> Filter:
    """Return the filter that a text such as ``"L4B1C2_48"`` or ``"layer4.0.conv2[48]"`` names.

    Raises:
        LayerError: the text has another form, no such layer, or the layer has fewer filters.
    """
    match = _UNIT.fullmatch(text.strip())
    if match is None:
        raise LayerError(f"A filter is written L4B1C2_48 or layer4.0.conv2[48]; got {text!r}.")
    layer = find_layer(layers, match["layer"])
    index = int(match["bracket"] or match["underscore"])
    if index >= layer.units:
        raise LayerError(
            f"{layer.name} ({layer.label}) has {layer.units} filters, 0 to {layer.units - 1}; got {index}."
        )
    return Filter(layer.name, index)


def _hint(text: str, known: Iterable[str]) -> str:
    names = list(known)
    return did_you_mean(text, names) or f"There are: {', '.join(names[::2][:12])}{', ...' if len(names) > 24 else ''}."


def _path(layer: Layer) -> str:
    return layer.name.split("@")[0]


def _vgg_label(layer: Layer) -> str:
    match = _VGG.fullmatch(_path(layer))
    return _with_call(f"L{match[1]}", layer) if match else _plain_label(layer)


def _resnet_label(layer: Layer) -> str:
    match = _RESNET.fullmatch(_path(layer))
    if match:
        part = f"C{match[4]}" if match[4] else "SC"
        return _with_call(f"L{match[1]}B{int(match[2]) + 1}{part}", layer)
    return _with_call("L0", layer) if _STEM.fullmatch(_path(layer)) else _plain_label(layer)


def _plain_label(layer: Layer) -> str:
    return f"FC{layer.index}" if layer.kind == "linear" else f"X{layer.index}"


def _with_call(label: str, layer: Layer) -> str:
    return f"{label}@{layer.call}" if layer.call else label


def _unique(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    seen: set[str] = set()
    result = []
    for layer in layers:
        label = layer.label if layer.label not in seen else f"{layer.label}.{layer.index}"
        seen.add(label)
        result.append(replace(layer, label=label))
    return tuple(result)
