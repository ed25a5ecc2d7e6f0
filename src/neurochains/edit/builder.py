"""The compact graph while it is written: its nodes, the tensors that it holds, and the channels of its flows."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from neurochains.edit.flow import Flow, Held
from neurochains.network.nodes import size_at, tensor_inputs

aten = torch.ops.aten

__all__ = ["Builder"]

MAP_AXES = 4  # of maps: images, channels, rows, columns
CHANNELS_LAST, CHANNELS_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]


class Builder:
    """What all rules of compaction share.

    Attributes:
        kept: by producer node of the original graph, the indices of the units to keep.
        graph, root: the graph being written and the module that holds its tensors.
        flows: by original node, its `Flow` or `Held`, a list of them, or the new node of a size.
    """

    def __init__(self, source: fx.GraphModule, kept: Mapping[fx.Node, Tensor]) -> None:
        self.kept = kept
        self.graph = fx.Graph()
        self.root = nn.Module()
        self.flows: dict[fx.Node, Any] = {}
        self._source = source
        self._whole: dict[Flow, fx.Node] = {}
        self._held: dict[str, fx.Node] = {}
        self._images: fx.Node | None = None
        self._batch: fx.Node | None = None

    def start(self, placeholder: fx.Node) -> None:
        """Begin with the images, all channels alive."""
        self._images = self.graph.placeholder("images")
        self.flows[placeholder] = Flow(self._images, placeholder.meta["val"])

    # --- writing nodes ------------------------------------------------------------------------------------------------

    def call(self, target: Any, *args: Any) -> fx.Node:
        """Return a new node."""
        return self.graph.call_function(target, args)

    def run(self, node: fx.Node, flow: Flow, *args: Any) -> fx.Node | None:
        """Return an original operation as a new node on a flow's alive channels; None when there are none.

        Args:
            node: the original node.
            flow: what takes the place of its first argument.
            args: the others, as nodes of either graph.
        """
        if flow.node is None:
            return None
        rest, kwargs = fx.map_arg((args, node.kwargs), self._own_or_value)
        return self.graph.call_function(_target(node), (flow.node, *rest), kwargs)

    def without_rule(self, node: fx.Node) -> Any:
        """Run an operation at full width."""
        args, kwargs = fx.map_arg((node.args, node.kwargs), self.value)
        new = self.graph.call_function(_target(node), args, kwargs)
        value = node.meta.get("val")
        return Flow(new, value) if isinstance(value, Tensor) else new

    def size(self, size: Any) -> Any:
        """Return a size of the original graph, which is a number or grows with the batch."""
        if isinstance(size, int):
            return size
        if self._batch is None:
            self._batch = self.call(aten.sym_size.int, self._images, 0)
        once, twice = size_at(size, 1), size_at(size, 2)
        multiple = self._batch if twice - once == 1 else self.call(operator.mul, self._batch, twice - once)
        return multiple if twice == 2 * once else self.call(operator.add, multiple, 2 * once - twice)

    def source(self, node: fx.Node) -> Any:
        """Return the flow that an original node reads first."""
        return self.flows[node.args[0]]  # type: ignore[index]

    # --- tensors that are held ----------------------------------------------------------------------------------------

    def hold(self, tensor: Tensor, name: str = "") -> fx.Node:
        """Return a node that reads a tensor, kept as a buffer; a name makes several readers share it."""
        if name in self._held:
            return self._held[name]
        key = name or f"held_{len(self._held)}"
        self.root.register_buffer(key, tensor)
        with self.graph.inserting_before(next(iter(self.graph.nodes))):
            self._held[key] = self.graph.get_attr(key)
        return self._held[key]

    def weight(self, argument: Any) -> Tensor | None:
        """Return the parameter or buffer that an argument names; None when it is something else."""
        is_weight = isinstance(argument, fx.Node) and argument.op == "get_attr"
        return getattr(self._source, str(argument.target)) if is_weight else None

    def hold_part(self, argument: Any, rows: Tensor, columns: Tensor | None = None) -> fx.Node | None:
        """Return a node that reads rows, and columns of these, of a parameter: exact copies, shared when whole."""
        weight = self.weight(argument)
        if weight is None:
            return None
        every_row = _is_everything(rows, len(weight))
        if every_row and (columns is None or _is_everything(columns, weight.shape[1])):
            return self.value(argument)
        part = weight if every_row else weight[rows.to(weight.device)]
        return self.hold(part if columns is None else part[:, columns.to(weight.device)])

    # --- reading flows at full width ----------------------------------------------------------------------------------

    def value(self, argument: fx.Node) -> Any:
        """Return an original node's value at full width."""
        if argument.op == "get_attr":
            return self.hold(getattr(self._source, str(argument.target)), str(argument.target))
        flow = self.flows[argument]
        return self.whole(flow) if isinstance(flow, (Flow, Held)) else flow

    def whole(self, flow: Flow | Held) -> fx.Node:
        """Return a tensor at full width: alive channels in their places, constants in the others."""
        if isinstance(flow, Held):
            return self._replay(flow)
        if flow not in self._whole:
            node = flow.node if flow.dense else self.spread(flow, torch.arange(flow.width)).node
            assert node is not None
            self._whole[flow] = node
        return self._whole[flow]

    def _own_or_value(self, argument: fx.Node) -> Any:
        return argument if argument.graph is self.graph else self.value(argument)

    def as_flow(self, flow: Flow | Held) -> Flow:
        """Return what is held back as a dense flow."""
        return flow if isinstance(flow, Flow) else Flow(self.whole(flow), flow.nodes[-1].meta["val"])

    def _replay(self, held: Held) -> fx.Node:
        """Write the operations that were held back, at full width."""
        (first, *_) = tensor_inputs(held.nodes[0])
        values = {first: self.whole(held.anchor)}
        for node in held.nodes:
            args = fx.map_arg(node.args, lambda arg: values[arg] if arg in values else self.value(arg))
            values[node] = self.graph.call_function(_target(node), args, dict(node.kwargs))
        return values[held.nodes[-1]]

    # --- choosing channels --------------------------------------------------------------------------------------------

    def spread(self, flow: Flow, alive: Tensor) -> Flow:
        """Return a flow with more channels alive, in the order given: those that join carry their constant."""
        if torch.equal(alive, flow.alive):
            return flow
        sizes = [self.size(size) for size in flow.value.shape]
        sizes[flow.axis] = len(alive)
        shape = [-1 if axis == flow.axis else 1 for axis in range(len(sizes))]
        values = flow.constant.index_fill(0, flow.alive, 0)[alive].to(flow.value.dtype).view(shape)
        held = self.hold(values)
        if flow.node is not None:  # under autocast, the type is known only when it runs
            held = self.call(aten.to.other, held, flow.node)
        node = self.call(aten.expand.default, held, sizes)
        if flow.node is not None:
            node = self.add_at(node, flow, alive, flow.node)
        return replace(flow, node=node, alive=alive)

    def select(self, flow: Flow, wanted: Tensor) -> Flow:
        """Return a flow with some of its alive channels, in the order given."""
        if torch.equal(flow.alive, wanted):
            return flow
        if flow.node is None or not len(wanted):
            return replace(flow, node=None, alive=wanted)
        places = _places(flow.alive, flow.width)[wanted]
        return replace(flow, node=self.index(aten.index_select.default, flow, flow.node, places), alive=wanted)

    def add_at(self, node: fx.Node, flow: Flow, alive: Tensor, added: fx.Node) -> fx.Node:
        """Return a node with channels `alive`, to which another with those of a flow is added in their places."""
        return self.index(aten.index_add.default, flow, node, _places(alive, flow.width)[flow.alive], added)

    def index(self, target: Any, flow: Flow, node: fx.Node, places: Tensor, *others: fx.Node) -> fx.Node:
        """Return an indexing operation along a flow's axis, on nodes that are laid out as it is.

        On maps it runs along the last axis of their channels-last view, which keeps that layout: an operation along the
        second axis gives it up, and is slower in it.
        """
        if len(flow.shape) != MAP_AXES or flow.axis != 1:
            return self.call(target, node, flow.axis, self.hold(places), *others)
        node, *rest = [self.call(aten.permute.default, one, CHANNELS_LAST) for one in (node, *others)]
        return self.call(aten.permute.default, self.call(target, node, 3, self.hold(places), *rest), CHANNELS_FIRST)

    def pick(self, flow: Flow, wanted: Tensor) -> Flow:
        """Return a flow whose alive channels are exactly `wanted`, in that order."""
        return self.spread(self.select(flow, wanted[torch.isin(wanted, flow.alive)]), wanted)

    def revive(self, flow: Flow) -> Flow:
        """Return a flow whose absent channels are all 0: those with another constant are made real."""
        if flow.dense or not len(flow.live_constants):
            return flow
        return self.spread(flow, torch.cat([flow.alive, flow.live_constants]).sort().values)

    def scale(self, flow: Flow | Held, axis: int, kept: Tensor, score: fx.Node) -> Flow:
        """Multiply the kept channels of a layer by their scores; the others become 0."""
        flow = self.pick(self.as_flow(flow).with_channels(axis), kept)
        node = self.call(aten.mul.Tensor, flow.node, score) if len(kept) else None
        return replace(flow, node=node, constant=torch.zeros_like(flow.constant)).simplified()


def _target(node: fx.Node) -> Any:
    return node.target


def _is_everything(indices: Tensor, width: int) -> bool:
    return len(indices) == width and torch.equal(indices, torch.arange(width))


def _places(alive: Tensor, width: int) -> Tensor:
    """Return ``(width,)``: where each channel is among those alive; meaningless for the others."""
    places = torch.zeros(width, dtype=torch.int64)
    places[alive] = torch.arange(len(alive))
    return places
