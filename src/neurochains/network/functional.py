"""Writing in-place operations as functional ones, where that is a matter of names.

``relu_(x)`` becomes ``relu(x)``, and what reads ``x`` later reads the result. That is right when no other tensor shares
memory with ``x``: when ``x`` is no view, and no view of ``x`` is read afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

__all__ = ["drop_without_effect", "is_functional", "make_functional"]

_DROPOUT = frozenset({aten.dropout.default, aten.feature_dropout.default})


def make_functional(graph: fx.Graph) -> None:
    """Replace, in place, the in-place operations that write into memory of their own."""
    order = {node: place for place, node in enumerate(graph.nodes)}
    for node in list(graph.nodes):
        target = _functional_target(node)
        if target is not None and _owns_its_memory(node.args[0], node, order):
            _redirect(node, order)
            node.target = target


def drop_without_effect(graph: fx.Graph) -> None:
    """Remove, in place, dropout that lets everything pass and run-time checks of types and sizes."""
    for node in reversed(list(graph.nodes)):
        if node.target in _DROPOUT and not node.args[2]:
            node.replace_all_uses_with(node.args[0])
        elif node.users or "assert" not in str(node.target):
            continue
        graph.erase_node(node)


def is_functional(graph: fx.Graph) -> bool:
    """Return whether no operation of a graph writes into its arguments."""
    return not any(_writes(node) for node in graph.nodes)


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _functional_target(node: fx.Node) -> Any:
    """Return ``relu`` for ``relu_``, with the same overload; None for what is not in place."""
    if not _writes(node) or not isinstance(node.args[0], fx.Node):
        return None
    assert isinstance(node.target, torch._ops.OpOverload)
    name, overload = node.target._schema.name.split("::")[1], node.target._overloadname
    packet = getattr(aten, name.removesuffix("_"), None) if name.endswith("_") else None
    return getattr(packet, overload, None)


def _owns_its_memory(written: Any, node: fx.Node, order: dict[fx.Node, int]) -> bool:
    if written.op not in ("call_function", "placeholder") or _is_view(written):
        return False
    return not any(_is_read_after(view, node, order) for view in _views_of(written))


def _is_view(node: fx.Node) -> bool:
    """Return whether a result may share memory with an argument, which an in-place operation is bound to do."""
    if node.op == "placeholder":
        return False
    if not isinstance(node.target, torch._ops.OpOverload):
        return True
    if _writes(node) or node.target is aten.to.dtype:
        return True
    return any(result.alias_info is not None for result in node.target._schema.returns)


def _views_of(node: fx.Node) -> Iterator[fx.Node]:
    for user in node.users:
        if isinstance(user.meta.get("val"), (Tensor, list, tuple)) and _is_view(user) and not _writes(user):
            yield user
            yield from _views_of(user)


def _is_read_after(view: fx.Node, node: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Return whether a view taken before an operation is read after it."""
    return order[view] < order[node] and any(order[user] > order[node] for user in view.users)


def _redirect(node: fx.Node, order: dict[fx.Node, int]) -> None:
    """Make what reads the written tensor afterwards read the result."""
    written = node.args[0]
    assert isinstance(written, fx.Node)
    written.replace_all_uses_with(node, delete_user_cb=lambda user: order[user] > order[node])
