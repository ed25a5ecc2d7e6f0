"""The panel of the question: expression, target, criterion, thresholds, layers; run, cancel, history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update

from neurochains.circuits import CRITERIA
from neurochains.circuits.bundle import PROJECTIONS
from neurochains.circuits.query import NORMALISATIONS
from neurochains.errors import NeuroChainsError
from neurochains.explorer import ids
from neurochains.explorer.asking import NotMeasured, answer, measure, missing
from neurochains.explorer.desk import Desk
from neurochains.explorer.parts import part
from neurochains.explorer.view import View
from neurochains.explorer.walking import in_browser
from neurochains.explorer.widgets import aria, button, hint, menu, said
from neurochains.explorer.worker import Stopped, wish

__all__ = ["callbacks", "describe", "layout"]

_MOST_NAMES = 20_000
_SHARES = {"filters": (ids.FILTER_SHARE, ids.FILTER_NUMBER), "kernels": (ids.KERNEL_SHARE, ids.KERNEL_NUMBER)}


def layout(desk: Desk) -> Any:
    """Return the panel."""
    return dmc.Stack(
        [
            dcc.Store(id=ids.NAMES, data=_names(desk)),
            dcc.Store(id=ids.HISTORY, storage_type="session", data=[]),
            dmc.Autocomplete(
                id=ids.EXPRESSION,
                label="Query",
                description="names, numbers, + - * / ( ); names with spaces in quotes",
                data=[],
                value="overall",
                debounce=False,
                limit=8,
            ),
            dmc.Group(
                [
                    button("Run", ids.RUN, quiet=False, **aria(label="Run the query")),
                    button("Cancel", ids.CANCEL, disabled=True, **aria(label="Cancel the running query")),
                    menu("Earlier", [], ids.HISTORY_SHOWN),
                ],
                gap="xs",
            ),
            html.Div(id=ids.WORKING, role="status", **aria(live="polite")),
            html.Div(id=ids.QUERY_SAID, role="status", **aria(live="polite")),
            *_thresholds(),
            html.Div(id=ids.COUNTS, role="status", **aria(live="polite")),
            *_choices(desk),
        ],
        gap="xs",
    )


def _thresholds() -> list[Any]:
    rows = []
    for (slider, number), (text, start) in zip(
        _SHARES.values(), (("Filters: share of each layer's score", 0.8), ("Kernels: share of what comes in", 0.5))
    ):
        scale = {"min": 0.01, "max": 1, "step": 0.01}
        rows.append(
            html.Div(
                [
                    dmc.Text(text, size="sm", id=f"{slider}-label"),
                    dmc.Group(
                        [
                            html.Div(
                                dmc.Slider(
                                    id=slider, value=start, updatemode="mouseup", thumbLabel=text, label=None, **scale
                                ),
                                style={"flex": 1},
                            ),
                            dmc.NumberInput(
                                id=number,
                                value=start,
                                w=84,
                                size="xs",
                                debounce=400,
                                hideControls=True,
                                **aria(label=text),
                                **scale,
                            ),
                        ],
                        gap="xs",
                    ),
                ]
            )
        )
    return rows


def _choices(desk: Desk) -> list[Any]:
    layers = [{"value": layer.name, "label": f"{layer.label}  {layer.name}"} for layer in desk.bundle.spans.layers]
    settings = desk.bundle.settings
    criteria = [name for name in CRITERIA if name != "random"]
    return [
        dmc.MultiSelect(
            id=ids.LAYERS, label="Layers", data=layers, value=[], placeholder="all", searchable=True, clearable=True,
            maxDropdownHeight=220,
        ),
        dmc.TextInput(
            id=ids.TARGET, label="Target", placeholder=str(settings["target"]), value="", debounce=True,
            description="loss, logit:3, L10_5, L10_5@max",
        ),
        dmc.Select(
            id=ids.CRITERION, label="Criterion", data=criteria, placeholder=str(settings["criterion"]), clearable=True,
            value=None,
        ),
        dmc.Group(
            [
                dmc.Select(id=ids.PROJECTION, label="Places", data=list(PROJECTIONS), value="classwise", w=130,
                           allowDeselect=False),
                dmc.Select(id=ids.NORMALISE, label="Scale", data=list(NORMALISATIONS), value="none", w=140,
                           allowDeselect=False),
            ],
            gap="xs",
        ),
    ]  # fmt: skip


def _names(desk: Desk) -> list[str]:
    """Return what can be named in a query, as it is written there."""
    short = [*desk.bundle.names.short, *(name for known in desk.bundle.sets for name in known.images)]
    plain = [name if name.isidentifier() else f'"{name}"' for name in short if '"' not in name]
    return ["overall", *plain[:_MOST_NAMES]]


def describe(desk: Desk, view: View) -> tuple[Any, bool]:
    """Return what there is to say about a view's query, and whether it must be measured first."""
    try:
        if missing(desk, view):
            return None, True
        found = answer(desk, view)
    except NotMeasured:
        return None, True
    except NeuroChainsError as error:
        return said(str(error)), False
    text = f"{found.result.positive:,} of {found.result.of:,} filters have a score above 0."
    more = " The bundle has no importance of kernels: the sizes of their weights count." if found.weighed else ""
    return hint(text + more), False


def callbacks(app: Dash, desk: Desk) -> None:
    """Register the callbacks of the panel."""
    _asking(app)
    _measuring(app, desk)
    _history(app)


_FIELDS = (ids.EXPRESSION, ids.TARGET, ids.CRITERION, ids.LAYERS, ids.PROJECTION, ids.NORMALISE)


def _asking(app: Dash) -> None:
    given = (Input(ids.EXPRESSION, "value"), State(ids.NAMES, "data"))
    in_browser(app, "complete", Output(ids.EXPRESSION, "data"), *given, first=True)
    url, search = Output(ids.URL, "search", allow_duplicate=True), State(ids.URL, "search")
    asked = (Input(ids.RUN, "n_clicks"), Input(ids.EXPRESSION, "n_submit"), *(State(name, "value") for name in _FIELDS))
    in_browser(app, "run", url, Output(ids.AGAIN, "data"), *asked, search)
    for share, names in _SHARES.items():
        in_browser(app, share, url, *(Input(name, "value") for name in names), search)


def _measuring(app: Dash, desk: Desk) -> None:
    @app.callback(
        Output(ids.QUERY_SAID, "children"),
        Output(ids.WORKING, "children", allow_duplicate=True),
        Input(part("query"), "data"),
        Input(ids.MEASURED, "data"),
        Input(ids.AGAIN, "data"),
        prevent_initial_call=True,
    )
    def describe_query(search: str | None, measured: Any, _again: Any) -> Any:
        failed = isinstance(measured, dict) and measured.get("search") == search and measured.get("said")
        if ctx.triggered_id == ids.MEASURED and failed:
            return said(failed), None
        shown, wanted = describe(desk, View.parse(search))
        return shown, hint("Measuring ...") if wanted else None

    # not the callback above: Dash starts none again from what it has started itself
    @app.callback(
        Output(ids.MADE, "data"), Input(part("query"), "data"), Input(ids.AGAIN, "data"), prevent_initial_call=True
    )
    def need(search: str | None, _again: Any) -> Any:
        return wish(search) if describe(desk, View.parse(search))[1] else no_update

    @app.callback(
        output=Output(ids.MEASURED, "data"),
        inputs=[Input(ids.MADE, "data")],
        background=True,
        running=[(Output(ids.CANCEL, "disabled"), False, True)],
        progress=[Output(ids.WORKING, "children")],
        cancel=[Input(ids.CANCEL, "n_clicks")],
        prevent_initial_call=True,
    )
    def work(set_progress: Callable[[Any], None], made: Any) -> Any:
        search = made["search"]
        try:
            measure(desk, View.parse(search), lambda _, text: set_progress((f"Measuring {text}",)))
        except Stopped:
            return {"search": search, "said": "Cancelled."}
        except NeuroChainsError as error:
            return {"search": search, "said": str(error)}
        return {"search": search}

    @app.callback(
        Output(ids.WORKING, "children", allow_duplicate=True),
        Input(ids.CANCEL, "n_clicks"),
        prevent_initial_call=True,
    )
    def cancelled(_clicks: int) -> Any:
        return hint("Cancelled. Run asks again.")


def _history(app: Dash) -> None:
    asked = (Input(part("query"), "data"), State(ids.HISTORY, "data"))
    in_browser(app, "remember", Output(ids.HISTORY, "data"), *asked)
    in_browser(app, "earlier", Output(ids.HISTORY_SHOWN, "children"), Input(ids.HISTORY, "data"), first=True)
