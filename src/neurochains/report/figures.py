"""The figures of a report, by the name that their files get."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import torch
from matplotlib.figure import Figure

from neurochains.pictures import (
    ChainRow,
    Measure,
    PatchRow,
    Sample,
    SmoeRow,
    architecture_figure,
    chain_figure,
    controls_figure,
    drop_figure,
    parting_figure,
    patches_figure,
    per_image_figure,
    smoe_figure,
)
from neurochains.report.content import ChainView, ClassView, HeadsView, Likeness, MapsView, Measures, Report, SmoeView

__all__ = ["figure_files", "page_figures"]

NO_MAP = np.full((8, 8, 3), 241, np.uint8)  # of a filter without rows and columns


def page_figures(report: Report) -> dict[str, Figure]:
    """Return the figures that stand in the page as drawings; the others are built of pictures and text there."""
    return {
        **({} if report.architecture is None else {"architecture": architecture_figure(report.architecture)}),
        **({"patches": _patches(report)} if report.patches else {}),
        **({} if report.heads is None else {"heads": _heads(report.heads)}),
        **dict(_measures(report.measures, report.noun)),
        **_parting(report),
    }


def figure_files(report: Report) -> Iterator[tuple[str, Figure]]:
    """Yield every figure of a report with the name of its file, one at a time."""
    yield from page_figures(report).items()
    for view in report.classes:
        for chain in view.chains:
            if chain.steps:
                yield f"chain-{_slug(view.name)}-{chain.number}", _chain(view, chain)
    if report.smoe is not None:
        yield "smoe", _smoe(report.smoe, f"SMOE maps: {report.title}")
    for number, study in enumerate(report.studies, 1):
        for view in study.classes:
            if view.chains[0].steps:
                yield f"also-{number}-chain-{_slug(view.name)}", _chain(view, view.chains[0])
        if study.smoe is not None:
            yield f"also-{number}-smoe", _smoe(study.smoe, f"SMOE maps: {study.image.name}")


def _patches(report: Report) -> Figure:
    rows = [
        PatchRow(
            view.name,
            torch.from_numpy(np.ascontiguousarray(view.pixels.transpose(2, 0, 1))),
            torch.from_numpy(view.kept),
            None if view.reduced is None else torch.from_numpy(view.reduced),
            view.grid,
            None if view.original is None else torch.from_numpy(view.original),
        )
        for view in report.patches
    ]
    return patches_figure(rows, title="Kept patches and what tokens are made of, block by block")


def _heads(view: HeadsView) -> Figure:
    rows = [ChainRow(head.label, head.score, None, None, head.heatmaps) for head in view.heads]
    samples = [Sample(name, pixels) for name, pixels in view.samples]
    return chain_figure(rows, samples=samples, title=f"What {len(rows)} of {view.total} heads read")


def _measures(found: Measures, noun: str) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of what was measured, as far as there is something to draw."""
    if len(found.columns) > 1:
        measures = [
            Measure(name, values, log="lower" in name, percent="kept" in name)
            for name, values in found.compared.items()
        ]
        yield "controls", controls_figure(measures, title="The sub-network beside its controls")
    if found.per_image:
        label = f"{found.divergence} of each image"
        title = f"{found.divergence[0].upper()}{found.divergence[1:]} image by image"
        yield "per-image", per_image_figure(found.per_image, title=title, label=label, budget=found.budget)
    if found.scores:
        yield (
            "leave-one-out",
            drop_figure(
                found.scores,
                found.left_out,
                correlations=found.correlations,
                title=f"What is lost without each {noun.removesuffix('s')}",
                noun=noun,
                label=f"mean {found.divergence} without it",
            ),
        )


def _parting(report: Report) -> dict[str, Figure]:
    return {
        f"also-{number}-parting": _likeness(study.likeness, study.image.name)
        for number, study in enumerate(report.studies, 1)
        if study.likeness is not None
    }


def _likeness(found: Likeness, name: str) -> Figure:
    usual = {key: (list(low), list(high)) for key, (low, high) in found.usual.items()}
    return parting_figure(
        found.layers,
        found.similarity,
        usual=usual,
        title=f"{name} beside the classes, layer by layer",
        label="similarity to the class",
    )


def _chain(view: ClassView, chain: ChainView) -> Figure:
    rows = [
        ChainRow(
            step.label,
            step.score,
            step.share,
            step.visual,
            step.heatmaps or (NO_MAP,) * len(view.samples),
            step.crops,
            step.peak,
            step.largest,
        )
        for step in chain.steps
    ]
    samples = [Sample(sample.name, sample.pixels) for sample in view.samples]
    return chain_figure(rows, samples=samples, title=f"Chain {chain.number} of {view.name}")


def _smoe(view: SmoeView, title: str) -> Figure:
    rows = [
        SmoeRow(one.name, torch.from_numpy(np.ascontiguousarray(one.pixels.transpose(2, 0, 1))), *_tensors(one))
        for one in view.images
    ]
    return smoe_figure(rows, view.layers, title=title)


def _tensors(one: MapsView) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [torch.from_numpy(maps) for maps in one.original], [torch.from_numpy(maps) for maps in one.reduced]


def _slug(text: str) -> str:
    """Return a name as a part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:40] or "class"
