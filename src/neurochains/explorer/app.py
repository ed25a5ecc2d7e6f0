"""The application: the page with its panels, and what holds them together."""

from __future__ import annotations

import json
import secrets
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html
from flask import Response, jsonify

from neurochains.explorer import (
    ablation_panel,
    chains_panel,
    drawing,
    exports,
    filter_panel,
    graph_panel,
    ids,
    image_panel,
    kernel_panel,
    parts,
    query_panel,
    subfeatures_panel,
    visual_panel,
)
from neurochains.explorer.active import followers
from neurochains.explorer.desk import Desk
from neurochains.explorer.guard import guard
from neurochains.explorer.view import rules
from neurochains.explorer.widgets import aria
from neurochains.explorer.worker import worker

__all__ = ["build", "layout"]

_TICK = 4000
_ICON = (  # in the page itself: browsers ask for one of its own again whenever the address changes
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16' fill='%232f8f83'%3E"
    "%3Cpath d='M3 4 8 8 13 4M3 12 8 8 13 12' stroke='%232f8f83' fill='none'/%3E%3Ccircle cx='3' cy='4' r='2'/%3E"
    "%3Ccircle cx='3' cy='12' r='2'/%3E%3Ccircle cx='8' cy='8' r='2'/%3E%3Ccircle cx='13' cy='4' r='2'/%3E"
    "%3Ccircle cx='13' cy='12' r='2'/%3E%3C/svg%3E"
)
_PAGE = f"""<!doctype html>
<html lang="en">
<head>{{%metas%}}<title>{{%title%}}</title><link rel="icon" href="{_ICON}">
<link rel="preload" as="script" href="_dash-component-suites/plotly/package_data/plotly.min.js">{{%css%}}</head>
<body>{{%app_entry%}}<footer>{{%config%}}{{%scripts%}}{{%renderer%}}</footer></body>
</html>
"""
_STORES = (
    ids.MEASURED, ids.MADE, ids.AGAIN, ids.SELECTED, ids.FOUND, ids.GRAPH_DRAWN, ids.ALIVE_SINCE, ids.CHAIN_NEED,
    ids.CHAIN_DONE, ids.SUB_DONE, ids.SUB_PAINTED, ids.ABLATION_NEED, ids.ABLATION_DONE, ids.PAGE_MADE, ids.SAVE_DONE,
)  # fmt: skip
_TITLES = {
    "filter": "Filter",
    "kernel": "Kernel",
    "image": "Image",
    "ablation": "Ablation",
    "chains": "Chains",
    "subfeatures": "Sub-features",
}


_UNUSED = ("/dash/deps/polyfill@", "/dash/dash_table/")
"""Scripts that Dash serves and this page needs nothing of: browsers have had what they add since 2018."""


class _Page(Dash):
    """Dash, without the scripts that the page does not need."""

    def interpolate_index(self, **parts: Any) -> str:
        lines = parts["scripts"].split("\n")
        kept = [line for line in lines if not any(name in line for name in _UNUSED)]
        return super().interpolate_index(**{**parts, "scripts": "\n".join(kept)})


def build(desk: Desk, folder: str, *, token: str | None = None, framed: bool = False) -> Dash:
    """Return the application.

    Args:
        desk: what it shows.
        folder: an empty one, for what its worker makes.
        token: what a browser must know; None where only this machine can reach it.
        framed: whether it may stand inside another page, such as a notebook.
    """
    app = _Page(
        "neurochains.explorer",
        assets_folder=_assets(),
        background_callback_manager=worker(folder),
        compress=False,
        index_string=_PAGE,
        serve_locally=True,
        suppress_callback_exceptions=True,
        title="NeuroChains",
        update_title="",
    )
    app.layout = layout(desk)
    for panel in (query_panel, graph_panel, filter_panel, visual_panel, kernel_panel, image_panel):
        panel.callbacks(app, desk)
    for panel in (ablation_panel, chains_panel, subfeatures_panel, exports):
        panel.callbacks(app, desk)
    parts.callbacks(app)
    drawing.callbacks(app)
    _watch(app, desk)
    guard(app.server, token, framed=framed)
    return app


def layout(desk: Desk) -> Any:
    """Return the page."""
    known: dict[str, Any] = {"data-rules": json.dumps(rules())}
    inside = [
        *parts.layout(followers(desk)),
        *(dcc.Store(id=name) for name in _STORES),
        dcc.Store(id=ids.UPLOADED, storage_type="session"),
        dcc.Interval(id=ids.ALIVE, interval=_TICK),
        html.Div(id=ids.TROUBLE, className="trouble", role="alert"),
        _top(desk),
        html.Div(
            [
                html.Nav(query_panel.layout(desk), **aria(label="Query")),
                html.Main(graph_panel.layout(), **aria(label="Graph")),
                html.Aside(_panels(desk), **aria(label="Panels")),
            ],
            id=ids.DESK,
            className="desk",
            **known,
        ),
    ]
    return dmc.MantineProvider(inside, id=ids.SHELL, defaultColorScheme="auto")


def _top(desk: Desk) -> Any:
    origin = desk.bundle.document.provenance.get("model", {})
    name = str(origin.get("name") or "network") if isinstance(origin, dict) else "network"
    images = sum(len(known.images) for known in desk.bundle.sets)
    about = f"{name}   {len(desk.bundle.sets):,} sets, {images:,} images, {desk.bundle.spans.filters:,} filters"
    return html.Header(
        [
            dmc.Title("NeuroChains", order=1, size="h4"),
            dmc.Text(about, size="sm", c="dimmed", className="name"),
            *exports.layout(),
            dmc.ColorSchemeToggle(
                id=ids.THEME, lightIcon="\u2600", darkIcon="\u263e", size="md", variant="default",
                **aria(label="Light or dark"),
            ),
        ],
        className="top",
    )  # fmt: skip


def _panels(desk: Desk) -> Any:
    content = {
        "filter": [*filter_panel.layout(), visual_panel.layout(), *filter_panel.lower_layout()],
        "kernel": kernel_panel.layout(),
        "image": image_panel.layout(desk),
        "ablation": ablation_panel.layout(desk),
        "chains": chains_panel.layout(desk),
        "subfeatures": subfeatures_panel.layout(),
    }
    tabs = dmc.TabsList([dmc.TabsTab(title, value=name, px=7, fz="xs") for name, title in _TITLES.items()])
    shown = [dmc.TabsPanel(html.Div(content[name], className="panel"), value=name) for name in _TITLES]
    return dmc.Tabs([tabs, *shown], id=ids.PANEL, value="filter", keepMounted=True)


def _watch(app: Dash, desk: Desk) -> None:
    """Let the page notice that the server is gone, new, or without its bundle."""
    since = secrets.token_hex(8)

    @app.server.route("/alive")
    def alive() -> Response:
        gone = not desk.bundle.folder.has("bundle.json")
        trouble = f"The bundle {desk.bundle.folder.place.name} is not there any more. Put it back." if gone else ""
        return jsonify(since=since, trouble=trouble)

    app.clientside_callback(
        "window.dash_clientside.explorer.alive",
        Output(ids.TROUBLE, "children"),
        Output(ids.ALIVE_SINCE, "data"),
        Input(ids.ALIVE, "n_intervals"),
        State(ids.ALIVE_SINCE, "data"),
    )


def _assets() -> str:
    from pathlib import Path

    return str(Path(__file__).parent / "assets")
