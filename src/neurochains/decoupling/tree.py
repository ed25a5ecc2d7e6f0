"""The decision process: at which layer which images part, as a tree (Li et al. 2020, supplement A.3).

1. All images start in one node, at the first controlled layer or one further up.
2. The codes of the node's images in this layer are tested for groups (`clusterable`).
3. Without groups, the same node goes on to the next layer. With them, k-means parts the images in two, and each half
   goes on from the next layer by itself.
4. A node that has passed the last layer, or has too few images, is a leaf.

A parting that would leave one half with too few images is not made: a few odd images are no class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurochains.decoupling.clusterable import ALPHA, LEAST, Clusterability, clusterability, two_groups
from neurochains.decoupling.paths import Paths
from neurochains.errors import LayerError, SettingsError, did_you_mean

__all__ = ["DecisionNode", "DecisionTree", "decision_tree"]

_SMALLEST, _SHARE = 10, 0.05


@dataclass(frozen=True, slots=True, eq=False)
class DecisionNode:
    """Images that took the same way so far.

    Attributes:
        images: their places among all images, ``(n,)``.
        tests: by layer, the outcome of the test in each layer that these images passed together or parted at.
        layer: where they part; None in a leaf.
        children: none, or two nodes.
    """

    images: Tensor
    tests: dict[str, Clusterability]
    layer: str | None
    children: tuple[DecisionNode, ...]

    def walk(self, depth: int = 0) -> Iterator[tuple[int, DecisionNode]]:
        """Yield this node and all below it, each with its depth, parents first."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


@dataclass(frozen=True, slots=True, eq=False)
class DecisionTree:
    """The way of all images.

    Attributes:
        root: the node of all images.
        paths: what was parted.
    """

    root: DecisionNode
    paths: Paths

    @property
    def leaves(self) -> list[DecisionNode]:
        """The ends, from one side to the other."""
        return [node for _, node in self.root.walk() if not node.children]

    def counts(self, node: DecisionNode) -> dict[str, int]:
        """Return how many images of each class a node holds, the most first; nothing where classes are not known."""
        labels = self.paths.labels
        if labels is None:
            return {}
        found, many = labels[node.images].unique(return_counts=True)
        pairs = sorted(zip(many.tolist(), found.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
        return {self.paths.class_name(label): count for count, label in pairs if label >= 0}

    def purity(self) -> float:
        """Return the share of images that are of their leaf's most frequent class.

        Raises:
            DataError: the classes of the images are not known.
        """
        known = sum(len(self.paths.of_class(label)) for label in self.paths.classes)
        return sum(max(self.counts(leaf).values(), default=0) for leaf in self.leaves) / known

    def parting(self, first: int, second: int) -> str | None:
        """Return the layer at which most images of one class leave those of another; None where they never do.

        Raises:
            DataError: there are no images of one of the classes.
        """
        names = [self.paths.of_class(label).class_name(label) for label in (first, second)]
        node = self.root
        while node.children:
            here, left = self.counts(node), self.counts(node.children[0])
            stays = [2 * left.get(name, 0) > here.get(name, 0) for name in names]
            if stays[0] != stays[1]:
                return node.layer
            node = node.children[0 if stays[0] else 1]
        return None

    def to_json(self) -> dict[str, Any]:
        """Return the tree as JSON values: images, counts of classes, tests, layer and children of each node."""
        return self._described(self.root)

    def _described(self, node: DecisionNode) -> dict[str, Any]:
        tests = {name: {"hopkins": test.statistic, "p": test.p} for name, test in node.tests.items()}
        children = [self._described(child) for child in node.children]
        counts = self.counts(node)
        return {"images": len(node.images), "classes": counts, "layer": node.layer, "tests": tests, "parts": children}


def decision_tree(
    paths: Paths,
    *,
    start: str | None = None,
    smallest: int | None = None,
    least: float = LEAST,
    alpha: float = ALPHA,
    seed: int = 0,
) -> DecisionTree:
    """Return at which layer which images part.

    Args:
        paths: of some hundred images at least, of all classes that are of interest.
        start: the layer to begin at, the first if None. Bottom layers part images by what they look like, and images
            of one class that are parted there do not come together again; a start further up shows how classes part.
        smallest: the fewest images of a node, at least 2; nodes with less than twice as many are leaves. By default a
            twentieth of all images, and at least 10.
        least: the smallest Hopkins statistic at which images part, .5 to 1.
        alpha: the level of the test for groups.
        seed: of the test and of k-means.

    Raises:
        LayerError: there are no codes of the layer to begin at; lists the nearest.
        SettingsError: a number is out of range, or scikit-learn is not installed.
    """
    if start is not None and start not in paths.layers:
        raise LayerError(f"No controlled layer is called {start!r}. {did_you_mean(start, paths.layers)}".rstrip())
    fewest = max(_SMALLEST, round(_SHARE * len(paths))) if smallest is None else smallest
    if fewest < 2 or not 0.5 <= least <= 1:
        raise SettingsError(f"smallest is 2 or more, and least from .5 to 1; got {fewest} and {least}.")
    grower = _Grower(paths, fewest, least, alpha, seed)
    first = 0 if start is None else paths.layers.index(start)
    return DecisionTree(grower.grow(torch.arange(len(paths)), first), paths)


@dataclass(frozen=True, slots=True)
class _Grower:
    paths: Paths
    smallest: int
    least: float
    alpha: float
    seed: int

    def grow(self, images: Tensor, start: int) -> DecisionNode:
        """Return the node of some images, from a layer on."""
        tests: dict[str, Clusterability] = {}
        layers = self.paths.layers
        for number in range(start, len(layers) if len(images) >= 2 * self.smallest else start):
            codes = self.paths.codes[layers[number]][images]
            tests[layers[number]] = clusterability(codes, alpha=self.alpha, seed=self.seed + number)
            if not tests[layers[number]].holds(least=self.least, alpha=self.alpha):
                continue
            groups = two_groups(codes, seed=self.seed)
            halves = [images[groups == group] for group in (0, 1)]
            if min(map(len, halves)) >= self.smallest:
                children = tuple(self.grow(half, number + 1) for half in halves)
                return DecisionNode(images, tests, layers[number], children)
        return DecisionNode(images, tests, None, ())
