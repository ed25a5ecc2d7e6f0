"""The program of dynamic inference: the steps of a controlled network, each with the tensors that it needs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from neurochains.decoupling.active import ActiveConv, ActiveLinear, Maps, Switch, whole
from neurochains.decoupling.costs import producer_of
from neurochains.decoupling.folding import Activation, folded_convolution
from neurochains.decoupling.zeros import follow_zeros, rule_of
from neurochains.network.nodes import argument, as_list, batch_axis, node_shape, size_at, tensor_inputs
from neurochains.network.operations import CONVOLUTIONS

if TYPE_CHECKING:
    from neurochains.decoupling.decoupled import Decoupled

aten = torch.ops.aten

__all__ = ["Step", "ends", "rows_of", "write_program"]

Values = dict[fx.Node, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation of the program.

    Attributes:
        result: the node whose value it makes.
        reads: the nodes whose values it needs.
        run: makes the value of all values, and, behind a switch, of the indices of the filters that are on.
        switch: decides on codes first, from the value of the node that is read.
        done: the nodes whose values no later step reads.
    """

    result: fx.Node
    reads: tuple[fx.Node, ...]
    run: Callable[..., Any]
    switch: Switch | None = None
    done: tuple[fx.Node, ...] = ()


def write_program(decoupled: Decoupled, parts: nn.ModuleList) -> tuple[Step, ...]:
    """Return the steps of a decoupled network in eval mode; the modules that they run are added to `parts`."""
    writer = _Writer(decoupled, parts)
    graph = decoupled.body.graph
    return _with_last_uses([step for node in graph.nodes for step in writer.steps_of(node)], ends(graph)[1])


def ends(graph: fx.Graph) -> tuple[fx.Node, fx.Node]:
    """Return the nodes of the images and of the logits in a controlled graph."""
    (placeholder,) = (node for node in graph.nodes if node.op == "placeholder")
    (output,) = (node for node in graph.nodes if node.op == "output")
    return placeholder, output.args[0][0]


def rows_of(node: fx.Node, value: Any, images: Tensor) -> Any:
    """Return a node's value for some of the images, by their rows."""
    if isinstance(value, (tuple, list)):
        return [_part(recorded, part, images) for recorded, part in zip(node.meta["val"], value, strict=True)]
    if isinstance(value, Maps):
        return replace(value, value=_part(node.meta["val"], value.value, images))
    return size_at(node.meta["val"], len(images)) if isinstance(value, int) else value


def _part(recorded: Any, value: Tensor, images: Tensor) -> Tensor:
    found = batch_axis(recorded)
    if found is None:
        return value
    axis, each = found
    rows = images if each == 1 else (images[:, None] * each + torch.arange(each, device=images.device)).flatten()
    return value.index_select(axis, rows)


class _Writer:
    """Writes one step for each operation, and one for a controlled convolution with all that leads to its gate."""

    def __init__(self, decoupled: Decoupled, parts: nn.ModuleList) -> None:
        self._body = decoupled.body
        self._controllers = decoupled.controllers
        self._parts = parts
        self._gates = {producer_of(node): node for node in self._body.graph.nodes if "layer" in node.meta}
        codes = {name: torch.zeros(1, width, dtype=torch.bool) for name, width in decoupled.filters.items()}
        self._sparse = {node for node, mask in follow_zeros(self._body.graph, codes).items() if mask is not None}
        self._joined: set[fx.Node] = set()

    def steps_of(self, node: fx.Node) -> Iterator[Step]:
        if node.op not in ("call_function", "call_module") or "controls" in node.meta or node in self._joined:
            return
        if node in self._gates:
            yield self._controlled(node, self._gates[node])
        elif node.target is aten.conv2d.default and self._is_narrowed(node):
            yield self._convolution(node)
        elif node.target is aten.linear.default and self._is_narrowed(node):
            yield self._linear(node)
        else:
            yield self._other(node)

    def _is_narrowed(self, node: fx.Node) -> bool:
        """Return whether a layer with weights of its own reads maps of which channels may be missing."""
        weight = node.args[1]
        return isinstance(weight, fx.Node) and weight.op == "get_attr" and node.args[0] in self._sparse

    def _controlled(self, node: fx.Node, gate: fx.Node) -> Step:
        chain = _chain(node, gate)
        self._joined |= {gate, *chain}
        conv, activation = folded_convolution(self._body, chain)
        switch = Switch(self._controllers[gate.meta["layer"]])
        width = conv.filters
        if len(switch.live) < width and conv.groups == 1:
            conv = conv.narrowed(switch.live)
        layer = _Layer(conv, activation, _first(node), width, switch.live)
        self._parts.extend([conv, switch])
        always = switch.is_constant and len(switch.live) == width
        return Step(gate, (layer.source,), layer, None if always else switch)

    def _convolution(self, node: fx.Node) -> Step:
        conv, _ = folded_convolution(self._body, [node])
        self._parts.append(conv)
        return Step(node, (_first(node),), _Layer(conv, None, _first(node), conv.filters))

    def _linear(self, node: fx.Node) -> Step:
        weight, bias = (_tensor(self._body, argument(node, place)) for place in (1, 2))
        assert weight is not None
        linear = ActiveLinear(weight.detach().clone(), None if bias is None else bias.detach().clone())
        self._parts.append(linear)
        source = _first(node)
        return Step(node, (source,), lambda values: whole(linear(values[source])))

    def _other(self, node: fx.Node) -> Step:
        reads = tuple(source for source in node.all_input_nodes if source.op != "get_attr")
        narrow = node.op == "call_function" and any(source in self._sparse for source in tensor_inputs(node))
        operation = _Operation(self._body, node)
        if node.target is aten.relu.default and self._may_overwrite(_first(node)):
            operation.call = torch.relu_
        if narrow and rule_of(node) is not None:
            return Step(node, reads, lambda values: _RULES[str(rule_of(node))](node, values, operation))
        return Step(node, reads, operation)

    def _may_overwrite(self, source: fx.Node) -> bool:
        """Return whether a value is read once, and its memory is its own: the product of a layer or a sum."""
        makers = CONVOLUTIONS | {aten.linear.default, aten.add.Tensor}
        return source.target in makers and len(source.users) == 1


def _chain(node: fx.Node, gate: fx.Node) -> list[fx.Node]:
    """Return the nodes from a convolution to the one whose value its gate multiplies."""
    chain = [_first(gate)]
    while chain[-1] is not node:
        chain.append(_first(chain[-1]))
    return chain[::-1]


def _first(node: fx.Node) -> fx.Node:
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def _tensor(body: fx.GraphModule, value: Any) -> Tensor | None:
    return getattr(body, str(value.target)) if isinstance(value, fx.Node) else None


def _with_last_uses(steps: list[Step], output: fx.Node) -> tuple[Step, ...]:
    """Return the steps, each with the values that no later one reads."""
    last = {node: place for place, step in enumerate(steps) for node in (*step.reads, step.result)}
    last.pop(output)
    done: dict[int, list[fx.Node]] = {}
    for node, place in last.items():
        done.setdefault(place, []).append(node)
    return tuple(replace(step, done=tuple(done.get(place, ()))) for place, step in enumerate(steps))


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """A convolution and its activation, on all filters or on those that are on.

    Attributes:
        width: how many filters there are, with those that are off for good.
        live: the indices of the others; None where there is no gate.
    """

    conv: ActiveConv
    activation: Activation | None
    source: fx.Node
    width: int
    live: Tensor | None = None

    def __call__(self, values: Values, on: Tensor | None = None) -> Maps:
        """Return the maps of the live filters that are on, by their places among the live ones."""
        if on is None or self.live is None or len(on) == self.width:
            return Maps(self._active(values, None), None, self.width)
        among_all = self.live.index_select(0, on)
        return Maps(
            self._active(values, on if len(self.live) == self.conv.filters else among_all), among_all, self.width
        )

    def _active(self, values: Values, on: Tensor | None) -> Tensor:
        chosen = None if on is not None and len(on) == self.conv.filters else on
        made = self.conv(values[self.source], chosen)
        return made if self.activation is None else self.activation(made)


class _Operation:
    """Any other operation, on all channels."""

    def __init__(self, body: fx.GraphModule, node: fx.Node) -> None:
        self.node = node
        self.call: Any = aten.reshape.default if node.target is aten.view.default else node.target  # for any strides
        if node.op == "call_module":
            self.call = copy.deepcopy(body.get_submodule(str(node.target))).eval()
        self._constants = {
            source: getattr(body, str(source.target)).detach().clone()
            for source in node.all_input_nodes
            if source.op == "get_attr"
        }

    def __call__(self, values: Values) -> Any:
        args, kwargs = fx.map_arg((self.node.args, self.node.kwargs), lambda source: self._dense(source, values))
        result = self.call(*args, **kwargs)
        return whole(result) if isinstance(result, Tensor) else result

    def _dense(self, source: fx.Node, values: Values) -> Any:
        if source in self._constants:
            return self._constants[source]
        value = values[source]
        return value.dense if isinstance(value, Maps) else value


def _keep(node: fx.Node, values: Values, operation: _Operation) -> Maps:
    source = values[_first(node)]
    if node.target is aten.max_pool2d.default and _halves(node):
        return replace(source, value=_largest_of_four(source.value))
    return replace(source, value=operation.call(source.value, *node.args[1:], **node.kwargs))


def _halves(node: fx.Node) -> bool:
    """Return whether a max-pool parts an even map into squares of two by two."""
    height, width = node_shape(_first(node))[2:]
    rest = [argument(node, place, default) for place, default in ((3, 0), (4, 1), (5, False))]
    plain = [as_list(value) for value in rest] in ([[0], [1], [False]], [[0, 0], [1, 1], [False]])
    sizes = [2, 2], [2]
    kernel, stride = as_list(argument(node, 1)), as_list(argument(node, 2, []))
    return plain and kernel in sizes and stride in (*sizes, []) and height % 2 == width % 2 == 0


def _largest_of_four(maps: Tensor) -> Tensor:
    """Return ``max_pool2d(maps, 2)``, whose kernel for CPUs is many times slower than these two maxima."""
    rows = torch.maximum(maps[:, :, 0::2], maps[:, :, 1::2])
    return torch.maximum(rows[..., 0::2], rows[..., 1::2])


def _flatten(node: fx.Node, values: Values, _: _Operation) -> Maps:
    source = values[_first(node)]
    each, width = node_shape(node)[1] // source.width, node_shape(node)[1]
    if source.on is None:
        return Maps(source.value.flatten(1), None, width)
    places = torch.arange(each, device=source.on.device)
    return Maps(source.value.flatten(1), (source.on[:, None] * each + places).flatten(), width)


def _sides(node: fx.Node, values: Values) -> tuple[Maps, Maps]:
    left, right = node.args[:2]
    assert isinstance(left, fx.Node)
    assert isinstance(right, fx.Node)
    return values[left], values[right]


def _either(node: fx.Node, values: Values, _: _Operation) -> Maps:
    """Add: what is there on either side is there in the sum."""
    left, right = _sides(node, values)
    if left.on is None and right.on is None:
        return replace(left, value=left.value + right.value)
    if left.on is not None and right.on is not None:
        return _sum_of_some(left, right)
    every, some = (left, right) if left.on is None else (right, left)
    assert some.on is not None
    return replace(every, value=every.value.index_add(1, some.on, some.value))


def _sum_of_some(left: Maps, right: Maps) -> Maps:
    assert left.on is not None
    assert right.on is not None
    there = torch.zeros(left.width, dtype=torch.bool, device=left.on.device)
    there[left.on] = there[right.on] = True
    places = there.cumsum(0) - 1
    union = there.nonzero().flatten()
    total = left.value.new_zeros(len(left.value), len(union), *left.value.shape[2:])
    total.index_add_(1, places[left.on], left.value).index_add_(1, places[right.on], right.value)
    return Maps(total, union, left.width)


def _both(node: fx.Node, values: Values, _: _Operation) -> Maps:
    """Multiply on the channels that either side names."""
    left, right = _sides(node, values)
    if left.on is None and right.on is None:
        return Maps(left.value * right.value, None, left.width)
    few, other = (left, right) if left.on is not None else (right, left)
    assert few.on is not None
    return Maps(few.value * other.dense.index_select(1, few.on), few.on, few.width)


def _concatenate(node: fx.Node, values: Values, _: _Operation) -> Maps:
    sides: Any = node.args[0]
    given = [values[side] for side in sides]
    value, width = torch.cat([side.value for side in given], 1), sum(side.width for side in given)
    if all(side.on is None for side in given):
        return Maps(value, None, width)
    start, places = 0, []
    for side in given:
        own = torch.arange(side.width, device=value.device) if side.on is None else side.on
        places.append(own + start)
        start += side.width
    return Maps(value, torch.cat(places), width)


_RULES: dict[str, Callable[[fx.Node, Values, _Operation], Maps]] = {
    "keep": _keep,
    "flatten": _flatten,
    "either": _either,
    "both": _both,
    "concatenate": _concatenate,
}
