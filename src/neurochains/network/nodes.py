"""Reading the nodes of an exported graph: shapes, arguments, constants, and the module a node was called in.

The batch is the one symbol of the graph, so every size is a number once the batch is one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

__all__ = [
    "argument",
    "as_list",
    "batch_axis",
    "before_expansion",
    "constant_name",
    "is_constant",
    "is_learnt",
    "module_path",
    "node_shape",
    "output_node",
    "part_shapes",
    "shape_at",
    "size_at",
    "tensor_inputs",
]


def size_at(size: Any, batch: int = 1) -> int:
    """Return a size of the graph as a number, for a batch of that many images."""
    return int(size) if isinstance(size, int) else _evaluated(size.node.expr, batch)


@functools.lru_cache(maxsize=4096)
def _evaluated(expression: Any, batch: int) -> int:
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def shape_at(value: Any, batch: int = 1) -> tuple[int, ...]:
    """Return the shape of a node's recorded value; ``()`` when it is no tensor."""
    return tuple(size_at(size, batch) for size in value.shape) if isinstance(value, Tensor) else ()


def batch_axis(value: Any) -> tuple[int, int] | None:
    """Return the axis of a node's recorded value that grows with the batch, and by how much with each image."""
    sizes = zip(shape_at(value), shape_at(value, 2), strict=True)
    return next(((axis, one) for axis, (one, two) in enumerate(sizes) if two != one), None)


def node_shape(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of one node's tensor with batch 1; ``()`` when it is no tensor."""
    return shape_at(node.meta.get("val"))


def part_shapes(node: fx.Node) -> list[tuple[int, ...]]:
    """Return the shapes with batch 1 of an operation with several outputs."""
    return [shape_at(part) for part in node.meta["val"]]


def argument(node: fx.Node, position: int, default: Any = None) -> Any:
    """Return one argument of an operation, given by position or by name; exported graphs leave defaults out."""
    if len(node.args) > position:
        return node.args[position]
    if not node.kwargs:
        return default
    return node.kwargs.get(node.target._schema.arguments[position].name, default)  # type: ignore[union-attr]


def as_list(value: Any) -> list[Any]:
    """Return a number as a list of one, a sequence as a list."""
    return list(value) if isinstance(value, (tuple, list)) else [value]


def module_path(node: fx.Node) -> tuple[str, str]:
    """Return the dotted path and the class name of the module that a node was called in."""
    stack = node.meta.get("nn_module_stack") or {}
    path, kind = list(stack.values())[-1] if stack else ("", "")
    path = re.sub(r"@\d+$", "", str(path))
    return path.removeprefix("model").removeprefix("."), str(kind).rsplit(".", 1)[-1]


def is_constant(value: Any) -> bool:
    """Return whether an argument is no node at all, or a parameter or buffer."""
    return not isinstance(value, fx.Node) or value.op == "get_attr"


def is_learnt(node: fx.Node) -> bool:
    """Return whether a constant is a parameter or computed from one; a buffer is not."""
    return node.meta["learnt"] if "learnt" in node.meta else any(map(is_learnt, node.all_input_nodes))


def constant_name(node: fx.Node) -> str:
    """Return the name that a parameter or buffer node has in the user's model."""
    return str(node.meta.get("constant", node.target))


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """Return the computed (not constant, not symbolic) tensors, or lists of them, that a node reads."""
    kinds = (Tensor, tuple, list)
    return [arg for arg in node.all_input_nodes if arg.op != "get_attr" and isinstance(arg.meta.get("val"), kinds)]


def before_expansion(node: fx.Node) -> fx.Node:
    """Return the tensor that a node repeats along axes of size 1; the node itself if it does no such thing."""
    expansions = (torch.ops.aten.expand.default, torch.ops.aten.expand_as.default)
    while node.target in expansions and isinstance(node.args[0], fx.Node) and node.args[0].op == "call_function":
        node = node.args[0]
    return node


def output_node(graph: fx.Graph) -> fx.Node:
    """Return the node whose value the graph gives back."""
    (output,) = (node for node in graph.nodes if node.op == "output")
    (result,) = _nodes(output.args)
    return result


def _nodes(value: Any) -> Iterator[fx.Node]:
    if isinstance(value, fx.Node):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _nodes(part)
