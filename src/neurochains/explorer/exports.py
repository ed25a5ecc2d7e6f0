"""Exports: the ranking as CSV, the view as one HTML file that needs no network. Figures have a button of their own."""

from __future__ import annotations

import csv
import io
import json
from html import escape
from typing import Any

from dash import Dash, Input, Output, State, dcc, no_update

from neurochains.errors import NeuroChainsError
from neurochains.explorer import ids
from neurochains.explorer.asking import NotMeasured, answer
from neurochains.explorer.desk import Desk
from neurochains.explorer.graph import draw
from neurochains.explorer.graph_panel import counted, figure
from neurochains.explorer.thumbs import thumbnail
from neurochains.explorer.view import View
from neurochains.explorer.widgets import hint, item, menu

__all__ = ["callbacks", "layout", "offline_page", "ranking"]

_COLUMNS = ("rank", "label", "name", "layer", "filter", "channel", "score", "share")
_ROWS, _TILES = 100_000, 24
PANEL_HERE = "<!-- the open panel -->"


def layout() -> list[Any]:
    """Return the menu."""
    items = [
        item("Ranking of filters (CSV)", ids.SAVE_CSV),
        item("Tables of the open panel (CSV)", ids.SAVE_TABLES),
        item("Figures that are shown (SVG)", ids.SAVE_SVG),
        item("Figures that are shown (PNG)", ids.SAVE_PNG),
        item("This view (one HTML file)", ids.SAVE_HTML),
        hint("The camera on a figure saves it alone, as SVG"),
    ]
    return [menu("Save", items), dcc.Download(id=ids.SAVED)]


def ranking(desk: Desk, view: View) -> str:
    """Return the filters with a score above 0 as CSV, the largest first; the columns of ``neurochains query --csv``.

    A name that a spreadsheet would read as a formula has an apostrophe in front.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for place, row in enumerate(answer(desk, view).result.rows(_ROWS), 1):
        cells = (row.label, row.name, row.layer)
        writer.writerow((place, *map(_plain, cells), row.filter, "", repr(row.score), repr(row.share)))
    return stream.getvalue()


def offline_page(desk: Desk, view: View) -> str:
    """Return the view as one HTML file: the graph, which still turns, and the first filters of the ranking.

    Where `PANEL_HERE` stands in it, the browser puts what its open panel shows (`assets/explorer.js`).
    """
    from plotly.offline import get_plotlyjs

    drawn = draw(desk, view)
    data = json.dumps(figure(desk, view, drawn)).replace("<", "\\u003c")
    rows = answer(desk, view).result.rows(_TILES)
    tiles = "".join(_tile(desk, row) for row in rows)
    said = "; ".join(f"{name}: {value}" for name, value in answer(desk, view).result.settings.items())
    return _PAGE.format(
        title=escape(view.expression), said=escape(said), counts=escape(counted(drawn)), tiles=tiles,
        panel=PANEL_HERE, script=get_plotlyjs(), data=data,
    )  # fmt: skip


def _tile(desk: Desk, row: Any) -> str:
    source, said = thumbnail(desk, desk.bundle.filter(row.name))
    shown = f'<img src="{source}" alt="{escape(said)}">' if source else ""
    return f"<figure>{shown}<figcaption>{escape(row.label)}<br>{row.score:.3g} ({row.share:.1%})</figcaption></figure>"


def _plain(text: str) -> str:
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'">
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:24px;color:#212529;background:#fff}}
#graph{{height:72vh;border:1px solid #dee2e6}}
figure{{display:inline-block;margin:6px;font-size:12px}}img{{width:72px;height:72px;object-fit:contain}}
td,th{{padding:1px 14px 1px 0;text-align:left}}section{{max-width:640px}}
.kernel-row{{display:grid;grid-template-columns:80px 80px 80px 1fr;gap:6px}}</style></head>
<body><h1>{title}</h1><p>{said}<br>{counts}</p><div id="graph"></div>{panel}{tiles}
<script>{script}</script>
<script>const figure = {data};
Plotly.newPlot("graph", figure.data, figure.layout, {{responsive: true, displaylogo: false}});</script>
</body></html>
"""


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the menu."""
    made = (
        (Output(ids.SAVED, "data", allow_duplicate=True), ids.SAVE_CSV, lambda view: _file(ranking(desk, view))),
        (Output(ids.PAGE_MADE, "data"), ids.SAVE_HTML, lambda view: offline_page(desk, view)),
    )
    for output, name, make in made:

        @app.callback(output, Input(name, "n_clicks"), State(ids.URL, "search"), prevent_initial_call=True)
        def save(clicks: int, search: str | None, make: Any = make) -> Any:
            if not clicks:
                return no_update
            try:
                return make(View.parse(search))
            except (NotMeasured, NeuroChainsError, OSError):
                return no_update

    app.clientside_callback(
        "window.dash_clientside.explorer.save",
        Output(ids.SAVE_DONE, "data"),
        *(Input(name, "n_clicks") for name in (ids.SAVE_SVG, ids.SAVE_PNG, ids.SAVE_TABLES)),
        Input(ids.PAGE_MADE, "data"),
        prevent_initial_call=True,
    )


def _file(text: str) -> Any:
    return dcc.send_string(text, "filters.csv")
