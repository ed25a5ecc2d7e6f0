"""What a chain is worth, as tables: sizes, fidelity on given and held-out images, controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from neurochains.cli.progress import duration

__all__ = ["metrics_tables", "verdict"]

Metrics = Mapping[str, Any]

_OTHER_SIZE = "complement"  # the control that has not as many filters as the chain
_FIDELITY = (
    ("mean KL", "kl", ".4f"),
    ("median KL", "kl_median", ".4f"),
    ("mean divergence", "divergence", ".4f"),
    ("predictions kept", "agreement", ".1%"),
    ("drop of probability", "drop", ".4f"),
    ("quotient Q below 0", "quotient_negative", ".1%"),
    ("accuracy", "accuracy", ".1%"),
    ("accuracy of the original", "accuracy_original", ".1%"),
)


def verdict(metrics: Metrics, units: Sequence[str] = ("filters",)) -> str:
    """Return a chain in two sentences: what is kept of the network and how faithful that is; and what others reach."""
    noun = _noun(units)
    kept = " and ".join(_kept(metrics, noun))
    if metrics.get("kl") is not None:
        kept += f" keep {metrics['agreement']:.0%} of the predictions, at a mean KL of {metrics['kl']:.3g}"
    elif metrics.get("divergence") is not None:
        kept += f" keep the outputs, at a mean divergence of {metrics['divergence']:.3g}"
    controls = [values for name, values in (metrics.get("controls") or {}).items() if name != _OTHER_SIZE]
    others = [value for value in map(_divergence, controls) if value is not None]
    noun = "patches" if metrics.get("patches") else noun
    return f"{kept}." + (f" The best other choice of as many {noun} reaches {min(others):.3g}." if others else "")


def _noun(units: Sequence[str]) -> str:
    return "filters" if tuple(units) == ("filters",) else "units"


def _kept(metrics: Metrics, noun: str) -> Iterator[str]:
    if metrics.get("of"):
        share = metrics["filters"] / metrics["of"]
        yield f"{metrics['filters']:,} of {metrics['of']:,} {noun} ({share:.1%}) in {metrics['layers']} layers"
    patches = metrics.get("patches")
    if patches:
        yield f"{patches['kept'] / patches['of']:.1%} of the patches over all blocks"


def metrics_tables(metrics: Metrics, units: Sequence[str] = ("filters",)) -> Group:
    """Return the tables of a chain's metrics; measures that are not there are left out."""
    tables = [_fidelity_table(metrics), _size_table(metrics, _noun(units))]
    if metrics.get("controls"):
        tables.append(_control_table(metrics))
    return Group(*tables)


def _fidelity_table(metrics: Metrics) -> Table:
    held = metrics.get("held_out")
    table = _table("Fidelity", "given", *(["held out"] if held else []))
    if metrics.get("images") is not None:
        table.add_row("images", *(str(part["images"]) for part in (metrics, held) if part))
    for name, key, form in _FIDELITY:
        if key == "divergence" and metrics.get("kl") == metrics.get("divergence"):
            continue
        values = [_number(part.get(key), form) for part in (metrics, held) if part]
        if any(values):
            table.add_row(name, *values)
    return table


def _size_table(metrics: Metrics, noun: str) -> Table:
    table = _table("\nSize", "kept", "of", "share")
    for name, kept, total in _pairs(metrics, noun):
        table.add_row(name, f"{kept:,}", f"{total:,}", f"{kept / total:.1%}" if total else "")
    for name, value in _patch_times(metrics.get("patches") or {}):
        table.add_row(name, value, "", "")
    for name in ("original", "scored", "compact"):
        if metrics.get(f"seconds_{name}") is not None:
            table.add_row(f"time of the {name} network", f"{1000 * metrics[f'seconds_{name}']:.1f} ms", "", "")
    if metrics.get("seconds") is not None:
        table.add_row("time of the extraction", duration(metrics["seconds"]), "", "")
    if metrics.get("parity") is not None:
        table.add_row("parity, compact and scored", f"{metrics['parity']:.1e}", "", "")
    return table


def _pairs(metrics: Metrics, noun: str) -> Iterator[tuple[str, int, int]]:
    names = ("filters", "layers", "macs", "parameters")
    for name in names:
        whole = "of" if name == "filters" else f"{name}_of"
        if metrics.get(name) is not None and metrics.get(whole) is not None:
            yield {"filters": noun, "macs": "MACs"}.get(name, name), metrics[name], metrics[whole]
    patches = metrics.get("patches")
    if patches:
        yield "patches, over images and blocks", patches["kept"], patches["of"]


def _patch_times(patches: Metrics) -> Iterator[tuple[str, str]]:
    """Yield the times of a run on all images, with all patches and without those that are dropped."""
    for name, key in (("time with all patches", "seconds_original"), ("time with the kept patches", "seconds_dropped")):
        if patches.get(key) is not None:
            yield name, f"{1000 * patches[key]:.1f} ms"


def _control_table(metrics: Metrics) -> Table:
    table = _table("\nBeside other sub-networks", "divergence", "predictions kept")
    rows = {"this chain": metrics, **metrics["controls"]}
    for name, values in rows.items():
        agreement = _number(values.get("agreement"), ".1%")
        table.add_row(name.replace("_", " "), _number(_divergence(values), ".4f"), agreement)
    return table


def _divergence(values: Metrics) -> float | None:
    return values.get("kl") if values.get("kl") is not None else values.get("divergence")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
