"""`neurochains prepare`: a bundle, in which queries are answered at once and which the explorer opens."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurochains.cli import options as o
from neurochains.cli import question as q
from neurochains.cli.console import results_console, tell, working, write_json
from neurochains.cli.models import ModelChoice, check_device
from neurochains.cli.progress import duration, extraction_progress
from neurochains.cli.values import given

if TYPE_CHECKING:
    from neurochains.circuits import Bundle
    from neurochains.circuits.estimates import Estimate
    from neurochains.circuits.preparation import Preparation, Step

__all__ = ["prepare"]

_BUNDLE = "The bundle"


class Projection(str, Enum):
    """How filters get their places in the plane."""

    auto = "auto"
    umap = "umap"
    pca = "pca"


_Kernels = Annotated[
    bool, typer.Option("--kernels/--no-kernels", help="Keep the importance of kernels too.", rich_help_panel=_BUNDLE)
]
_Patches = Annotated[
    int, typer.Option(metavar="N", min=1, help="Places remembered for each filter.", rich_help_panel=_BUNDLE)
]
_Projections = Annotated[
    Projection, typer.Option(metavar="HOW", help="umap, pca, or auto: umap where installed.", rich_help_panel=_BUNDLE)
]
_BatchSize = Annotated[int | None, typer.Option(metavar="N", min=1, help="Images at a time.", rich_help_panel=_BUNDLE)]


def prepare(
    model: o.Model,
    images: o.Images,
    out: o.OutFolder,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    random_weights: o.RandomWeights = False,
    input_size: o.InputSize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    device: o.Device = None,
    classes: o.Classes = None,
    per_class: o.PerClass = None,
    target: q.Targets = None,
    criterion: q.Criteria = None,
    reduce: q.Reduces = None,
    kernels: _Kernels = True,
    patches: _Patches = 9,
    projection: _Projections = Projection.auto,
    batch_size: _BatchSize = None,
    seed: o.Seed = 0,
    force: o.Force = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Measure what matters to a model for each class of your images, once, for queries and the explorer."""
    choice = ModelChoice(model, weights, trust_pickle, random_weights, input_size, mean, std)
    asked = given(target=target, criterion=criterion, reduce=reduce, batch_size=batch_size, device=device)
    drawn = given(classes=classes, per_class=per_class, seed=seed)
    wishes = {"kernels": kernels, "patches": patches, "projection": projection.value, "force": force}
    _Job(choice, images, out, {**asked, **drawn, **wishes}).run(as_json=as_json, quiet=quiet)


@dataclass(frozen=True, slots=True)
class _Job:
    """One bundle: of which model, on which images, to where, with which options."""

    choice: ModelChoice
    images: Path
    out: Path
    options: dict[str, Any]

    def run(self, *, as_json: bool, quiet: bool) -> None:
        """Make the bundle, and say what came out."""
        started = time.monotonic()
        with working(f"the sets that are finished stay in {self.out}; the same command goes on with the others."):
            preparation = self._planned()
            if not quiet:
                tell(_announced(preparation.estimate))
            with _progress(quiet) as progress:
                bundle = preparation.run(progress)
        seconds = time.monotonic() - started
        if as_json:
            write_json(_summary(bundle, preparation.estimate, self.out, seconds))
        elif not quiet:
            _show(bundle, self.out, seconds)

    def _planned(self) -> Preparation:
        from neurochains.circuits import plan

        check_device(self.options.get("device"))
        model = self.choice.load()
        return plan(model, self.images, self.out, preprocess=self.choice.preprocess(model), **self.options)


def _announced(estimate: Estimate) -> str:
    """Return what is about to be made, in words."""
    there = f" {estimate.done:,} sets are there already." if estimate.done else ""
    return (
        f"{estimate.images:,} images in {estimate.sets:,} sets, {estimate.filters:,} filters, {estimate.kernels:,} "
        f"kernels: about {size_in_words(estimate.bytes)} and {duration(estimate.seconds)}.{there}"
    )


def size_in_words(size: int) -> str:
    """Return a size in bytes in words.

    >>> size_in_words(2_722_767), size_in_words(640_000_000), size_in_words(1_400_000_000)
    ('2.7 MB', '640 MB', '1.4 GB')
    """
    if size < 1e9:
        return f"{size / 1e6:.1f} MB" if size < 1e7 else f"{size / 1e6:.0f} MB"
    return f"{size / 1e9:.1f} GB"


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Step], None] | None]:
    """Return what a preparation reports its steps to; None if nothing shall be shown."""
    from neurochains.extraction import Progress

    with extraction_progress(quiet=quiet) as follow:
        if follow is None:
            yield None
        else:
            yield lambda step: follow(Progress(step.stage, step.step, step.steps, seconds_left=step.seconds_left))


def _size(out: Path) -> int:
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def _summary(bundle: Bundle, estimate: Estimate, out: Path, seconds: float) -> dict[str, Any]:
    return {
        "bundle": str(out),
        "sets": len(bundle.sets),
        "images": sum(len(known.images) for known in bundle.sets),
        "filters": bundle.spans.filters,
        "kernels": bundle.spans.kernels,
        "bytes": _size(out),
        "seconds": seconds,
        "estimate": {"bytes": estimate.bytes, "seconds": estimate.seconds, "done": estimate.done},
        "settings": dict(bundle.settings),
    }


def _show(bundle: Bundle, out: Path, seconds: float) -> None:
    counts = f"{len(bundle.sets):,} sets, {bundle.spans.filters:,} filters, {bundle.spans.kernels:,} kernels"
    console = results_console()
    console.print(f"{counts}: {size_in_words(_size(out))} in {duration(seconds)}.", soft_wrap=True)
    first = shlex.quote(f'"{bundle.names.short[0]}" - overall')
    line = f"Saved in {out}; ask it with: neurochains query {first} --bundle {shlex.quote(str(out))}"
    console.print(line, soft_wrap=True, markup=False)
