"""The explorer's figure of clusters: the patches of a filter in the plane, each cluster in its colour."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.pictures.explorer_figures import INK

__all__ = ["CLUSTER_COLOURS", "clusters_figure"]

CLUSTER_COLOURS = ("#2f8f83", "#e8590c", "#7048e8", "#1c7ed6", "#c2255c", "#5c940d", "#f08c00", "#495057")
_NONE = "#ced4da"


def clusters_figure(places: NDArray[Any], labels: NDArray[Any]) -> dict[str, Any]:
    """Return the patches ``(P, 2)`` by cluster ``(P,)``; -1, in none, is pale."""
    data = []
    for cluster in sorted(set(labels.tolist()), key=lambda label: (label < 0, label)):
        inside = places[np.asarray(labels) == cluster]
        colour = _NONE if cluster < 0 else CLUSTER_COLOURS[cluster % len(CLUSTER_COLOURS)]
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "in none" if cluster < 0 else f"cluster {cluster + 1}",
                "x": inside[:, 0].round(3).tolist(),
                "y": inside[:, 1].round(3).tolist(),
                "marker": {"size": 7, "color": colour, "opacity": 0.85},
                "hoverinfo": "name",
            }
        )
    hidden = {"visible": False}
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": INK, "size": 11},
        "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
        "xaxis": hidden,
        "yaxis": {**hidden, "scaleanchor": "x"},
        "legend": {"orientation": "h", "y": 0, "yanchor": "top", "font": {"size": 10}},
    }
    return {"data": data, "layout": layout}
