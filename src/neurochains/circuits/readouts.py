"""What a circuit is to keep: the whole map of a target, not one number of it.

Beside the targets of `Target`, a difference of two logits is written ``"logit:3-logit:5"``: what tells two classes
apart.
"""

from __future__ import annotations

import re

from neurochains.circuits.targets import Target
from neurochains.edit import OUTPUT, Readout
from neurochains.errors import SettingsError
from neurochains.network import Network

__all__ = ["read_target"]

_PAIR = re.compile(r"(logit\s*:\s*\d+)\s*-\s*(logit\s*:\s*\d+)", re.I)


def read_target(target: str | Target, network: Network) -> tuple[str, Readout]:
    """Return a target as text, and what it reads from the network.

    Raises:
        SettingsError: the text has no such form, or means something without a map of its own: the loss, or a single
            position.
        LayerError: there is no such layer or filter; lists the nearest names.
    """
    pair = _PAIR.fullmatch(target.strip()) if isinstance(target, str) else None
    if pair is not None:
        first, second = (Target.parse(text, network) for text in pair.groups())
        return f"{first}-{second}", _difference(first, second)
    parsed = Target.parse(target, network)
    if parsed.layer is None and parsed.unit is None:
        raise SettingsError('A circuit keeps a map, which the loss has not. Name a logit ("logit:3") or a filter.')
    if parsed.position != "mean":
        raise SettingsError(f"A circuit keeps the whole map of its target: leave out the position in {parsed.text!r}.")
    return parsed.text, _readout(parsed)


def _readout(target: Target) -> Readout:
    if target.layer is None:
        assert target.unit is not None
        return Readout(OUTPUT, (target.unit,), (1.0,))
    if target.unit is not None:
        return Readout(target.layer.name, (target.unit,), (1.0,))
    assert target.direction is not None
    parts = {unit: float(weight) for unit, weight in enumerate(target.direction) if weight}
    return Readout(target.layer.name, tuple(parts), tuple(parts.values()))


def _difference(first: Target, second: Target) -> Readout:
    if first.unit is None or second.unit is None or first.unit == second.unit:
        raise SettingsError(f"A pair is of two different logits, such as logit:3-logit:5; got {first}-{second}.")
    return Readout(OUTPUT, (first.unit, second.unit), (1.0, -1.0))
