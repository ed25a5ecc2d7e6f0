"""What a page shows, as the text behind the question mark of its address: a link reproduces it.

Whatever the text holds, a view comes back: what cannot be read is left as it is by default, since an address may be
typed, cut short or made by somebody else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from neurochains.circuits.bundle import PROJECTIONS
from neurochains.circuits.query import NORMALISATIONS

__all__ = ["OBJECTIVES", "PANELS", "UPLOAD", "View", "rules"]

PANELS = ("filter", "kernel", "image", "ablation", "chains", "subfeatures")
OBJECTIVES = ("channel+", "channel-", "centre+", "centre-")
UPLOAD = "upload"
"""What `View.image` says of the picture that the user dropped; it is in the browser, not in the address."""

_LONGEST, _MOST = 4000, 500
_UNIT = r"[\w.@\[\]-]{1,300}\[\d{1,7}\]"
_FORMS = {
    "unit": re.compile(_UNIT),
    "kernel": re.compile(rf"{_UNIT}<\d{{1,7}}"),
    "image": re.compile(rf"\d{{1,7}}\.\d{{1,7}}|{UPLOAD}"),
    "cell": re.compile(r"\d{1,5}\.\d{1,5}"),
    "off": re.compile(rf"{_UNIT}(<\d{{1,7}})?|block:[\w.@\[\]-]{{1,300}}"),
    "chains": re.compile(r"\d{1,3}"),
    "layers": re.compile(r"[\w.@\[\]-]{1,300}"),
}
_RANGES = {"filters": (0.0001, 1.0), "kernels": (0.0001, 1.0), "size": (0.4, 2.0), "width": (0.4, 2.0)}
_CHOICES = {
    "graph": ("3d", "2d"),
    "relu": ("off", "on"),
    "panel": PANELS,
    "objective": OBJECTIVES,
    "projection": PROJECTIONS,
    "normalise": tuple(NORMALISATIONS),
}


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows.

    Attributes:
        expression: the query.
        target, criterion: of the importances; "" for those of the bundle.
        normalise, projection: as in `query` and `Bundle.projection`.
        filters, kernels: the shares of each layer's score, and of what comes into each filter, that are shown.
        layers: those that are shown; all if there are none.
        graph: ``"3d"`` or ``"2d"``.
        panel: which panel is open.
        unit, kernel: the selected filter, ``"features.3[5]"``, and kernel, ``"features.3[5]<2"``.
        cell: of the filter's map, ``"row.column"``.
        image: ``"set.image"``, or `UPLOAD`.
        objective: of feature visualisations.
        off: filters, kernels and blocks (``"block:layer3"``) that are switched off.
        chains: the numbers of the chains and circuits that are shown, at most two.
        size, width: of the graph's filters and kernels, times what is usual.
        relu: ``"on"`` where the filter's map is shown behind the activation.
    """

    expression: str = "overall"
    target: str = ""
    criterion: str = ""
    normalise: str = "none"
    projection: str = "classwise"
    filters: float = 0.8
    kernels: float = 0.5
    layers: tuple[str, ...] = ()
    graph: str = "3d"
    panel: str = "filter"
    unit: str = ""
    kernel: str = ""
    cell: str = ""
    image: str = "0.0"
    objective: str = "channel+"
    off: tuple[str, ...] = ()
    chains: tuple[str, ...] = ()
    size: float = 1.0
    width: float = 1.0
    relu: str = "off"

    @classmethod
    def parse(cls, search: str | None) -> View:
        """Return the view of an address' ``?...``; never fails.

        >>> View.parse("?expression=tiger+-+overall&filters=0.5&graph=4d").filters
        0.5
        """
        try:
            text = search if isinstance(search, str) else ""
            given = parse_qs(text.removeprefix("?"), max_num_fields=2 * _MOST)
        except ValueError:
            return cls()
        found = {field.name: _read(field.name, field.default, given.get(field.name, [])) for field in fields(cls)}
        return cls(**{name: value for name, value in found.items() if value is not None})

    def search(self) -> str:
        """Return the text for the address: only what is not as by default."""
        usual = View()
        changed = [(f.name, own) for f in fields(self) if (own := getattr(self, f.name)) != getattr(usual, f.name)]
        pairs = [(name, item) for name, value in changed for item in (value if isinstance(value, tuple) else [value])]
        return f"?{urlencode(pairs)}" if pairs else ""

    def having(self, **changes: Any) -> View:
        """Return the view with some entries changed."""
        return replace(self, **changes)

    def part(self, *names: str) -> dict[str, Any]:
        """Return some entries by name."""
        return {name: getattr(self, name) for name in names}


def rules() -> dict[str, dict[str, Any]]:
    """Return by entry what the browser has to know to change an address: the default, and a range or choices."""
    found: dict[str, dict[str, Any]] = {field.name: {"usual": field.default} for field in fields(View)}
    for name, (lowest, highest) in _RANGES.items():
        found[name]["range"] = [lowest, highest]
    for name, choices in _CHOICES.items():
        found[name]["choices"] = list(choices)
    return found


def _read(name: str, usual: Any, given: list[str]) -> Any:
    """Return the value of one entry, None where the texts give none."""
    if not given:
        return None
    if isinstance(usual, tuple):
        form = _FORMS[name]
        found = tuple(dict.fromkeys(text for text in given[:_MOST] if form.fullmatch(text)))
        return found[:2] if name == "chains" else found
    text = given[0][:_LONGEST]
    if isinstance(usual, float):
        return _number(text, *_RANGES[name])
    if name in _CHOICES:
        return text if text in _CHOICES[name] else None
    form = _FORMS.get(name)
    return text if form is None or form.fullmatch(text) else None


def _number(text: str, lowest: float, highest: float) -> float | None:
    try:
        value = round(float(text), 4)
    except ValueError:
        return None
    return value if lowest <= value <= highest else None
