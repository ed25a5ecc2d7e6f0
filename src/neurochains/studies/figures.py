"""The figures of the papers' analyses, from a study's tables: `FIGURES` names a function for each.

Each takes a `Frame` of one model and yields `Drawing`s, none where the table does not hold what the figure needs. The
numbers are those of the analyses: E1 and E1b fidelity and KL against size, E2 and E2b the score against what is lost
without the filter, E3 and E3b the quotient of Eq. 9, E4 methods of one size, E5 gates, E6 the number of classes, E7 the
number of images; and the spread over seeds, and what is found of planted circuits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure

from neurochains.measures import correlate
from neurochains.measures.intervals import interval_of_mean
from neurochains.pictures import (
    Share,
    curves_figure,
    effect_figure,
    histogram_figure,
    palette,
    scatter_figure,
    shares_figure,
)
from neurochains.studies.frames import Frame, Numbers

__all__ = ["FIGURES", "Drawing"]

GOOD, BAD = 0.8, 1.5  # KL limits of Fig. 3
LARGEST_KL = 3.0
LEAST_KL = 1e-6  # below is rounding
SIZE = "filters kept, % of the network's"
_GATES = {"with gates": True, "without gates": False}


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure, what it is called, and what is said below it."""

    name: str
    made: Figure
    caption: str


Draw = Callable[[str, Frame], Iterator[Drawing]]

FIGURES: dict[str, Draw] = {}


def _enter(name: str) -> Callable[[Draw], Draw]:
    def enter(function: Draw) -> Draw:
        FIGURES[name] = function
        return function

    return enter


@_enter("fidelity")
def fidelity(model: str, frame: Frame) -> Iterator[Drawing]:
    """E1: the drop of the original class's probability against size. E1b: KL against size."""
    columns = {"drop": ("E1", "drop of p[y]"), "kl": ("E1b", "mean KL, nats")}
    for column, (number, label) in columns.items():
        if frame.has("filters", "of", column):
            points = {name: (_share(some), some.numbers(column)) for name, some in frame.series().items()}
            title = f"{number}  {label} against size, {model}"
            made = scatter_figure(points, x=SIZE, y=label, title=title, log=column == "kl", colors=_colors(frame))
            sizes = ", ".join(f"{name} {np.median(xs):.3g} %" for name, (xs, _) in points.items())
            yield Drawing(f"{number}-{column}", made, f"One point for each sub-network. Median size: {sizes}.")


@_enter("faithfulness")
def faithfulness(model: str, frame: Frame) -> Iterator[Drawing]:
    """E2, E2b, E3b: what happens without each filter against its score."""
    columns = {
        "drop": ("E2", "drop of p[y] without it", False),
        "moved": ("E2b", "KL to the outputs without it", True),
        "changed": ("E3b", "images with Q < 0 without it", False),
    }
    for name, some in frame.series().items():
        for column, (number, label, log) in columns.items():
            effects, scores = some.of_filters(column), some.of_filters("score")
            effects = effects.clip(LEAST_KL) if log else effects
            if np.isfinite(effects).any():
                said = [_correlation(scores, effects, log=log)]
                title = f"{number}  {label}, {name} on {model}"
                made = effect_figure(scores, effects, y=label, title=title, said=said, log=log)
                caption = (
                    f"Sub-networks: {len(some)}. Points: filters. Line: means of equally many, with 95 % intervals."
                )
                yield Drawing(f"{number}-{column}-{name}", made, caption)


@_enter("quotient")
def quotient(model: str, frame: Frame) -> Iterator[Drawing]:
    """E3: the quotient Q of Eq. 9 over all images; below 0 the prediction has changed."""
    if not frame.has("image_quotient"):
        return
    values = {name: some.pooled("image_quotient") for name, some in frame.series().items()}
    values = {name: several for name, some in values.items() if len(several := _finite(some))}
    notes = {name: f"Q < 0: {(some < 0).mean():.1%}, median {np.median(some):.2f}" for name, some in values.items()}
    if values:
        title = f"E3  quotient of each image, {model}"
        made = histogram_figure(
            values, x="Q", title=title, clip=(-2, 3), marks=(0, 1), notes=notes, colors=_colors(frame)
        )
        caption = "Values beyond -2 and 3 are in the outer bins. At 1 the margin is the original's."
        yield Drawing("E3-quotient", made, caption)


@_enter("methods")
def methods(model: str, frame: Frame) -> Iterator[Drawing]:
    """E4: the KL of methods of one size, and the shares of Fig. 3: KL <= .8 and >= 1.5."""
    if not frame.has("like", "kl"):
        return
    bases = {like for like in frame.texts("like") if like}
    chosen = [bool(like) or method in bases for like, method in zip(frame.texts("like"), frame.texts("method"))]
    values = {name: _finite(some.numbers("kl")) for name, some in frame.where(chosen).series().items()}
    values = {name: several for name, several in values.items() if len(several)}
    title = f"E4  KL of sub-networks of one size, {model}"
    colors, limits = _colors(frame), (GOOD, BAD)
    made = histogram_figure(values, x="mean KL, nats", title=title, clip=(0, LARGEST_KL), marks=limits, colors=colors)
    yield Drawing("E4-kl", made, f"Values above {LARGEST_KL:g} are in the last bin. Lines: {GOOD} and {BAD}.")
    questions = {
        f"KL at most {GOOD}": {name: _shares((some <= GOOD) * 1.0) for name, some in values.items()},
        f"KL at least {BAD}": {name: _shares((some >= BAD) * 1.0) for name, some in values.items()},
    }
    made = shares_figure(questions, title=f"E4  share of sub-networks of one size, {model}", colors=colors)
    yield Drawing("E4-shares", made, "With 95 % intervals, bootstrapped over sub-networks.")


@_enter("gates")
def gates(model: str, frame: Frame) -> Iterator[Drawing]:
    """E5: sizes with and without gates on blocks."""
    bases = frame.texts("base")
    on = [base == "paper" if gate is None else gate for gate, base in zip(frame.options("gates"), bases)]
    values: dict[str, Numbers] = {}
    for base in ("budget", "paper"):
        rows = {word: [a == base and b is gate for a, b in zip(bases, on)] for word, gate in _GATES.items()}
        if all(any(chosen) for chosen in rows.values()):
            values.update({f"{base}, {word}": frame.where(one).numbers("filters") for word, one in rows.items()})
    if values:
        made = histogram_figure(values, x="filters kept", title=f"E5  sizes with and without gates, {model}")
        medians = ", ".join(f"{name} {np.median(several):.0f}" for name, several in values.items())
        yield Drawing("E5-gates", made, f"Median number of filters: {medians}.")


@_enter("classes")
def classes(model: str, frame: Frame) -> Iterator[Drawing]:
    """E6: sizes by the number of classes of the task."""
    yield from _curves(
        model, frame.usual("per_class"), "n_classes", "E6-classes", "classes of the task", {"filters": "filters kept"}
    )


@_enter("images")
def images(model: str, frame: Frame) -> Iterator[Drawing]:
    """E7: images per class against what holds on images held out."""
    measured = {"held_out_agreement": "predictions kept, held out", "held_out_accuracy": "accuracy, held out"}
    yield from _curves(model, frame.usual("n_classes"), "per_class", "E7-images", "images of each class", measured)


@_enter("stability")
def stability(model: str, frame: Frame) -> Iterator[Drawing]:
    """E8: predictions kept on the K nearest unseen neighbours, by K."""
    start = "stability_agreement_"
    counts = sorted(int(name.removeprefix(start)) for name in frame.cases.column_names if name.startswith(start))
    if counts and frame.has(f"{start}{counts[0]}"):
        series = frame.series()
        curves = {name: {float(k): some.numbers(f"{start}{k}") for k in counts} for name, some in series.items()}
        title = f"E8  predictions kept on unseen neighbours, {model}"
        x, y = "K nearest unseen neighbours of each image", "share that keeps the prediction"
        made = curves_figure(curves, x=x, y=y, title=title, percent=True, colors=_colors(frame))
        yield Drawing("E8-stability", made, "Neighbours in penultimate space. Line: median; band: the middle half.")


@_enter("locality")
def locality(model: str, frame: Frame) -> Iterator[Drawing]:
    """E9: how far the neighbours by the last layer and by the first layer's pattern are in penultimate space."""
    kinds = {"penultimate": "nearest by the last layer", "pattern": "nearest by the first layer's pattern"}
    if frame.has(*(f"locality_{kind}_distance" for kind in kinds)):
        values = {word: frame.numbers(f"locality_{kind}_distance") for kind, word in kinds.items()}
        made = histogram_figure(values, x="mean distance in penultimate space", title=f"E9  neighbours, {model}")
        yield Drawing("E9-locality", made, "One value for each sub-network's images.")


@_enter("robustness")
def robustness(model: str, frame: Frame) -> Iterator[Drawing]:
    """E10: the probability of the true class under attack, of the original and of each method's sub-networks."""
    start = "robustness_images_chain_"
    for column in sorted(name for name in frame.cases.column_names if name.startswith(start)):
        how = column.removeprefix(start)
        values = {"original": frame.pooled(f"robustness_images_original_{how}")} if frame.has(column) else {}
        values.update({name: some.pooled(column) for name, some in frame.series().items() if some.has(column)})
        if any(len(_finite(several)) for several in values.values()):
            title = f"E10  {how.replace('_', ' ')}/255, {model}"
            made = histogram_figure(
                values, x="probability of the true class", title=title, clip=(0, 1), colors=_colors(frame)
            )
            yield Drawing(
                f"E10-{how}", made, "On the images that sub-networks were fitted to; see also those held out."
            )


@_enter("seeds")
def seeds(model: str, frame: Frame) -> Iterator[Drawing]:
    """The spread over seeds: how far the sizes of one task lie apart."""
    if len(set(frame.numbers("seed").tolist())) < 2:
        return
    values = {}
    for name, some in frame.series().items():
        sizes: dict[tuple[str, ...], list[float]] = {}
        keys = zip(some.texts("task"), some.numbers("per_class"), some.numbers("draw"), strict=True)
        for key, size in zip(keys, some.numbers("filters"), strict=True):
            sizes.setdefault(tuple(map(str, key)), []).append(float(size))
        values[name] = np.array([max(s) / max(min(s), 1) for s in sizes.values() if len(s) > 1])
    if any(len(several) for several in values.values()):
        title = f"Spread over seeds, {model}"
        made = histogram_figure(
            values, x="largest / smallest number of filters of one task", title=title, colors=_colors(frame)
        )
        yield Drawing("seeds-size", made, "One value for each task that was run with several seeds.")


@_enter("planted")
def planted(model: str, frame: Frame) -> Iterator[Drawing]:
    """What is found of a planted circuit, by method."""
    if not frame.has("planted_exact"):
        return
    columns = {"planted_exact": "exactly found", "planted_precision": "precision", "planted_recall": "recall"}
    series = frame.series()
    questions = {
        word: {name: _shares(_finite(some.numbers(column))) for name, some in series.items()}
        for column, word in columns.items()
    }
    made = shares_figure(questions, title=f"Planted circuit, {model}", colors=_colors(frame))
    yield Drawing("planted", made, "Means over the cases, with 95 % intervals bootstrapped over cases.")


def _curves(
    model: str, frame: Frame, column: str, name: str, label: str, measured: dict[str, str]
) -> Iterator[Drawing]:
    """Yield what is measured against a setting that varies."""
    if len(set(_finite(frame.numbers(column)).tolist())) < 2:
        return
    for key, word in measured.items():
        if frame.has(key):
            curves = {name: _by(some.numbers(column), some.numbers(key)) for name, some in frame.series().items()}
            title = f"{name.split('-')[0]}  {word} by {label}, {model}"
            made = curves_figure(curves, x=label, y=word, title=title, percent=key != "filters", colors=_colors(frame))
            yield Drawing(f"{name}-{key}", made, "Line: median over cases; band: the middle half.")


def _colors(frame: Frame) -> dict[str, str]:
    return palette(frame.order)


def _by(settings: Numbers, values: Numbers) -> dict[float, Numbers]:
    return {float(at): values[settings == at] for at in np.unique(settings[np.isfinite(settings)])}


def _share(frame: Frame) -> Numbers:
    return 100 * frame.numbers("filters") / frame.numbers("of")


def _shares(values: Numbers) -> Share:
    """Return the mean over cases with its interval, bootstrapped over them; without one for a single case."""
    found = interval_of_mean(values.tolist()) if len(values) else None
    if found is None or found.value is None:
        return Share(math.nan, math.nan, math.nan)
    ends = (found.value if end is None else end for end in (found.low, found.high))
    return Share(found.value, *ends)


def _finite(values: Numbers) -> Numbers:
    return values[np.isfinite(values)]


def _correlation(scores: Numbers, effects: Numbers, *, log: bool) -> str:
    """Return in words how two measures of filters go together."""
    values = np.log(np.where(effects > 0, effects, np.nan)) if log else effects
    found = correlate(torch.from_numpy(scores), torch.from_numpy(values))
    known = (("Pearson", found.pearson), ("Spearman", found.spearman), ("slope", found.slope))
    words = [f"{name} {value:.3g}" for name, value in known if value is not None]
    return "   ".join([f"{found.points:,} filters", *words])
