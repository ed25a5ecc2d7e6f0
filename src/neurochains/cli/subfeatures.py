"""`neurochains subfeatures`: the several things that a filter answers to, taken apart; or those of a whole layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from neurochains.cli import options as o
from neurochains.cli.console import results_console, tell, working, write_json
from neurochains.cli.models import ModelChoice, check_device
from neurochains.cli.places import check_folder
from neurochains.cli.progress import extraction_progress
from neurochains.errors import SettingsError

if TYPE_CHECKING:
    from torch import nn

    from neurochains.circuits import LayerSubFeatures, SubFeatures
    from neurochains.data import Task
    from neurochains.network import Network

__all__ = ["subfeatures"]

_SUBFEATURES = "The sub-features"
_STEPS = 256


_Images = Annotated[
    Path | None,
    typer.Option(
        "--images", "-i", metavar="FOLDER", help="FOLDER/CLASS/FILE or FOLDER/FILE.", rich_help_panel="The images"
    ),
]
_Shapes = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Instead: so many images of the built-in shapes data.", rich_help_panel="The images"
    ),
]
_Target = Annotated[
    str | None,
    typer.Option(metavar="FILTER", help="One filter: L10_5 or features.10[5].", rich_help_panel=_SUBFEATURES),
]
_Layer = Annotated[
    str | None,
    typer.Option(metavar="LAYER", help="Instead: all filters of a layer, ranked.", rich_help_panel=_SUBFEATURES),
]
_Patches = Annotated[
    int, typer.Option(metavar="N", min=1, help="Strongest patches looked at.", rich_help_panel=_SUBFEATURES)
]
_Smallest = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=2, help="Least patches of a cluster.", show_default="20 of 300", rich_help_panel=_SUBFEATURES
    ),
]
_Keep = Annotated[
    float, typer.Option(metavar="SHARE", help="Of each layer's importance in a circuit.", rich_help_panel=_SUBFEATURES)
]
_Draws = Annotated[int, typer.Option(metavar="N", min=1, help="Of the mixed control.", rich_help_panel=_SUBFEATURES)]
_Figures = Annotated[
    int, typer.Option(metavar="N", min=0, help="Filters of a layer to draw.", rich_help_panel=_SUBFEATURES)
]
_Visualise = Annotated[
    bool,
    typer.Option("--visualise/--no-visualise", help="Paint each cluster's picture.", rich_help_panel=_SUBFEATURES),
]


def subfeatures(
    model: o.Model,
    out: o.OutFolder,
    images: _Images = None,
    shapes: _Shapes = None,
    target: _Target = None,
    layer: _Layer = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    random_weights: o.RandomWeights = False,
    input_size: o.InputSize = None,
    mean: o.Mean = None,
    std: o.Std = None,
    device: o.Device = None,
    classes: o.Classes = None,
    per_class: o.PerClass = None,
    patches: _Patches = 300,
    smallest: _Smallest = None,
    keep: _Keep = 0.8,
    draws: _Draws = 10,
    figures: _Figures = 3,
    visualise: _Visualise = True,
    seed: o.Seed = 0,
    force: o.Force = False,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Take apart what a filter answers to: clusters of its strongest patches, and a circuit for each."""
    if (target is None) == (layer is None) or (images is None) == (shapes is None):
        raise SettingsError("Give one of --target and --layer, and one of --images and --shapes.")
    choice = ModelChoice(model, weights, trust_pickle, random_weights, input_size, mean, std)
    settings = {"patches": patches, "smallest": smallest, "keep": keep, "draws": draws, "seed": seed}
    drawn = {"classes": classes, "per_class": per_class, "seed": seed}
    job = _Job(choice, images, shapes, drawn, device, target, layer, settings, out, force)
    found, written = job.run(figures, visualise, quiet)
    _answer(found, out, written, as_json=as_json, quiet=quiet)


@dataclass(frozen=True, slots=True)
class _Job:
    """Which model, on which images, which filters, with which settings, to where."""

    choice: ModelChoice
    images: Path | None
    shapes: int | None
    drawn: dict[str, Any]
    device: str | None
    target: str | None
    layer: str | None
    settings: dict[str, Any]
    out: Path
    force: bool

    def run(self, figures: int, visualise: bool, quiet: bool) -> tuple[SubFeatures | LayerSubFeatures, list[Path]]:
        """Return what was found, saved, and the figures that were written."""
        check_folder(self.out, force=self.force, kind="subfeatures" if self.layer is None else "layer-subfeatures")
        with working(f"nothing was written to {self.out}."):
            check_device(self.device)
            network, task = self._prepared()
            found = self._found(network, task, quiet)
            found.save(self.out, force=self.force)
        with working(f"the result is saved in {self.out}; its figures are not all written."):
            return found, _draw(network, task, found, self.out, figures, visualise)

    def _prepared(self) -> tuple[Network, Task]:
        from neurochains.network import Network

        model = self.choice.load()
        task = self._task(model)
        return Network.trace(model, task.images[:1], device=self.device), task

    def _task(self, model: nn.Module) -> Task:
        from neurochains.data import Task

        if self.images is None:
            assert self.shapes is not None
            return Task.shapes(self.shapes, seed=self.drawn["seed"], classes=self.drawn["classes"])
        return Task.from_folder(self.images, model=model, preprocess=self.choice.preprocess(model), **self.drawn)

    def _found(self, network: Network, task: Task, quiet: bool) -> SubFeatures | LayerSubFeatures:
        from neurochains import circuits

        if self.layer is None:
            assert self.target is not None
            return circuits.subfeatures(network, task, self.target, **self.settings)
        with _progress(quiet) as progress:
            return circuits.layer_subfeatures(network, task, self.layer, progress=progress, **self.settings)


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """Return what the search reports the finished filters to; None if nothing shall be shown."""
    from neurochains.extraction import Progress

    with extraction_progress(quiet=quiet) as follow:
        yield None if follow is None else lambda done, of: follow(Progress("filters", done, of))


def _draw(
    network: Network, task: Task, found: SubFeatures | LayerSubFeatures, out: Path, figures: int, visualise: bool
) -> list[Path]:
    """Return the figures that were written: a ranking for a layer, and one for each of some filters."""
    from neurochains import pictures
    from neurochains.circuits import SubFeatures

    written = []
    if not isinstance(found, SubFeatures) and found.separable:
        written.append(pictures.save_figure(pictures.layer_subfeatures_figure(found), out / "ranking.png"))
    for one in _each(found)[: 1 if isinstance(found, SubFeatures) else figures]:
        visuals = pictures.visualise_subfeatures(network, one, steps=_STEPS) if visualise and one.clusters else None
        made = pictures.subfeature_figure(one, task, visuals=visuals)
        written.append(pictures.save_figure(made, out / f"{one.label}.png"))
    return written


def _each(found: SubFeatures | LayerSubFeatures) -> tuple[SubFeatures, ...]:
    from neurochains.circuits import SubFeatures

    return (found,) if isinstance(found, SubFeatures) else found.found


def _answer(
    found: SubFeatures | LayerSubFeatures, out: Path, written: Sequence[Path], *, as_json: bool, quiet: bool
) -> None:
    if as_json:
        write_json(found.summary())
    elif not quiet:
        _show(_each(found), out, written)


def _show(found: Sequence[SubFeatures], out: Path, written: Sequence[Path]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("filter", no_wrap=True)
    for name in ("patches", "clusters", "kernels of each", "separability", "mixed"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        known = one.summary()
        sizes, kernels = (" + ".join(f"{n:,}" for n in known[key]) or "none" for key in ("clusters", "kernels"))
        shared = [f"{known[key]:.2f}" if one.clusters > 1 else "" for key in ("separability", "mixed")]
        table.add_row(*map(Text, (known["label"], f"{known['patches']:,}", sizes, kernels, *shared)))
    console = results_console()
    console.print(table)
    console.print(Text(f"\nSaved in {out}, with {', '.join(path.name for path in written) or 'no figure'}."))
    if not any(one.clusters > 1 for one in found):
        tell("hint: more images, more --patches or a --smallest below the default may show clusters")
