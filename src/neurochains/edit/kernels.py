"""Kernels scaled by scores: a network of which some 2-D kernels count less, or not at all.

A kernel ``(o, i)`` of a layer is what filter ``o`` makes of input channel ``i``; its score multiplies its weights, so
that 0 removes it. A filter of score 0 is 0 everywhere, its bias and batch norm too.

- `KernelNetwork` takes the scores at each call, and gradients reach them.
- `scale_kernels` writes them into the weights: a `Network` like any other, to be compacted or looked at.
- `Readout` says which number at each position is looked at: a filter's map, a logit, a difference of logits, a
  direction. `cut` makes that number the output of a network, with nothing behind it.

Shapes: B images, O units and I inputs per group of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from neurochains.edit.scores import shape_scores
from neurochains.errors import LayerError, did_you_mean
from neurochains.network.layers import Layer
from neurochains.network.network import Network
from neurochains.network.nodes import node_shape, output_node

aten = torch.ops.aten

__all__ = ["OUTPUT", "KernelNetwork", "Readout", "cut", "scale_kernels"]

OUTPUT = "output"

Edit = Callable[[fx.Graph, fx.Node, Layer], fx.Node]
"""Writes what takes the place of a copied node of a layer: of its weight, or of what leaves its site."""


@dataclass(frozen=True, slots=True)
class Readout:
    """A weighted sum of some units of a layer before its activation, or of the outputs (`layer` is ``"output"``)."""

    layer: str
    units: tuple[int, ...]
    weights: tuple[float, ...]

    def of(self, network: Network, maps: Tensor) -> Tensor:
        """Return the sum ``(B, h, w)`` of a layer's maps, or ``(B, 1)`` where there are no positions."""
        axis = _axis(network, self.layer)
        chosen = maps.index_select(axis, torch.tensor(self.units, device=maps.device)).movedim(axis, -1)
        total = chosen.squeeze(-1) if self.weights == (1.0,) else chosen @ maps.new_tensor(self.weights)
        return total if total.ndim > 1 else total.unsqueeze(1)


class KernelNetwork(nn.Module):
    """A network whose kernels and filters are scaled by what each call gives; what is not given counts as 1.

    Args:
        network: the traced model.
        layers: whose kernels are scaled.
        filters: layers whose filters are scaled as well, behind their batch norm or bias.
        taps: the layers whose maps come back, and ``"output"`` for the outputs; nothing behind the last is computed.
    """

    def __init__(
        self,
        network: Network,
        *,
        layers: Sequence[Layer],
        filters: Sequence[Layer] = (),
        taps: Sequence[str] = (OUTPUT,),
    ) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.filters = tuple(filters)
        self.taps = tuple(name if name == OUTPUT else network.layer(name).name for name in taps)
        self._network = network
        self.graph = self._module(network)

    def forward(
        self, images: Tensor, kernels: Mapping[str, Tensor] | None = None, filters: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Return what is tapped by name: maps before the activation, and the outputs ``(B, outputs)``.

        Args:
            images: ``(B, C, H, W)``.
            kernels: by layer name, scores ``(O, I)``.
            filters: by layer name, scores ``(O,)``.
        """
        kernels, filters = kernels or {}, filters or {}
        scores = [_as_weights(kernels.get(layer.name), layer) for layer in self.layers]
        masks = [shape_scores(filters.get(layer.name), layer) for layer in self.filters]
        values = self.graph(self._network.check(images), *scores, *masks)
        return dict(zip(self.taps, values, strict=True))

    def _module(self, network: Network) -> fx.GraphModule:
        graph = fx.Graph()
        inputs: dict[str, fx.Node] = {}

        def start() -> None:
            inputs.update({f"k{layer.name}": graph.placeholder(f"kernels_{layer.index}") for layer in self.layers})
            inputs.update({f"f{layer.name}": graph.placeholder(f"filters_{layer.index}") for layer in self.filters})

        def scale(kind: str) -> Edit:
            return lambda graph, node, layer: _like(graph, node, aten.mul.Tensor, node, inputs[f"{kind}{layer.name}"])

        weights = {layer.producer: (layer, scale("k")) for layer in self.layers}
        sites = {layer.site: (layer, scale("f")) for layer in self.filters}
        nodes = _copy(network, graph, weights, sites, start)
        graph.output([nodes[_node(network, name)] for name in self.taps])
        graph.eliminate_dead_code()
        return fx.GraphModule(network.module, graph)


def scale_kernels(
    network: Network,
    kernels: Mapping[str, Tensor],
    filters: Mapping[str, Tensor] | None = None,
    *,
    skipped: Sequence[str] = (),
) -> Network:
    """Return the network with its kernels, and filters, scaled once and for all; the original is not touched.

    Kernels of score 1 are exact copies, those of score 0 are zeros. Layer names, labels and provenance stay the same.

    Args:
        network: the traced model.
        kernels: by layer name, scores ``(O, I)``; layers not named keep all.
        filters: by layer name, scores ``(O,)``; layers not named keep all.
        skipped: names of blocks that pass on what they read; their layers are still there, and lead nowhere.

    Raises:
        LayerError: a name means no layer or block, or the scores of one have another shape.
    """
    graph, root = fx.Graph(), nn.Module()
    for name, buffer in network.module.named_buffers():
        root.register_buffer(name, buffer)
    known = {network.layer(name): values for name, values in kernels.items()}
    masks = {network.layer(name): values for name, values in (filters or {}).items()}
    for layer, values in known.items():
        _check_shape(network, layer, values)

    def held(graph: fx.Graph, node: fx.Node, layer: Layer) -> fx.Node:
        weight = getattr(network.module, layer.weight)
        scaled = weight * _as_weights(known[layer].to(weight), layer)
        return _constant(graph, root, f"kernels_{layer.index}", scaled, node)

    def masked(graph: fx.Graph, node: fx.Node, layer: Layer) -> fx.Node:
        shaped = torch.as_tensor(shape_scores(masks[layer].to(getattr(network.module, layer.weight)), layer))
        mask = _constant(graph, root, f"filters_{layer.index}", shaped, node)
        mask.meta["val"] = _fake(node, shaped)
        return _like(graph, node, aten.mul.Tensor, node, mask)

    weights = {layer.producer: (layer, held) for layer in known}
    sites = {layer.site: (layer, masked) for layer, values in masks.items() if not bool((values == 1).all())}
    nodes = _copy(network, graph, weights, sites, lambda: None, passed=_passed(network, skipped))
    graph.output(nodes[output_node(network.module.graph)])
    return _network(network, root, graph)


def _passed(network: Network, names: Sequence[str]) -> dict[fx.Node, fx.Node]:
    """Return, for the exit of each of some blocks, its entry."""
    known = {block.name: block for block in network.blocks}
    for name in names:
        if name not in known:
            raise LayerError(f"No block is called {name!r}. {did_you_mean(name, known)}".rstrip())
    return {known[name].exit: known[name].entry for name in names}


def cut(network: Network, readout: Readout) -> Network:
    """Return the network up to a readout, which becomes its output: ``(B, h, w)``, or ``(B, 1)`` without positions.

    The result shares the weights of the network it comes from. What comes earlier is still there, whether it is read or
    not, so that the calls of a reused module keep their names.
    """
    graph, root = fx.Graph(), nn.Module()
    for name, buffer in network.module.named_buffers():
        root.register_buffer(name, buffer)
    end = _node(network, readout.layer)
    nodes = _copy(network, graph, {}, {}, lambda: None, end=end)
    graph.output(_read(network, graph, root, nodes[end], readout))
    return _network(network, root, graph)


def _copy(
    network: Network,
    graph: fx.Graph,
    weights: Mapping[fx.Node, tuple[Layer, Edit]],
    sites: Mapping[fx.Node, tuple[Layer, Edit]],
    start: Callable[[], None],
    end: fx.Node | None = None,
    passed: Mapping[fx.Node, fx.Node] | None = None,
) -> dict[fx.Node, fx.Node]:
    """Copy the nodes as far as `end`, with edits of some weights and behind some sites; `start` adds inputs.

    What reads a node of `passed` reads the one that is named for it.
    """
    nodes: dict[fx.Node, fx.Node] = {}
    for node in network.module.graph.nodes:
        if node.op == "output":
            continue
        copied = graph.node_copy(node, nodes.__getitem__)
        if node.op == "placeholder":
            start()
        if node in weights:
            layer, edit = weights[node]
            weight = copied.args[1]
            assert isinstance(weight, fx.Node)
            with graph.inserting_before(copied):
                copied.update_arg(1, edit(graph, weight, layer))
        if node in sites:
            layer, edit = sites[node]
            copied = edit(graph, copied, layer)
        nodes[node] = nodes[passed[node]] if passed and node in passed else copied
        if node is end:
            break
    return nodes


def _read(network: Network, graph: fx.Graph, root: nn.Module, node: fx.Node, readout: Readout) -> fx.Node:
    """Write a readout of a node: one unit as it is, several weighted and added up."""
    axis, shape = _axis(network, readout.layer), node_shape(node)
    if readout.weights == (1.0,):
        chosen = _like(graph, node, aten.select.int, node, axis, readout.units[0])
        return chosen if len(shape) > 2 else _like(graph, node, aten.unsqueeze.default, chosen, 1)
    direction = torch.zeros(shape[axis], dtype=network.dtype, device=network.device)
    direction[list(readout.units)] = direction.new_tensor(readout.weights)
    shaped = direction.view([-1 if place == axis else 1 for place in range(len(shape))])
    with graph.inserting_before(node):
        weights = _constant(graph, root, "readout", shaped, node)
    weights.meta["val"] = _fake(node, shaped)
    product = _like(graph, node, aten.mul.Tensor, node, weights)
    return _like(graph, node, aten.sum.dim_IntList, product, [axis], len(shape) == 2)


def _like(graph: fx.Graph, node: fx.Node, target: Callable[..., Tensor], *args: object) -> fx.Node:
    """Return a new node in the module of another, with the record of its value where that can be told."""
    made = graph.call_function(target, args)  # type: ignore[arg-type]
    made.meta = dict(node.meta)
    values = [arg.meta.get("val") if isinstance(arg, fx.Node) else arg for arg in args]
    if all(value is not None for value in values):
        made.meta["val"] = target(*values)
    return made


def _constant(graph: fx.Graph, root: nn.Module, name: str, value: Tensor, like: fx.Node) -> fx.Node:
    while hasattr(root, name):
        name += "_"
    root.register_buffer(name, value)
    node = graph.get_attr(name)
    node.meta = dict(like.meta)
    return node


def _fake(node: fx.Node, value: Tensor) -> Tensor:
    """Return the record of a tensor that fits the records of the graph."""
    return node.meta["val"].fake_mode.from_tensor(value)


def _network(source: Network, root: nn.Module, graph: fx.Graph) -> Network:
    module = fx.GraphModule(root, graph).requires_grad_(False)
    module.delete_all_unused_submodules()
    return Network(module, info=source.info, digest=source.digest)


def _node(network: Network, name: str) -> fx.Node:
    return output_node(network.module.graph) if name == OUTPUT else network.layer(name).site


def _axis(network: Network, name: str) -> int:
    return 1 if name == OUTPUT else network.layer(name).axis


def _as_weights(scores: Tensor | None, layer: Layer) -> Tensor | float:
    """Return scores ``(O, I)`` in the shape that multiplies the layer's weights."""
    return 1.0 if scores is None else scores.view(*scores.shape, *[1] * len(layer.kernel))


def _check_shape(network: Network, layer: Layer, scores: Tensor) -> None:
    wanted = tuple(getattr(network.module, layer.weight).shape[:2])
    if tuple(scores.shape) != wanted:
        raise LayerError(f"The kernels of {layer.name} take scores of shape {wanted}; got {tuple(scores.shape)}.")
