"""Small parts of panels: pictures, buttons that lead to a filter, messages, tables. Text is always text, never HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import html

from neurochains.errors import ExpressionError, NeuroChainsError
from neurochains.explorer.asking import NotMeasured
from neurochains.explorer.walking import Kind, step

__all__ = [
    "aria", "button", "card", "chips", "go", "hint", "item", "menu", "picture", "said",
    "switch", "table", "tile", "told",
]  # fmt: skip


def aria(**words: str) -> dict[str, Any]:
    """Return what a screen reader is told of a part: ``aria(label="Run")``."""
    return {f"aria-{name}": text for name, text in words.items()}


def picture(source: str | None, said: str, width: int, *, sharp: bool = False) -> Any:
    """Return a picture with its description; a grey tile where there is none."""
    style = {"width": width, "height": width, "objectFit": "contain", "borderRadius": 3}
    if source is None:
        return html.Div(title=said, role="img", className="no-picture", style=style, **aria(label=said))
    return html.Img(src=source, alt=said, title=said, style=style | ({"imageRendering": "pixelated"} if sharp else {}))


def go(unit: str, words: str, said: str, *, kind: Kind = "go") -> Any:
    """Return a button that leads to a filter, a kernel or an image."""
    return html.Button(words, type="button", className="go", **step(kind, unit), **aria(label=said))


def tile(
    unit: str, source: str | None, said: str, width: int, *, kind: Kind = "go", sharp: bool = False, words: str = "",
    chosen: bool = False,
) -> Any:  # fmt: skip
    """Return a button that shows a picture, with words below it, and leads to a filter, a kernel or an image.

    The picture is the button's background, since every part of a page takes the browser time.
    """
    style: dict[str, Any] = {"width": width, "paddingTop": width} | ({} if words else {"height": width})
    style |= {} if source is None else {"backgroundImage": f"url({source})", "backgroundSize": f"auto {width}px"}
    look = ("tile", "no-picture" if source is None else "", "sharp" if sharp else "", "chosen" if chosen else "")
    names: dict[str, Any] = {**step(kind, unit), **aria(label=said)}
    return html.Button(words, type="button", title=said, className=" ".join(filter(None, look)), style=style, **names)


def switch(text: str, words: str, *, said: str | None = None) -> Any:
    """Return a button that switches a filter, a kernel or a block off, or on again."""
    look: dict[str, Any] = {"size": "compact-xs", "variant": "light", "color": "orange"}
    return dmc.Button(words, **look, **step("off", text), **({} if said is None else aria(label=said)))


def chips(named: Sequence[tuple[str, str]], most: int) -> list[Any]:
    """Return small buttons that lead to filters, given as (filter, label), and how many more there are."""
    shown = [go(unit, label, f"Go to {label}") for unit, label in named[:most]]
    return [*shown, *([hint(f"and {len(named) - most:,} more")] if len(named) > most else [])]


def menu(words: str, items: Sequence[Any], name: str = "") -> Any:
    """Return a button that opens a list of others; see `assets/menus.js`."""
    known: dict[str, Any] = {"id": name} if name else {}
    inside = html.Div(items, role="menu", **known)
    return html.Details([html.Summary(words, role="button"), inside], className="menu")


def item(words: str, name: str) -> Any:
    """Return an entry of a menu."""
    return html.Button(words, id=name, type="button", role="menuitem", n_clicks=0)


def button(text: str, name: Any, *, quiet: bool = True, **options: Any) -> Any:
    """Return a small button."""
    return dmc.Button(text, id=name, size="compact-sm", variant="default" if quiet else "filled", n_clicks=0, **options)


def said(message: str, *, wrong: bool = True, title: str | None = None) -> Any:
    """Return a message, as it is, in the type of a typewriter where it points to a place."""
    lines = message.split("\n", 1)
    body = [dmc.Text(lines[0], size="sm")] + ([html.Pre(lines[1], className="pointer")] if len(lines) > 1 else [])
    return html.Div(
        dmc.Alert(body, title=title, color="red" if wrong else "blue", variant="light", p="xs"), role="alert"
    )


def hint(text: str) -> Any:
    """Return a quiet line."""
    return html.P(text, className="hint")


def card(title: str, *children: Any) -> Any:
    """Return a part of a panel with a heading."""
    return html.Section([html.H3(title), *children])


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Any:
    """Return a table."""
    return dmc.Table(
        [
            dmc.TableThead(dmc.TableTr([dmc.TableTh(text) for text in head])),
            dmc.TableTbody([dmc.TableTr([dmc.TableTd(cell) for cell in row]) for row in rows]),
        ],
        verticalSpacing=2,
        horizontalSpacing="xs",
        fz="xs",
    )


def told(make: Callable[[], Any]) -> Any:
    """Return what a function makes; what went wrong in words where it fails."""
    try:
        return make()
    except NotMeasured:
        return hint("Measuring ...")
    except ExpressionError:
        return hint("The query cannot be answered: see there.")
    except NeuroChainsError as error:
        return said(str(error))
    except OSError as error:
        return said(f"The bundle cannot be read any more: {error}. Put it back, and reload the page.")
