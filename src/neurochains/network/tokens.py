"""The tokens of a vision transformer: where they enter, which are patches, which blocks read them.

1. The *entry* of an attention is the last tensor before it that every path passes through: the stream
   ``(B, tokens, width)``. Attentions with one entry form one block.
2. From the first entry on, `neurochains.network.layouts` follows the tokens to the output.
3. Tokens that are the same for two different images are special (class, distillation, register tokens); they come
   first. The others are the patches of the map that was made into tokens, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from neurochains.network.attention import Attention, find_attentions, other_attention
from neurochains.network.blocks import spine
from neurochains.network.layouts import BATCH, Layout, LostTokensError, TokenAxis, follow, token_axes
from neurochains.network.nodes import node_shape, output_node, tensor_inputs

__all__ = ["NoTokens", "TokenBlock", "Tokens", "find_tokens", "values_of"]


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """A stretch that begins at `entry`, the stream that its attentions read; `name` is that of the first."""

    name: str
    entry: fx.Node
    attentions: tuple[Attention, ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """What was found out about the tokens of a network.

    Attributes:
        special: how many tokens come before the patches; they are never scored.
        grid: rows and columns of patches.
        blocks: in order of execution.
        layouts: of every node from the first entry on that holds tokens.
        pools: the nodes that average over patches.
    """

    special: int
    grid: tuple[int, int]
    blocks: tuple[TokenBlock, ...]
    layouts: dict[fx.Node, Any]
    pools: tuple[fx.Node, ...]

    @property
    def patches(self) -> int:
        """The number of patches."""
        return math.prod(self.grid)

    @property
    def count(self) -> int:
        """The number of tokens, special ones included."""
        return self.special + self.patches

    def keys(self, attention: Attention) -> TokenAxis:
        """Return the tokens that an attention reads."""
        return _key_axis(attention, self.layouts)

    @property
    def least(self) -> int:
        """In how many blocks, from the first, each image must keep a patch, as attention or an average needs one."""
        if any(not _averaged(node, self.layouts).lead for node in self.pools):
            return len(self.blocks)
        alone = [not all(self.keys(attention).lead for attention in block.attentions) for block in self.blocks]
        return max((place + 1 for place, needs in enumerate(alone) if needs), default=0)


@dataclass(frozen=True, slots=True)
class NoTokens:
    """Why no patches can be scored."""

    reason: str


def find_tokens(module: fx.GraphModule) -> Tokens | NoTokens:
    """Return the tokens of a traced network, or the reason why there are none that could be dropped."""
    attentions = find_attentions(module.graph)
    if not attentions:
        others = other_attention(module.graph)
        also = f" ({others[0].lower()}{others[1:]})" if others else ""
        return NoTokens(f"it has no attention that weights values by keys{also}")
    try:
        blocks = _blocks(module.graph, attentions)
        special, patches = _split(module, blocks[0].entry)
        layouts = _layouts(module.graph, blocks, TokenAxis(special, patches))
        return Tokens(special, _grid(blocks[0].entry, patches), blocks, layouts, _pools(layouts))
    except LostTokensError as error:
        return NoTokens(str(error))


def _blocks(graph: fx.Graph, attentions: Sequence[Attention]) -> tuple[TokenBlock, ...]:
    """Return attentions with the same entry as one block."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    trunk = [node for node in spine(graph) if order[node] < order[attentions[-1].maps]]
    first = max((node for node in trunk if order[node] < order[attentions[0].maps]), key=order.__getitem__)
    shape = node_shape(first)
    if first.op == "placeholder" or len(shape) != 3:
        raise LostTokensError(
            f"its first attention, {attentions[0].name}, reads a tensor {shape}, no row of tokens (1, tokens, width)"
        )
    streams = [node for node in trunk if len(node_shape(node)) == 3 and node_shape(node)[:2] == shape[:2]]
    grouped: dict[fx.Node, list[Attention]] = {}
    for attention in attentions:
        entry = max((node for node in streams if order[node] < order[attention.maps]), key=order.__getitem__)
        grouped.setdefault(entry, []).append(attention)
    return tuple(TokenBlock(parts[0].name, entry, tuple(parts)) for entry, parts in grouped.items())


def _split(module: fx.GraphModule, entry: fx.Node) -> tuple[int, int]:
    """Return the numbers of special tokens and of patches, from what two random images have in common."""
    (images,) = (node for node in module.graph.nodes if node.op == "placeholder")
    shape, device = node_shape(images)[1:], next(module.buffers()).device
    generator = torch.Generator().manual_seed(0)
    pair = torch.randn(2, *shape, generator=generator).to(device, images.meta["val"].dtype)
    with torch.no_grad():
        stream = values_of(module, entry)(pair)
    same = (stream[0] == stream[1]).all(-1).tolist()
    special = same.index(False) if False in same else len(same)
    if any(same[special:]) or special == len(same):
        raise LostTokensError("its special tokens do not stand before the patches")
    return special, len(same) - special


def values_of(module: fx.GraphModule, node: fx.Node) -> fx.GraphModule:
    """Return the graph up to a node: ``images -> its value``."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for old in module.graph.nodes:
        copies[old] = graph.node_copy(old, copies.__getitem__)
        if old is node:
            break
    graph.output(copies[node])
    graph.eliminate_dead_code()
    return fx.GraphModule(module, graph)


def _grid(entry: fx.Node, patches: int) -> tuple[int, int]:
    """Return rows and columns of the map that was made into patches; a single row only where there is no other."""
    queue, seen, lines = [entry], set(), []
    while queue:
        node = queue.pop(0)
        if node in seen:
            continue
        seen.add(node)
        shape = node_shape(node)
        for rows, columns in (shape[2:], shape[1:3]) if len(shape) == 4 else ():
            if rows * columns == patches:
                if min(rows, columns) > 1 or patches == 1:
                    return rows, columns
                lines.append((rows, columns))
        queue.extend(tensor_inputs(node))
    if lines:
        return lines[0]
    raise LostTokensError(f"its {patches} patches come from no map with as many positions")


def _layouts(graph: fx.Graph, blocks: Sequence[TokenBlock], tokens: TokenAxis) -> dict[fx.Node, Any]:
    entry = blocks[0].entry
    stream: Layout = ((BATCH,), (tokens,), (node_shape(entry)[2],))
    reads = {attention.read for block in blocks for attention in block.attentions}
    layouts: dict[fx.Node, Any] = {entry: stream}
    later = False
    for node in graph.nodes:
        if later and node.op == "call_function" and any(arg in layouts for arg in node.all_input_nodes):
            layout = follow(node, layouts, reads)
            if layout is not None:
                layouts[node] = layout
        later = later or node is entry
    _check_attentions(blocks, layouts, stream)
    if output_node(graph) in layouts:
        raise LostTokensError("its outputs are one for each token")
    return layouts


def _check_attentions(blocks: Sequence[TokenBlock], layouts: dict[fx.Node, Any], stream: Layout) -> None:
    for block in blocks:
        if layouts.get(block.entry, ())[:2] != stream[:2]:
            raise LostTokensError(f"{block.name} begins with a tensor {node_shape(block.entry)} instead of the tokens")
        for attention in block.attentions:
            _key_axis(attention, layouts)


def _key_axis(attention: Attention, layouts: dict[fx.Node, Any]) -> TokenAxis:
    node, place = (attention.softmax, -1) if attention.softmax else (attention.read.args[1], -2)
    layout = layouts.get(node)  # type: ignore[arg-type]
    axis = layout[place] if layout else ()
    if len(axis) != 1 or not isinstance(axis[0], TokenAxis):
        raise LostTokensError(f"{attention.name} is attention between channels, not between tokens")
    return axis[0]


def _pools(layouts: dict[fx.Node, Any]) -> tuple[fx.Node, ...]:
    """Return the averages over an axis of patches."""
    means = {user for node in layouts for user in node.users if user.target is torch.ops.aten.mean.dim}
    return tuple(node for node in means if _count_axes(layouts.get(node)) < _count_axes(layouts[node.args[0]]))  # type: ignore[index]


def _averaged(pool: fx.Node, layouts: dict[fx.Node, Any]) -> TokenAxis:
    return next(iter(token_axes(layouts[pool.args[0]]).values()))  # type: ignore[index]


def _count_axes(layout: Any) -> int:
    return sum(isinstance(factor, TokenAxis) for axis in layout or () for factor in axis)
