"""The layers of a traced network: what produces units, where a unit is scored, and what it is for.

A layer's *producer* is its convolution or linear operation; its *site* is the node after the batch norm (or
per-channel scale and shift) that follows, before the activation. A score multiplied there at 0 removes the unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx

from neurochains.network.graph import (
    constant_name,
    is_constant,
    module_path,
    node_shape,
    output_node,
    tensor_inputs,
)

aten = torch.ops.aten

__all__ = ["Filter", "Kind", "Layer", "Role", "channel_axis", "find_layers"]

Kind = Literal["conv", "depthwise", "linear"]
Role = Literal["filter", "hidden", "head", "modulation"]

CONVOLUTIONS = frozenset({aten.conv1d.default, aten.conv2d.default, aten.conv2d.padding, aten.conv3d.default})
PRODUCERS = CONVOLUTIONS | {aten.linear.default}
_AFFINE = frozenset({aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor})


@dataclass(frozen=True, slots=True)
class Filter:
    """One unit of a layer: the layer's dotted name and the unit's index."""

    layer: str
    index: int

    def __str__(self) -> str:
        return f"{self.layer}[{self.index}]"


@dataclass(frozen=True, slots=True)
class Layer:
    """A producer of units.

    `role` is ``"filter"`` for convolutions and other layers that act on maps, ``"hidden"`` for the other linear
    layers, ``"head"`` for what makes the outputs, ``"modulation"`` for layers that only rescale channels
    (squeeze-and-excitation).
    """

    name: str
    label: str
    kind: Kind
    role: Role
    units: int
    map_size: tuple[int, int] | None
    call: int
    index: int
    weight: str
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    groups: int
    producer: fx.Node
    site: fx.Node

    @property
    def axis(self) -> int:
        """The axis of the units in the output of `site`."""
        return channel_axis(self)

    @property
    def inputs(self) -> int:
        """The number of input channels, over all groups."""
        source = self.producer.args[0]
        assert isinstance(source, fx.Node)
        return node_shape(source)[-1 if self.kind == "linear" else 1]


def channel_axis(layer: Layer) -> int:
    """Return the axis of a layer's units: 1 for convolutions, the last for linear layers."""
    return len(node_shape(layer.producer)) - 1 if layer.kind == "linear" else 1


def find_layers(module: fx.GraphModule) -> tuple[Layer, ...]:
    """Return the layers in order of execution, labelled ``L<n>``; paper labels are given elsewhere."""
    graph = module.graph
    producers = [node for node in graph.nodes if node.target in PRODUCERS and _has_plain_weight(node)]
    modulators = _modulators(graph)
    heads = _heads(graph, set(producers))
    calls: Counter[str] = Counter()
    layers = []
    for node in producers:
        name = _layer_name(node)
        role = _role(node, node in heads, node in modulators)
        layers.append(_layer(module, node, name, calls[name], role, len(layers)))
        calls[name] += 1
    return tuple(layers)


def _has_plain_weight(node: fx.Node) -> bool:
    return isinstance(node.args[1], fx.Node) and node.args[1].op == "get_attr"


def _layer(module: fx.GraphModule, node: fx.Node, name: str, call: int, role: Role, index: int) -> Layer:
    weight_node = node.args[1]
    assert isinstance(weight_node, fx.Node)
    weight: Tensor = getattr(module, str(weight_node.target))
    shape = node_shape(node)
    groups = _argument(node, 6, 1) if node.target in CONVOLUTIONS else 1
    return Layer(
        name=f"{name}@{call}" if call else name,
        label=f"L{index}",
        kind=_kind(node, weight, groups),
        role=role,
        units=len(weight),
        map_size=_map_size(node, shape),
        call=call,
        index=index,
        weight=str(weight_node.target),
        kernel=tuple(weight.shape[2:]),
        stride=tuple(_argument(node, 3, (1, 1))) if node.target in CONVOLUTIONS else (),
        groups=groups,
        producer=node,
        site=_site(node),
    )


def _argument(node: fx.Node, position: int, default):
    """Return one positional argument of a convolution; exported graphs leave defaults out."""
    return node.args[position] if len(node.args) > position else default


def _kind(node: fx.Node, weight: Tensor, groups: int) -> Kind:
    if node.target is aten.linear.default:
        return "linear"
    depthwise = groups > 1 and weight.shape[1] == 1 and groups == len(weight)
    return "depthwise" if depthwise else "conv"


def _map_size(node: fx.Node, shape: tuple[int, ...]) -> tuple[int, int] | None:
    if len(shape) != 4:
        return None
    return (shape[1], shape[2]) if node.target is aten.linear.default else (shape[2], shape[3])


def _layer_name(node: fx.Node) -> str:
    """Return the dotted module path; for a functional call, the weight's name without ``.weight``."""
    path, kind = module_path(node)
    if path and ("conv" in kind.lower() or "linear" in kind.lower()):
        return path
    weight = node.args[1]
    assert isinstance(weight, fx.Node)
    return constant_name(weight).removesuffix(".weight") or path


def _role(node: fx.Node, head: bool, modulator: bool) -> Role:
    if modulator:
        return "modulation"
    if head:
        return "head"
    return "filter" if node.target in CONVOLUTIONS or len(node_shape(node)) == 4 else "hidden"


def _site(producer: fx.Node) -> fx.Node:
    """Return the last of the per-channel scales and shifts that follow a producer one by one."""
    node = producer
    while len(node.users) == 1:
        (user,) = node.users
        if not _is_channel_affine(user, node):
            break
        node = user
    return node


def _is_channel_affine(user: fx.Node, node: fx.Node) -> bool:
    if user.target is aten.batch_norm.default:
        return user.args[0] is node and all(is_constant(arg) for arg in user.args[1:])
    if user.target not in _AFFINE or node_shape(user) != node_shape(node) or user.args[0] is not node:
        return False
    other = user.args[1]
    return isinstance(other, fx.Node) and other.op == "get_attr" and max(node_shape(other), default=1) > 1


def _modulators(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that lie between a pooling and the product in which one factor rescales whole channels."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.target is aten.mul.Tensor and len(tensor_inputs(node)) == 2:
            left, right = tensor_inputs(node)
            for factor, other in ((left, right), (right, left)):
                if _is_flat(factor) and not _is_flat(other):
                    found |= set(_back_to_maps(factor))
    return found


def _is_flat(node: fx.Node) -> bool:
    """Return whether a tensor has one value a channel, as after global pooling."""
    shape = node_shape(node)
    return bool(shape) and sum(size > 1 for size in shape[1:]) <= 1


def _back_to_maps(factor: fx.Node) -> Iterator[fx.Node]:
    queue, seen = [factor], set()
    while queue:
        node = queue.pop()
        if node in seen or not _is_flat(node):
            continue
        seen.add(node)
        yield node
        queue.extend(tensor_inputs(node))


def _heads(graph: fx.Graph, producers: set[fx.Node]) -> set[fx.Node]:
    """Return the producers from which the output is reached without passing another producer."""
    result = output_node(graph)
    outputs = node_shape(result)[-1:]
    queue, seen, heads = [result], set(), set()
    while queue:
        node = queue.pop()
        if node in seen:
            continue
        seen.add(node)
        if node in producers:
            heads.add(node)
        else:
            queue.extend(node.all_input_nodes)
    return {node for node in heads if _width(node) == outputs} if len(heads) == 1 else set()


def _width(node: fx.Node) -> tuple[int, ...]:
    shape = node_shape(node)
    return shape[-1:] if node.target is aten.linear.default else shape[1:2]
