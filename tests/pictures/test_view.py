from __future__ import annotations

import pytest

from neurochains.errors import DataError
from neurochains.pictures import ArchitectureView, Bypass, Column, Edge

INPUT = Column("input", "input", 3, (0, 1, 2))
LAYER = Column("L0", "features.0", 8, (1, 5), (0.5, 2.0))
EMPTY = Column("L2", "features.2", 16, (), ())
LOGITS = Column("logits", "fc", 10, (3,), None, ("cat",))


def test_the_summary_counts_scored_columns_only() -> None:
    view = ArchitectureView((INPUT, LAYER, EMPTY, LOGITS))
    assert view.summary == "2 of 24 filters in 1 of 2 layers"
    large = Column("L0", "conv", 26560, tuple(range(1200)), (1.0,) * 1200)
    assert ArchitectureView((INPUT, large)).summary == "1,200 of 26,560 filters in 1 of 1 layers"


def test_kernels_are_the_edges_unless_said_otherwise() -> None:
    edges = (Edge(0, 0, 1, 5, 1.0),)
    assert ArchitectureView((INPUT, LAYER), edges).kernels == 1
    assert ArchitectureView((INPUT, LAYER), edges, total_edges=6).kernels == 6


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column("L0", "x", 8, (8,), (1.0,)), "kept units of L0 must be distinct and lie in 0 to 7"),
        (Column("L0", "x", 8, (1, 1), (1.0, 1.0)), "distinct"),
        (Column("L0", "x", 8, (1,), ()), "L0 keeps 1 units, but has 0 scores"),
        (Column("L0", "x", 8, (1, 2), None, ("a",)), "L0 keeps 2 units, but has 1 names"),
    ],
)
def test_columns_are_checked(column: Column, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArchitectureView((column,))


@pytest.mark.parametrize(
    ("edge", "message"),
    [
        (Edge(1, 5, 0, 0, 1.0), "from an earlier to a later of 3 columns, got 1 to 0"),
        (Edge(1, 5, 1, 1, 1.0), "got 1 to 1"),
        (Edge(0, 0, 7, 0, 1.0), "got 0 to 7"),
        (Edge(0, 0, 1, 4, 1.0), "an edge joins kept filters, got 0 of column 0 to 4 of column 1"),
    ],
)
def test_edges_are_checked(edge: Edge, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ArchitectureView((INPUT, LAYER, LOGITS), (edge,))


def test_blocks_are_checked() -> None:
    columns = (INPUT, EMPTY, EMPTY, LAYER, LOGITS)
    ArchitectureView(columns, blocks=(Bypass(1, 2, "L1B2"), Bypass(3, 3, "L1B3", skipped=False)))
    with pytest.raises(DataError, match="block B spans columns 4 to 5 of 5"):
        ArchitectureView(columns, blocks=(Bypass(4, 5, "B"),))
    with pytest.raises(DataError, match="block B is skipped, yet has kept filters"):
        ArchitectureView(columns, blocks=(Bypass(2, 3, "B"),))
    with pytest.raises(DataError, match="skipped blocks overlap"):
        ArchitectureView(columns, blocks=(Bypass(1, 2, "A"), Bypass(2, 2, "B")))
    with pytest.raises(DataError, match="at least one column"):
        ArchitectureView(())
