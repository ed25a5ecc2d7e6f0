"""What an architecture figure shows: the layers of a sub-network, its filters, its kernels, its blocks.

Plain data, so that a figure can be drawn from a saved result without the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from neurochains.errors import DataError

__all__ = ["ArchitectureView", "Bypass", "Column", "Edge"]


@dataclass(frozen=True, slots=True)
class Column:
    """One layer; or the input, or the logits, which have no scores."""

    label: str  # "L4B1C2"
    name: str  # dotted name
    total: int  # units of the layer in the original network
    kept: tuple[int, ...]  # indices of the units that stayed
    scores: tuple[float, ...] | None = None  # one for each kept unit; None: this column is not scored
    unit_names: tuple[str, ...] = ()  # one for each kept unit, such as class names


@dataclass(frozen=True, slots=True)
class Edge:
    """One kernel between two kept filters, with its contribution (signed)."""

    source_column: int
    source: int  # index of the filter in its layer
    target_column: int
    target: int
    weight: float


@dataclass(frozen=True, slots=True)
class Bypass:
    """A residual block: columns first to last, which a shortcut goes round. Skipped: only the shortcut is left."""

    first: int
    last: int
    name: str
    skipped: bool = True


@dataclass(frozen=True, slots=True)
class ArchitectureView:
    """A sub-network: columns in order of execution, input first, logits last.

    Raises:
        DataError: an edge or a block refers to what is not there, scores do not fit, or a skipped block has filters.
    """

    columns: tuple[Column, ...]
    edges: tuple[Edge, ...] = ()
    blocks: tuple[Bypass, ...] = ()
    title: str = ""
    total_edges: int | None = None  # kernels between kept filters, when `edges` holds only some of them
    noun: str = "filters"  # what the units are called

    def __post_init__(self) -> None:
        if not self.columns:
            raise DataError("expected at least one column, got none")
        for column in self.columns:
            _check_column(column)
        kept = [set(column.kept) for column in self.columns]
        for edge in self.edges:
            _check_edge(edge, kept)
        for block in self.blocks:
            _check_block(block, kept)
        skipped = sorted((block.first, block.last) for block in self.blocks if block.skipped)
        if any(second[0] <= first[1] for first, second in pairwise(skipped)):
            raise DataError("skipped blocks overlap; name only the outermost one")

    @property
    def kernels(self) -> int:
        """How many kernels connect kept filters."""
        return len(self.edges) if self.total_edges is None else self.total_edges

    @property
    def summary(self) -> str:
        """The size in words, such as "77 of 26,560 filters in 13 of 53 layers"."""
        scored = [column for column in self.columns if column.scores is not None]
        filters, total = sum(len(column.kept) for column in scored), sum(column.total for column in scored)
        layers = sum(bool(column.kept) for column in scored)
        return f"{filters:,} of {total:,} {self.noun} in {layers} of {len(scored)} layers"


def _check_column(column: Column) -> None:
    """Raise when the parts of a column do not fit each other."""
    size = len(column.kept)
    if len(set(column.kept)) != size or any(not 0 <= unit < column.total for unit in column.kept):
        raise DataError(f"the kept units of {column.label} must be distinct and lie in 0 to {column.total - 1}")
    if column.scores is not None and len(column.scores) != size:
        raise DataError(f"{column.label} keeps {size} units, but has {len(column.scores)} scores")
    if column.unit_names and len(column.unit_names) != size:
        raise DataError(f"{column.label} keeps {size} units, but has {len(column.unit_names)} names")


def _check_edge(edge: Edge, kept: list[set[int]]) -> None:
    """Raise when an edge does not lead from a kept filter to one of a later column."""
    if not 0 <= edge.source_column < edge.target_column < len(kept):
        raise DataError(
            f"an edge leads from an earlier to a later of {len(kept)} columns, "
            f"got {edge.source_column} to {edge.target_column}"
        )
    if edge.source not in kept[edge.source_column] or edge.target not in kept[edge.target_column]:
        raise DataError(
            f"an edge joins kept filters, got {edge.source} of column {edge.source_column} "
            f"to {edge.target} of column {edge.target_column}"
        )


def _check_block(block: Bypass, kept: list[set[int]]) -> None:
    """Raise when a block lies outside the columns, or is skipped and yet has filters."""
    if not 0 <= block.first <= block.last < len(kept):
        raise DataError(f"block {block.name} spans columns {block.first} to {block.last} of {len(kept)}")
    if block.skipped and any(kept[block.first : block.last + 1]):
        raise DataError(f"block {block.name} is skipped, yet has kept filters; leave them out or set skipped=False")
