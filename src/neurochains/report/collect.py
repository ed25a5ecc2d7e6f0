"""From a chain to the content of its report: every number and picture in it is computed here.

1. Both networks' outputs on the images, and on those held out.
2. Contributions of the kernels, and from them the chains of each class.
3. The filters on these chains: painted, found in the data, laid over a sample.
4. SMOE maps of a few images in both networks; of a transformer, heads and patches.
5. The further images beside their classes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

import neurochains
from neurochains.chains import Chain
from neurochains.chains.contributions import Contributions, contributions
from neurochains.chains.paths import Path, find_paths
from neurochains.data import Task
from neurochains.report import verdict
from neurochains.report.answers import Answers, answer, are_classes, clearest, in_turn, rows_by_class, unit_noun
from neurochains.report.content import ChainView, ClassView, Report, SmoeView
from neurochains.report.filters import Gallery, make_gallery
from neurochains.report.maps import smoe_layers
from neurochains.report.measured import all_metrics, measured
from neurochains.report.origin import origin
from neurochains.report.structure import architecture, kept_layers
from neurochains.report.study import read_also, smoe_view, studies
from neurochains.report.transformers import heads_view, patch_views

__all__ = ["Told", "collect"]

Told = Callable[[str], None]
"""Called with the stage that a report is at, in words."""

MOST_CARDS = 480  # filters shown on chains, all classes together
MOST_SMOE = 4  # images with SMOE maps


def collect(
    chain: Chain,
    *,
    also: Sequence[str | os.PathLike[str]] | Task = (),
    visual_steps: int = 96,
    paths_per_class: int = 3,
    max_samples: int = 60,
    progress: Told | None = None,
) -> Report:
    """Return the content of a chain's report; see `write_report` for the arguments and the errors."""
    told = progress or (lambda _: None)
    further = read_also(chain, also)
    told("report: what both networks say")
    whole = answer(chain, chain.task, chain.patches)
    others = None if chain.patches is not None else chain.task.held_out  # patches are those of the task's images alone
    held_out = None if others is None else answer(chain, others)
    metrics = all_metrics(chain, whole, held_out)
    told("report: the chains of each class")
    found = contributions(chain.network, chain.task, chain.subnetwork)
    shown = in_turn(whole, max_samples)
    patches = None if chain.patches is None else chain.patches[shown]
    answers = answer(chain, chain.task.subset(shown), patches)
    count = paths_per_class if chain.scores else 0
    paths = _few_enough(find_paths(chain.network, chain.task, chain.subnetwork, found, count))
    gallery = _gallery(chain, answers, paths, visual_steps, told)
    classes = tuple(_classes(chain, answers, paths, gallery))
    told("report: saliency maps")
    smoe = _smoe(chain, answers) if chain.filters else None
    if further is not None:
        told("report: further images")
    seen = studies(chain, further, answers, paths, gallery)
    return _report(chain, metrics, whole, held_out, answers, patches, found, classes, gallery, smoe, seen)


def _report(
    chain: Chain,
    metrics: Mapping[str, Any],
    whole: Answers,
    held_out: Answers | None,
    answers: Answers,
    patches: Tensor | None,
    found: Contributions,
    classes: tuple[ClassView, ...],
    gallery: Gallery,
    smoe: SmoeView | None,
    seen: tuple,
) -> Report:
    """Return everything under its name."""
    title = verdict.title(chain)
    return Report(
        title=title,
        model=(chain.provenance.get("model") or {}).get("name") or "a network",
        created=str(chain.provenance.get("created") or ""),
        verdict=verdict.verdict(chain, metrics),
        facts=verdict.facts(chain, metrics),
        warnings=verdict.warnings(chain, metrics),
        notes=verdict.notes(chain, metrics),
        noun=unit_noun(chain),
        architecture=architecture(chain, found, f"The sub-network for {title}") if chain.scores else None,
        patches=patch_views(chain, answers, patches),
        heads=heads_view(chain, answers),
        images=tuple(answers.view(row) for row in range(len(answers.task))),
        images_of=len(chain.task),
        classes=classes,
        classes_of=len(found.classes),
        visual_steps=gallery.steps,
        smoe=smoe,
        measures=measured(chain, metrics, whole, held_out),
        layers=kept_layers(chain),
        origin=origin(chain),
        studies=seen,
        version=neurochains.__version__,
    )


def _few_enough(paths: Mapping[int, list[Path]]) -> dict[int, list[Path]]:
    """Return the chains of as many classes as a page can show; of the first class all."""
    kept: dict[int, list[Path]] = {}
    cards = 0
    for label, several in paths.items():
        told = [path for path in several if path.filters]  # by shortcuts alone, a chain has nothing to show
        cards += sum(len(path.steps) for path in told)
        if kept and cards > MOST_CARDS:
            break
        kept[label] = told
    return kept


def _gallery(chain: Chain, answers: Answers, paths: Mapping[int, list[Path]], steps: int, told: Told) -> Gallery:
    task = answers.task
    every = [path for several in paths.values() for path in several]
    filters = len({unit for path in every for unit in path.filters})
    told(f"report: pictures of {filters} filters")
    return make_gallery(chain.network, task.images, task.pixels, every, steps=steps)


def _classes(chain: Chain, answers: Answers, paths: Mapping[int, list[Path]], gallery: Gallery) -> Sequence[ClassView]:
    """Return the chains of each class with heatmaps on its clearest image."""
    rows, views = rows_by_class(answers), []
    for label, several in paths.items():
        if label not in rows:
            continue
        sample = clearest(answers, label, rows[label])
        pair = [(answers.task.pixels[sample], gallery.maps, sample)]
        chains: list[ChainView] = [gallery.chain(i + 1, path, pair) for i, path in enumerate(several)]
        name = chain.task.label_name(label) if are_classes(chain) else f"output {label}"
        views.append(ClassView(name, len(rows[label]), (answers.view(sample),), tuple(chains)))
    return views


def _smoe(chain: Chain, answers: Answers) -> SmoeView | None:
    """Return the SMOE maps of the first images of each class in turn."""
    chosen = in_turn(answers, MOST_SMOE)
    return smoe_view(chain, [answers.task.subset(chosen)], smoe_layers(chain.network, chain.subnetwork))
