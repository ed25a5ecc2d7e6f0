"""The calculation paths of a decoupled network: which filters are on for the chosen image, and for others of its set.

The path of an image is what is on for it in the layers that are switched; all other filters are always on.
"""

from __future__ import annotations

from typing import Any

import torch
from dash import html
from torch import Tensor

from neurochains.explorer.desk import Desk
from neurochains.explorer.runs import DecoupledRun
from neurochains.explorer.view import UPLOAD, View
from neurochains.explorer.widgets import card, chips, hint, table
from neurochains.network import Filter

__all__ = ["by_use", "compare_with_set", "followers", "is_compared", "on_units", "path_of", "set_of", "shown_path"]

_OF_SET, _MOST = 24, 40


def followers(desk: Desk) -> list[str]:
    """Return the numbers of the runs that depend on the chosen image."""
    return [str(number) for number, run in enumerate(desk.runs) if isinstance(run, DecoupledRun)]


def path_of(desk: Desk, number: int, view: View, uploaded: str | None) -> dict[str, Tensor]:
    """Return by layer which switched filters are on for the chosen image, bool ``(O,)``.

    Raises:
        DataError: there is no such image.
    """
    key = (number, view.image if view.image != UPLOAD else uploaded)

    def make() -> dict[str, Tensor]:
        image = desk.normalised(desk.pixels(view, uploaded))
        return {name: share > 0 for name, share in _run(desk, number).frequency(image[None]).items()}

    return desk.paths.get(key, make)


def on_units(desk: Desk, number: int, view: View, uploaded: str | None) -> tuple[Filter, ...]:
    """Return the switched filters that are on for the chosen image."""
    return _units(path_of(desk, number, view, uploaded))


def set_of(view: View) -> int:
    """Return the set of the chosen image, -1 for a dropped picture."""
    return -1 if view.image == UPLOAD else int(view.image.split(".")[0])


def is_compared(desk: Desk, number: int, index: int) -> bool:
    """Return whether `compare_with_set` was called; it has nothing to do for a set that is not there."""
    return not 0 <= index < len(desk.bundle.sets) or desk.paths.has((number, "set", index))


def compare_with_set(desk: Desk, number: int, index: int) -> dict[str, Tensor]:
    """Return by layer the share of the first images of a set that each switched filter is on for."""

    def make() -> dict[str, Tensor]:
        count = min(_OF_SET, len(desk.bundle.sets[index].images))
        return _run(desk, number).frequency(desk.task([(index, image) for image in range(count)]).images)

    return desk.paths.get((number, "set", index), make)


def by_use(desk: Desk, number: int, view: View, uploaded: str | None) -> list[tuple[str, tuple[Filter, ...]]]:
    """Return the filters that are on for the chosen image and all of its set as far as is known, for it, for others."""
    path, index = path_of(desk, number, view, uploaded), set_of(view)
    if index < 0 or not is_compared(desk, number, index):
        return [("on for this image", _units(path))]
    share = compare_with_set(desk, number, index)
    always = {name: on & (share[name] == 1) for name, on in path.items()}
    here = {name: on & (share[name] < 1) for name, on in path.items()}
    others = {name: ~on & (share[name] > 0) for name, on in path.items()}
    words = ("on for all of its set", "on here, not for all", "off here, on for others")
    return [(said, _units(masks)) for said, masks in zip(words, (always, here, others))]


def shown_path(desk: Desk, number: int, view: View, uploaded: str | None) -> list[Any]:
    """Return the path of the chosen image in words: layer by layer, and what is on for few others of its set."""
    path, index = path_of(desk, number, view, uploaded), set_of(view)
    total, on = sum(len(mask) for mask in path.values()), sum(int(mask.sum()) for mask in path.values())
    said = [hint(f"{on:,} of {total:,} switched filters are on for the chosen image ({on / total:.0%}).")]
    if index < 0:
        return [card("Calculation path", *said, table(("layer", "on", "of"), _rows(desk, path)))]
    if not is_compared(desk, number, index):
        return [card("Calculation path", *said, hint("Comparing with other images of its set ..."))]
    share = compare_with_set(desk, number, index)
    count, name = min(_OF_SET, len(desk.bundle.sets[index].images)), desk.bundle.names.short[index]
    head = ("layer", "on", "of", "always", "sometimes", "never")
    rows = [(*row, *_states(share[layer])) for row, layer in zip(_rows(desk, path), path)]
    uses = [(float(share[unit.layer][unit.index]), unit) for unit in _units(path)]
    rare = sorted((use for use in uses if use[0] < 0.5), key=lambda use: use[0])
    few = [(str(unit), f"{desk.label(unit)} {value:.0%}") for value, unit in rare]
    about = hint(f"Always, sometimes and never are over {count} images of {name}.")
    alone = html.Div(chips(few, _MOST), className="row") if few else hint("None.")
    return [card("Calculation path", *said, about, table(head, rows)), card("On here, rarely in its set", alone)]


def _rows(desk: Desk, path: dict[str, Tensor]) -> list[tuple[str, ...]]:
    return [(desk.bundle.layer(name).label, f"{int(mask.sum()):,}", f"{len(mask):,}") for name, mask in path.items()]


def _states(share: Tensor) -> tuple[str, ...]:
    always, never = int((share == 1).sum()), int((share == 0).sum())
    return f"{always:,}", f"{len(share) - always - never:,}", f"{never:,}"


def _units(masks: dict[str, Tensor]) -> tuple[Filter, ...]:
    return tuple(Filter(name, unit) for name, mask in masks.items() for unit in torch.nonzero(mask).flatten().tolist())


def _run(desk: Desk, number: int) -> DecoupledRun:
    run = desk.runs[number]
    assert isinstance(run, DecoupledRun)
    return run
