"""Replay: a graph that was run once on a batch runs again from one of its nodes on, for many variants of its value.

1. Two probes, of one and of two samples, show how each value grows with the batch: along its first axis, sample behind
   sample; as a number that is a multiple of it; not at all; or otherwise.
2. *Behind* a node lies what depends on it. What is read there but lies elsewhere is kept from one run on the batch.
3. A replay lays the variants behind each other in the batch and runs only what lies behind. Where a value grows
   otherwise (attention heads before the batch), there can be only one variant at a time.

Shapes: N samples of the batch, V variants of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx

__all__ = ["Replay"]

Growth = Literal["batch", "count", "none", "other"]


@dataclass(frozen=True, slots=True)
class _Behind:
    """What runs again for one node: in order, what it reads from the kept run, and what is spent after each step."""

    nodes: tuple[fx.Node, ...]
    reads: frozenset[fx.Node]
    spent: dict[fx.Node, list[fx.Node]]
    stacks: bool
    peak: int


class Replay:
    """A graph of ``(images, *inputs) -> output`` on a batch of images, and the nodes that it may run again from.

    It runs without gradients. The inputs besides the images are shared by all samples.
    """

    def __init__(
        self, module: fx.GraphModule, images: Tensor, inputs: Sequence[Any], starts: Collection[fx.Node]
    ) -> None:
        self._module = module
        self._nodes = [node for node in module.graph.nodes if node.op != "output"]
        (self._result,) = (node.args[0] for node in module.graph.nodes if node.op == "output")
        self._inputs = tuple(inputs)
        self._batch = len(images)
        self._growth: dict[fx.Node, Growth] = {}
        self._bytes: dict[fx.Node, int] = {}
        self._probe(images[:1])
        self._behind = {start: self._find_behind(start) for start in starts}
        kept = {self._result, *starts}.union(*(behind.reads for behind in self._behind.values()))
        self._values = {node: value for node, value in self._steps(images) if node in kept}

    @property
    def output(self) -> Tensor:
        """The output on the batch."""
        return self._values[self._result]

    def value(self, start: fx.Node) -> Tensor:
        """Return the value of a starting node on the batch."""
        return self._values[start]

    def most(self, start: fx.Node, memory: int) -> int:
        """Return how many variants of a starting node may run at a time within so many bytes; at least one."""
        behind = self._behind[start]
        return max(1, memory // max(1, behind.peak * self._batch)) if behind.stacks else 1

    @torch.no_grad()
    def run(self, start: fx.Node, variants: Tensor) -> Tensor:
        """Return the output for variants ``(V * N, ...)`` of a starting node's value."""
        behind = self._behind[start]
        count = len(variants) // len(self._values[start])
        values: dict[fx.Node, Any] = {node: self._repeated(node, count) for node in behind.reads}
        values[start] = variants
        for node in behind.nodes:
            values[node] = self._call(node, values)
            for other in behind.spent[node]:
                del values[other]
        return values[self._result]

    def _repeated(self, node: fx.Node, count: int) -> Any:
        value, growth = self._values[node], self._growth[node]
        if growth == "batch" and count > 1:
            return value.repeat(count, *(1,) * (value.ndim - 1))
        return value * count if growth == "count" else value

    def _call(self, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        if node.op == "get_attr":
            return getattr(self._module, str(node.target))
        args, kwargs = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        return node.target(*args, **kwargs)  # type: ignore[operator]

    @torch.no_grad()
    def _steps(self, images: Tensor) -> Iterator[tuple[fx.Node, Any]]:
        """Run the whole graph, value by value; each is let go once nothing reads it any more."""
        given = iter((images, *self._inputs))
        spent = _spent_after(self._nodes, self._result)
        values: dict[fx.Node, Any] = {}
        for node in self._nodes:
            values[node] = next(given) if node.op == "placeholder" else self._call(node, values)
            yield node, values[node]
            for other in spent[node]:
                del values[other]

    def _probe(self, image: Tensor) -> None:
        """Note how each value grows and how many bytes it has for one sample."""
        pair = torch.cat([image, image.flip(-1)])
        for (node, one), (_, two) in zip(self._steps(image), self._steps(pair), strict=True):
            self._growth[node] = _growth(one, two)
            self._bytes[node] = one.numel() * one.element_size() if isinstance(one, Tensor) else 0

    def _find_behind(self, start: fx.Node) -> _Behind:
        found = {start}
        for node in self._nodes:
            if not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        nodes = tuple(node for node in self._nodes if node in found and node is not start)
        reads = frozenset(arg for node in nodes for arg in node.all_input_nodes if arg not in found)
        spent = _spent_after(nodes, self._result)
        stacks = self._growth[start] == "batch" and all(self._growth[node] != "other" for node in reads)
        return _Behind(nodes, reads, spent, stacks, self._peak(start, nodes, reads, spent))

    def _peak(
        self, start: fx.Node, nodes: Sequence[fx.Node], reads: Collection[fx.Node], spent: dict[fx.Node, list[fx.Node]]
    ) -> int:
        """Return the bytes, for one sample, that are taken at the fullest moment of a replay."""
        held = {node: self._bytes[node] for node in (start, *reads) if self._growth[node] != "none"}
        now = peak = sum(held.values())
        for node in nodes:
            held[node] = self._bytes[node]
            now += held[node]
            peak = max(peak, now)
            now -= sum(held.get(other, 0) for other in spent[node])
        return peak


def _growth(one: Any, two: Any) -> Growth:
    """Return how a value grows, from its values for one sample and for this one and another."""
    if isinstance(one, int) and not isinstance(one, bool):
        return "none" if two == one else "count" if two == 2 * one else "other"
    if not isinstance(one, Tensor) or one.ndim == 0:
        return "none" if isinstance(one, (float, Tensor)) else "other"
    if one.shape == two.shape:
        return "none"
    if one.shape[1:] != two.shape[1:] or len(two) != 2 * len(one):
        return "other"
    return "batch" if len(one) == 1 or torch.allclose(two[: len(one)], one, rtol=1e-3, atol=1e-4) else "other"


def _spent_after(nodes: Sequence[fx.Node], result: fx.Node) -> dict[fx.Node, list[fx.Node]]:
    """Return, for each node, the values that no later one reads."""
    last: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        last.update(dict.fromkeys((node, *node.all_input_nodes), node))
    spent: dict[fx.Node, list[fx.Node]] = {node: [] for node in nodes}
    for node, reader in last.items():
        if node is not result:
            spent[reader].append(node)
    return spent
