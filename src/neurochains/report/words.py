"""Numbers and words as people read them."""

from __future__ import annotations

import math

__all__ = ["count", "decimal", "duration", "number", "percent", "plural"]


def number(value: float | None) -> str:
    """Return a number with three figures and a true minus; a dash for None.

    >>> number(0.0432), number(-12345.0), number(None), number(float("inf"))
    ('0.0432', '−12,345', '–', 'not finite')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) >= 1e-4 else f"{value:.1e}"
    return text.replace("-", "−")


def decimal(value: float | None, places: int = 3) -> str:
    """Return a number with so many decimals, so that a column of them is aligned.

    >>> decimal(0.0432), decimal(-0.00001), decimal(None)
    ('0.043', '0.000', '–')
    """
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "not finite"
    return f"{round(value, places) + 0.0:,.{places}f}".replace("-", "−")


def percent(value: float | None, places: int = 0) -> str:
    """Return a share as a percentage; what is not all is never rounded up to all, nor something down to nothing.

    >>> percent(0.975), percent(1.0), percent(0.9999), percent(0.0001), percent(None)
    ('98 %', '100 %', '> 99 %', '< 1 %', '–')
    """
    if value is None:
        return "–"
    least = 10.0**-places
    shown = round(100 * value, places)
    if value < 1 and shown >= 100:
        return f"> {100 - least:.{places}f} %"
    if value > 0 and shown <= 0:
        return f"< {least:.{places}f} %"
    return f"{shown:.{places}f} %".replace("-", "−")


def count(value: int | None) -> str:
    """Return an integer with thousands set apart, large ones as millions or billions.

    >>> count(26560), count(23454912), count(4089184256), count(None)
    ('26,560', '23.5 M', '4.09 G', '–')
    """
    if value is None:
        return "–"
    for size, unit in ((10**9, "G"), (10**6, "M")):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:,}"


def plural(amount: int, noun: str) -> str:
    """Return an amount with its noun.

    >>> plural(1, "image"), plural(1200, "image"), plural(2, "class")
    ('1 image', '1,200 images', '2 classes')
    """
    ending = "" if amount == 1 else "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{amount:,} {noun}{ending}"


def duration(seconds: float | None) -> str:
    """Return a time in the unit that suits it.

    >>> duration(0.0123), duration(75.2), duration(3720), duration(None)
    ('12.3 ms', '75 s', '62 min', '–')
    """
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
