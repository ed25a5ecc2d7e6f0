"""Controlling: a copy of the network that trains, with a controlling module beside each of some layers.

1. Parameters and buffers are copied; what the model learnt is a parameter of the copy.
2. Each batch norm becomes a module again, so that the copy has a training mode.
3. A controlling module reads what its layer reads, and answers with a code ``(B, units)``; the code multiplies the
   layer's maps after batch norm and activation, so that a 0 makes an exactly empty channel.

Dropout is not restored: the traced network has none. Shapes: B images, C channels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.nodes import batch_axis, constant_name, is_constant, is_learnt, node_shape, output_node

aten = torch.ops.aten

__all__ = ["Place", "can_be_controlled", "control", "original_names", "place_of"]

_ACTIVATIONS = frozenset(
    getattr(aten, name).default
    for name in "relu relu6 hardtanh gelu silu hardswish hardsigmoid sigmoid tanh elu selu celu leaky_relu mish "
    "softplus".split()
)
_NORMS = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a layer is controlled: the node whose maps the controlling module reads, and the one that it scales."""

    source: fx.Node
    target: fx.Node


def can_be_controlled(layer: Layer) -> bool:
    """Return whether a layer is a convolution from maps ``(B, C, H, W)`` to such, whose filters have maps of their own.

    Not so for what only rescales channels, the outputs, and layers that see the batch in another axis.
    """
    if layer.kind == "linear" or layer.role != "filter":
        return False
    values = [node.meta["val"] for node in _ends(layer)]
    return all(value.ndim == 4 and batch_axis(value) == (0, 1) for value in values)


def place_of(layer: Layer) -> Place:
    """Return where a convolution is controlled: behind its batch norm, and the activation where that alone reads it."""
    source, target = _ends(layer)
    if len(target.users) == 1:
        (user,) = target.users
        if user.target in _ACTIVATIONS and user.args[0] is target:
            target = user
    return Place(source, target)


def _ends(layer: Layer) -> tuple[fx.Node, fx.Node]:
    source = layer.producer.args[0]
    assert isinstance(source, fx.Node)
    return source, layer.site


def control(network: Network, controllers: Mapping[str, nn.Module]) -> fx.GraphModule:
    """Return a copy that trains: ``images -> (logits, codes, means)``, both lists in the order of `controllers`.

    ``means`` are those of the maps ``(B, units)`` before they are multiplied. Without controllers it is a plain copy
    of the network, with two empty lists. The network shares no memory with the copy. In the copy's graph, the product
    of a layer's maps with its code carries the layer's name as ``meta["layer"]``, and the nodes that lead to it
    ``meta["controls"]``.

    Args:
        network: the traced network.
        controllers: by layer name, a module that maps ``(B, inputs, H, W)`` to ``(B, units)``; it becomes a part of
            the copy, under the name ``gate_<index of the layer>``.
    """
    writer = _Writer(network)
    for name, module in controllers.items():
        writer.add(network.layer(name), module)
    return writer.written()


def original_names(network: Network) -> dict[str, str]:
    """Return, by name of a tensor in a copy that `control` writes, its name in the model that was traced.

    What the trace computed from several tensors once and for all has the name ``folded_...``, which no model has.
    """
    names: dict[str, str] = {}
    for node in network.module.graph.nodes:
        if node.op == "get_attr":
            names[f"w_{_flat(constant_name(node))}"] = constant_name(node)
        elif node.target is aten.batch_norm.default and _is_restorable(node):
            parts = zip(("weight", "bias", "running_mean", "running_var"), node.args[1:5], strict=True)
            read = {part: argument for part, argument in parts if isinstance(argument, fx.Node)}
            names |= {f"{_norm_name(node)}.{part}": constant_name(argument) for part, argument in read.items()}
    return names


def _norm_name(node: fx.Node) -> str:
    mean = node.args[3]
    assert isinstance(mean, fx.Node)
    return f"norm_{_flat(constant_name(mean).removesuffix('running_mean')).rstrip('_')}"


class _Writer:
    """One pass over the traced graph that writes the copy."""

    def __init__(self, network: Network) -> None:
        self._source = network.module
        self._root = nn.Module()
        self._graph = fx.Graph()
        self._nodes: dict[fx.Node, fx.Node] = {}
        self._gates: dict[fx.Node, list[tuple[str, Layer]]] = {}
        self._order: list[str] = []
        self._norms: dict[tuple[Any, ...], str] = {}
        self._answers: dict[str, tuple[fx.Node, fx.Node]] = {}

    def add(self, layer: Layer, module: nn.Module) -> None:
        name = f"gate_{layer.index}"
        self._root.add_module(name, module)
        self._gates.setdefault(place_of(layer).target, []).append((name, layer))
        self._order.append(name)

    def written(self) -> fx.GraphModule:
        for node in self._source.graph.nodes:
            if node.op != "output":
                self._nodes[node] = self._gated(node, self._copied(node))
        codes, means = ([self._answers[name][place] for name in self._order] for place in (0, 1))
        self._graph.output((self._nodes[output_node(self._source.graph)], codes, means))
        for node in [node for node in self._graph.nodes if node.op == "get_attr" and not node.users]:
            self._graph.erase_node(node)  # the tensors of batch norms, which live on in modules
        return fx.GraphModule(self._root, self._graph, class_name="ControlledNetwork")

    def _copied(self, node: fx.Node) -> fx.Node:
        if node.op == "get_attr":
            return self._constant(node)
        if node.target is aten.batch_norm.default and _is_restorable(node):
            copied = self._graph.call_module(self._norm(node), (self._nodes[node.args[0]],))  # type: ignore[index]
            copied.meta = dict(node.meta)
            return copied
        return self._graph.node_copy(node, self._nodes.__getitem__)

    def _constant(self, node: fx.Node) -> fx.Node:
        tensor: Tensor = getattr(self._source, str(node.target))
        name = f"w_{_flat(constant_name(node))}"
        if not hasattr(self._root, name):
            if tensor.is_floating_point() and is_learnt(node):
                self._root.register_parameter(name, nn.Parameter(tensor.detach().clone()))
            else:
                self._root.register_buffer(name, tensor.detach().clone())
        copied = self._graph.get_attr(name)
        copied.meta = dict(node.meta)
        return copied

    def _norm(self, node: fx.Node) -> str:
        """Return the name of the module that does what a batch norm does; calls with the same tensors share it."""
        key = tuple(node.args[1:5])
        if key not in self._norms:
            self._norms[key] = _norm_name(node)
            self._root.add_module(self._norms[key], self._norm_module(node))
        return self._norms[key]

    def _norm_module(self, node: fx.Node) -> nn.Module:
        weight, bias, mean, variance = (self._tensor(argument) for argument in node.args[1:5])
        assert mean is not None
        kind = _NORMS[len(node_shape(node))]
        momentum, epsilon = node.args[6], node.args[7]
        made = kind(len(mean), eps=epsilon, momentum=momentum, affine=weight is not None)  # type: ignore[arg-type]
        made = made.to(mean)
        parts = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
        for name, value in parts.items():
            if value is not None:
                getattr(made, name).data.copy_(value)
        return made

    def _tensor(self, argument: Any) -> Tensor | None:
        return getattr(self._source, str(argument.target)) if isinstance(argument, fx.Node) else None

    def _gated(self, node: fx.Node, copied: fx.Node) -> fx.Node:
        """Multiply by the codes of the layers whose maps a node holds."""
        for name, layer in self._gates.get(node, ()):
            code = self._graph.call_module(name, (self._nodes[place_of(layer).source],))
            mean = self._graph.call_function(aten.mean.dim, (copied, [2, 3]))
            typed = self._graph.call_function(aten.to.other, (code, copied))
            shaped = self._graph.call_function(aten.reshape.default, (typed, [-1, layer.units, 1, 1]))
            for made in (code, mean, typed, shaped):
                made.meta["controls"] = name
            self._answers[name] = code, mean
            copied = self._graph.call_function(aten.mul.Tensor, (copied, shaped))
            copied.meta = {**node.meta, "layer": layer.name}
        return copied


def _flat(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _is_restorable(node: fx.Node) -> bool:
    """Return whether a batch norm has running statistics, both or neither of scale and shift, and all are constants."""
    tensors = [isinstance(argument, fx.Node) for argument in node.args[1:5]]
    return all(map(is_constant, node.args[1:])) and all(tensors[2:]) and tensors[0] == tensors[1]
