"""What of a drawn network is small enough to be read in the plane, with its pictures."""

from __future__ import annotations

import numpy as np

from neurochains.explorer.desk import Desk
from neurochains.explorer.graph import Drawn
from neurochains.explorer.thumbs import kernel_picture, thumbnail
from neurochains.pictures.explorer_view import CircuitView

__all__ = ["circuit_view"]

_NODES, _IN_COLUMN, _EDGES, _KERNELS = 120, 9, 160, 60


def circuit_view(desk: Desk, drawn: Drawn, selected: int = -1) -> CircuitView:
    """Return the strongest filters of each layer with the kernels between them.

    The selected filter is among them, and so are the strongest that it reads and that read it.
    """
    nodes = _nodes(drawn, selected)
    inside = np.zeros(len(drawn.units), bool)
    inside[nodes] = True
    between = np.flatnonzero(inside[drawn.view.edges].all(1)) if len(drawn.view.edges) else np.zeros(0, int)
    edges = between[np.argsort(-drawn.view.strength[between], kind="stable")][:_EDGES]
    thumbs = {node: picture for node in nodes if (picture := thumbnail(desk, drawn.units[node])[0]) is not None}
    first = sorted(edges.tolist(), key=lambda edge: selected not in drawn.view.edges[edge].tolist())[:_KERNELS]
    kernels = {edge: _kernel(desk, drawn, edge) for edge in first}
    return CircuitView(drawn.view, nodes, edges.tolist(), thumbs, kernels)


def _nodes(drawn: Drawn, selected: int) -> list[int]:
    view = drawn.view
    columns = len(view.layers)
    most = max(2, min(_IN_COLUMN, _NODES // columns))
    chosen: set[int] = set()
    for column in range(columns):
        inside = np.flatnonzero((view.column == column) & view.shown)
        chosen.update(inside[np.argsort(-view.relative[inside], kind="stable")][:most].tolist())
    if selected >= 0:
        touching = np.flatnonzero((view.edges == selected).any(1))
        strongest = touching[np.argsort(-view.strength[touching], kind="stable")][:most]
        chosen |= {selected, *view.edges[strongest].ravel().tolist()}
    return sorted(chosen)


def _kernel(desk: Desk, drawn: Drawn, edge: int) -> str:
    unit, column = drawn.kernels[edge]
    return kernel_picture(desk.weights(unit.layer)[unit.index, column])
