"""What was measured of a chain, beside its controls, as tables and series."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from neurochains.chains import Chain
from neurochains.measures import correlate
from neurochains.report.answers import Answers, are_classes, divergence_name, unit_noun
from neurochains.report.content import MeasureRow, Measures, SizeRow
from neurochains.report.structure import scored_inside
from neurochains.report.words import count, decimal, duration, percent

__all__ = ["SHORT", "all_metrics", "asked_divergence", "measured"]

CHAIN = "chain"
COLUMNS = {
    CHAIN: "this sub-network",
    "random": "as many filters of each layer, drawn at random",
    "random_global": "as many filters, drawn at random over all layers",
    "activation": "as many filters of each layer, those with the largest maps",
    "activation_global": "as many filters over all layers, those with the largest maps",
    "complement": "all filters that this sub-network leaves out",
    "units": "the same units with all patches",
    "random_patches": "as many patches of each image in each block, drawn at random",
    "attended_patches": "as many patches of each image in each block, those that get the most attention",
}
SHORT = {
    "random": "random",
    "random_global": "random, any layer",
    "activation": "largest maps",
    "activation_global": "largest maps, any layer",
    "units": "all patches",
    "random_patches": "random patches",
    "attended_patches": "attended patches",
}


@dataclass(frozen=True, slots=True)
class _Measure:
    """One line of the table: the key in the metrics, what it is called and means, how it is written."""

    key: str
    name: str
    meaning: str
    written: Callable[[float | None], str]


def _whole_percent(value: float | None) -> str:
    return percent(value)


_OF_CLASSES = (
    _Measure("kl", "Mean KL", "distance of the probabilities from the original's, in nats; 0: the same", decimal),
    _Measure("kl_median", "Median KL", "the same for the middle image", decimal),
    _Measure("agreement", "Predictions kept", "images on which both networks predict the same class", _whole_percent),
    _Measure("drop", "Loss of probability", "fall of the probability of the original's class, on average", decimal),
    _Measure("quotient_negative", "Overturned", "images on which another class leads now (Q < 0)", _whole_percent),
    _Measure(
        "quotient_median", "Margin kept", "median Q: lead of the original's class over the next; 1: the same", decimal
    ),
    _Measure("accuracy", "Accuracy", "right by the labels", _whole_percent),
)


def _of_values(name: str) -> tuple[_Measure, ...]:
    title = name[0].upper() + name[1:]
    meaning = {
        "squared error": "of the outputs, relative to their variance over the images; 0: the same",
        "cosine distance": "1 − cosine of the outputs of both networks; 0: the same direction",
    }.get(name, "distance of the outputs from the original's; 0: the same")
    return (
        _Measure("divergence", f"Mean {name}", meaning, decimal),
        _Measure("divergence_median", f"Median {name}", f"{title.lower()} of the middle image", decimal),
    )


def all_metrics(chain: Chain, answers: Answers, held_out: Answers | None) -> dict[str, Any]:
    """Return the metrics of a chain; what it does not carry is filled in from the outputs."""
    known = {key: value for key, value in chain.metrics.items() if value is not None}
    sizes = {"filters": chain.subnetwork.kept, "of": chain.subnetwork.total, "layers": len(chain.filters)}
    metrics = {**answers.fidelity.to_json(), **sizes, "layers_of": len(chain.scores), **known}
    if held_out is not None:
        metrics["held_out"] = {**held_out.fidelity.to_json(), **(chain.metrics.get("held_out") or {})}
    return metrics


def measured(chain: Chain, metrics: Mapping[str, Any], answers: Answers, held_out: Answers | None) -> Measures:
    """Return the tables and series of a chain's measures."""
    controls = metrics.get("controls") or {}
    columns: dict[str, Mapping[str, Any]] = {CHAIN: metrics, **controls, **_with_all_patches(metrics)}
    known = _OF_CLASSES if are_classes(chain) else _of_values(divergence_name(chain))
    scores, left_out = _left_out(chain)
    return Measures(
        columns={_column(name): _said(name, chain) for name in columns},
        given=_rows(known, columns),
        held_out=() if held_out is None else _rows(known, _held_out(columns)),
        held_out_images=0 if held_out is None else len(held_out.task),
        sizes=tuple(_sizes(chain, metrics)),
        compared=_compared(chain, columns),
        per_image=_per_image(answers, held_out),
        divergence=divergence_name(chain),
        budget=asked_divergence(chain),
        scores=scores,
        left_out=left_out,
        correlations=_correlations(scores, left_out),
        correlations_drop=_named_correlations(metrics.get("faithfulness") or {}),
    )


def _with_all_patches(metrics: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what the units of a chain reach with all patches, and other units of their number."""
    units = metrics.get("units") or {}
    return {"units": units, **(units.get("controls") or {})} if units else {}


def _said(name: str, chain: Chain) -> str:
    said = COLUMNS.get(name, name).replace("filters", unit_noun(chain))
    whole = chain.patches is not None and name not in (CHAIN, "units") and not name.endswith("_patches")
    return f"{said}, with all patches" if whole else said


def _held_out(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {name: one.get("held_out") or {} for name, one in columns.items()}


def _rows(known: tuple[_Measure, ...], columns: Mapping[str, Mapping[str, Any]]) -> tuple[MeasureRow, ...]:
    """Return the lines of which at least one network has a value."""
    rows = []
    for one in known:
        values = [metrics.get(one.key) for metrics in columns.values()]
        if any(value is not None for value in values):
            original = next((metrics.get(f"{one.key}_original") for metrics in columns.values()), None)
            extra = "" if original is None else f"; the original: {one.written(original)}"
            rows.append(MeasureRow(one.name, one.meaning + extra, tuple(one.written(value) for value in values)))
    return tuple(rows)


def _compared(chain: Chain, columns: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return what the figure of controls compares."""
    if not are_classes(chain):
        wanted = {f"mean {divergence_name(chain)}, lower is better": "divergence"}
    else:
        wanted = {"mean KL, lower is better": "kl", "predictions kept": "agreement", "loss of probability": "drop"}
    return {
        title: {_column(name): _float(metrics.get(key)) for name, metrics in columns.items()}
        for title, key in wanted.items()
    }


def _column(name: str) -> str:
    return SHORT.get(name, name)


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _per_image(answers: Answers, held_out: Answers | None) -> dict[str, tuple[float, ...]]:
    """Return the divergence of each image, those that are no numbers left out."""
    sets = {"these images": answers} if held_out is None else {"these images": answers, "held out": held_out}
    found = {}
    for name, one in sets.items():
        values = tuple(value for value in one.fidelity.per_image.divergence.tolist() if math.isfinite(value))
        if values:
            found[name] = values
    return found


def asked_divergence(chain: Chain) -> float | None:
    """Return the divergence that was asked for; None if something else was."""
    asked = chain.settings.get("fidelity")
    return float(asked) if isinstance(asked, (int, float)) and asked > 0 else None


def _sizes(chain: Chain, metrics: Mapping[str, Any]) -> list[SizeRow]:
    """Return what is kept of filters, layers, computation and parameters, and the times."""
    rows = [_size(unit_noun(chain).capitalize(), metrics["filters"], metrics["of"])] if metrics["of"] else []
    for name, key in (("Layers", "layers"), ("Multiply-accumulates", "macs"), ("Parameters", "parameters")):
        if metrics.get(key) is not None and metrics.get(f"{key}_of"):
            rows.append(_size(name, metrics[key], metrics[f"{key}_of"]))
    inside = [scored_inside(chain, block) for block in chain.network.blocks]
    blocks = [any(name in chain.filters for name in names) for names in inside if names]
    if blocks:
        rows.insert(2, _size("Blocks that could be skipped", sum(blocks), len(blocks)))
    patches = metrics.get("patches")
    if patches:
        rows.append(_size("Patches, over all blocks and images", patches["kept"], patches["of"]))
    timed = patches or metrics
    before, after = timed.get("seconds_original"), timed.get("seconds_dropped" if patches else "seconds_compact")
    if before and after:
        name = f"Time for {timed.get('seconds_images', 'some')} images"
        rows.append(SizeRow(name, duration(after), duration(before), percent(after / before, 1)))
    return rows


def _size(name: str, kept: int, of: int) -> SizeRow:
    return SizeRow(name, count(kept), count(of), percent(kept / of if of else None, 1))


def _left_out(chain: Chain) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the scores of the filters and the divergence without each, where that was measured and is a number."""
    pairs = [
        (float(chain.scores[name][unit]), float(chain.leave_one_out[name][unit]))
        for name, kept in chain.filters.items()
        if name in chain.leave_one_out
        for unit in kept.tolist()
    ]
    fine = [pair for pair in pairs if math.isfinite(pair[1])]
    return tuple(pair[0] for pair in fine), tuple(pair[1] for pair in fine)


def _correlations(scores: tuple[float, ...], left_out: tuple[float, ...]) -> dict[str, float]:
    return _named_correlations(correlate(torch.tensor(scores), torch.tensor(left_out)).to_json())


def _named_correlations(found: Mapping[str, Any]) -> dict[str, float]:
    named = {"Pearson": found.get("pearson"), "Spearman": found.get("spearman")}
    return {name: float(value) for name, value in named.items() if value is not None}
