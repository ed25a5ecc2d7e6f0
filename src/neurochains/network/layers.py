"""The layers of a traced network: what produces units, where a unit is scored, and what it is for.

A layer's *producer* is its convolution or linear operation; its *site* is the node after the batch norm (or
per-channel scale and shift) that follows, before the activation. A score multiplied there at 0 removes the unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, fx

from neurochains.network.attention import Attention, find_attentions
from neurochains.network.nodes import (
    argument,
    as_list,
    before_expansion,
    constant_name,
    is_constant,
    is_learnt,
    module_path,
    node_shape,
    output_node,
    tensor_inputs,
)
from neurochains.network.operations import AFFINE, CONVOLUTIONS
from neurochains.network.transformer_roles import behind_activation, find_projections, head_layers_of

aten = torch.ops.aten

__all__ = ["Filter", "Kind", "Layer", "Role", "find_heads", "find_layers"]

Kind = Literal["conv", "depthwise", "linear", "heads"]
Role = Literal["filter", "hidden", "head", "modulation", "projection", "heads"]

_PRODUCERS = CONVOLUTIONS | {aten.linear.default}


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
    (squeeze-and-excitation), ``"projection"`` for the linear layers of a transformer that read or write its stream,
    ``"heads"`` for the heads of one attention, which have neither weights nor map.

    `map_size` is None for layers without rows and columns. `call` counts the calls of a reused module, `index` the
    layers in order of execution. `kernel` and `stride` are empty for linear layers. `weight` names the buffer of the
    traced module that holds ``(units, inputs per group, *kernel)``.
    """

    name: str
    label: str
    kind: Kind
    role: Role
    units: int
    inputs: int
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
        """The axis of the units in the outputs of `producer` and `site`."""
        return _unit_axis(self.producer)


def find_layers(module: fx.GraphModule) -> tuple[Layer, ...]:
    """Return the layers in order of execution, labelled ``L<n>``; paper labels are given elsewhere."""
    graph = module.graph
    producers = [node for node in graph.nodes if node.target in _PRODUCERS and _has_own_weight(module, node)]
    modulators = _modulators(graph)
    heads = _heads(graph, set(producers))
    attentions = find_attentions(graph)
    projections = find_projections(producers, attentions)
    calls: Counter[str] = Counter()
    layers = []
    for node in producers:
        name = _layer_name(node)
        role = _role(node, node in heads, node in modulators)
        if attentions and node.target is aten.linear.default and role in ("filter", "hidden"):
            role = "projection" if node in projections else "hidden"
        layers.append(_layer(module, node, name, calls[name], role, len(layers)))
        calls[name] += 1
    return tuple(_scored_behind(layer) if attentions and layer.role == "hidden" else layer for layer in layers)


def _scored_behind(layer: Layer) -> Layer:
    """Return a layer of hidden units that is scored after its activation."""
    return replace(layer, site=behind_activation(layer.site))


def find_heads(graph: fx.Graph, first: int) -> tuple[Layer, ...]:
    """Return one layer for the heads of each attention, in order of execution, with indices from `first` on."""
    found = head_layers_of(find_attentions(graph))
    return tuple(
        _head_layer(name, call, attention, first, place) for place, (name, call, attention) in enumerate(found)
    )


def _head_layer(name: str, call: int, attention: Attention, first: int, place: int) -> Layer:
    return Layer(
        name=f"{name}@{call}" if call else name,
        label=f"A{place}",
        kind="heads",
        role="heads",
        units=attention.heads,
        inputs=attention.heads,
        map_size=None,
        call=call,
        index=first + place,
        weight="",
        kernel=(),
        stride=(),
        groups=1,
        producer=attention.read,
        site=attention.read,
    )


def _has_own_weight(module: fx.GraphModule, node: fx.Node) -> bool:
    """Return whether a weight is a constant, and no fixed filter that is the same for every channel (blurring)."""
    weight_node = node.args[1]
    if not isinstance(weight_node, fx.Node) or weight_node.op != "get_attr":
        return False
    weight: Tensor = getattr(module, str(weight_node.target))
    fixed = not is_learnt(weight_node) and argument(node, 6, 1) == len(weight) > 1 if weight.ndim > 2 else False
    return not (fixed and bool((weight == weight[:1]).all()))


def _unit_axis(producer: fx.Node) -> int:
    return len(node_shape(producer)) - 1 if producer.target is aten.linear.default else 1


def _layer(module: fx.GraphModule, node: fx.Node, name: str, call: int, role: Role, index: int) -> Layer:
    weight_node, source = node.args[1], node.args[0]
    assert isinstance(weight_node, fx.Node)
    assert isinstance(source, fx.Node)
    weight: Tensor = getattr(module, str(weight_node.target))
    convolves = node.target in CONVOLUTIONS
    groups = argument(node, 6, 1) if convolves else 1
    return Layer(
        name=f"{name}@{call}" if call else name,
        label=f"L{index}",
        kind=_kind(node, weight, groups),
        role=role,
        units=len(weight),
        inputs=node_shape(source)[_unit_axis(node)],
        map_size=_map_size(node),
        call=call,
        index=index,
        weight=str(weight_node.target),
        kernel=tuple(weight.shape[2:]),
        stride=_stride(node, weight.ndim - 2) if convolves else (),
        groups=groups,
        producer=node,
        site=_site(node),
    )


def _stride(node: fx.Node, dimensions: int) -> tuple[int, ...]:
    stride = as_list(argument(node, 3, 1))
    return tuple(stride) if len(stride) == dimensions else tuple(stride) * dimensions


def _kind(node: fx.Node, weight: Tensor, groups: int) -> Kind:
    if node.target is aten.linear.default:
        return "linear"
    depthwise = groups > 1 and weight.shape[1] == 1 and groups == len(weight)
    return "depthwise" if depthwise else "conv"


def _map_size(node: fx.Node) -> tuple[int, int] | None:
    shape = node_shape(node)
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
    axis, node = _unit_axis(producer), producer
    while len(node.users) == 1:
        (user,) = node.users
        if not _is_channel_affine(user, node, axis):
            break
        node = user
    return node


def _is_channel_affine(user: fx.Node, node: fx.Node, axis: int) -> bool:
    if user.target is aten.batch_norm.default:
        return axis == 1 and user.args[0] is node and all(is_constant(arg) for arg in user.args[1:])
    if user.target not in AFFINE or node_shape(user) != node_shape(node) or user.args[0] is not node:
        return False
    other = user.args[1]
    return isinstance(other, fx.Node) and other.op == "get_attr" and _is_per_channel(other, node_shape(node), axis)


def _is_per_channel(parameter: fx.Node, shape: tuple[int, ...], axis: int) -> bool:
    wanted = tuple(size if place == axis else 1 for place, size in enumerate(shape))
    own = node_shape(parameter)
    return (1,) * (len(shape) - len(own)) + own == wanted


def _modulators(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that lie between a pooling and the product in which one factor rescales whole channels."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.target is aten.mul.Tensor and len(tensor_inputs(node)) == 2:
            left, right = map(before_expansion, tensor_inputs(node))
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
    """Return the producers from which the output is reached without passing another producer.

    Several count only when each is a linear layer on features without positions (the two heads of a distilled
    transformer); convolutions that a residual stream adds up to the output are filters.
    """
    result = output_node(graph)
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
    several = len(heads) > 1 and any(node.target in CONVOLUTIONS or len(node_shape(node)) > 2 for node in heads)
    outputs = node_shape(result)[-1]
    return {node for node in heads if not several and node_shape(node)[_unit_axis(node)] == outputs}
