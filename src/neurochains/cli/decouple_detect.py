"""`neurochains decouple concepts | detect`: the parts that filters answer to, and attacks that paths give away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neurochains.cli import options as o
from neurochains.cli.console import results_console, tell, working, write_json
from neurochains.cli.decouple import Figures, Run, RunImages
from neurochains.cli.decoupled_run import load_images, load_network
from neurochains.cli.drawing import save_figures, tell_figures
from neurochains.cli.models import check_device
from neurochains.errors import SettingsError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from neurochains.decoupling import Concepts, Detection

__all__ = ["concepts", "detect"]

_CLASSES, _DRAWN, _ROWS = 16, 20, 40

Boxes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=BOX...",
        help="NAME=TOP,LEFT,BOTTOM,RIGHT in pixels of the model's input.",
        show_default="of the built-in shapes, their parts",
    ),
]
Attacks = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME...", help='fgsm, bim, pgd, and each as "adaptive pgd".', show_default="all but bim"),
]
Eps = Annotated[str, typer.Option(metavar="R", help="Radius of the attacks in pixels of 0 ... 1: 8/255 or 0.03.")]
Norm = Annotated[str, typer.Option(metavar="NORM", help="linf or l2.")]
AttackSteps = Annotated[int, typer.Option("--steps", metavar="N", min=1, help="Of bim and pgd.")]
Train = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Images of each class to learn from.", show_default="half")
]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="Partings into images to learn from and to test on.")]


def concepts(
    run: Run,
    images: RunImages = None,
    parts: Boxes = None,
    out: Figures = None,
    model: o.RunModel = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    device: o.Device = None,
    per_class: o.PerClass = None,
    seed: o.Seed = 0,
    as_json: o.AsJson = False,
) -> None:
    """Print which filters switch off when which part of the images is hidden, checked on images apart."""
    with working("figures that were written stay."):
        check_device(device)
        from neurochains.decoupling import find_concepts

        network = load_network(run, model=model, weights=weights, trust_pickle=trust_pickle, device=device)
        if images is None and not parts:
            pictures, masks = _shapes_parts(run, per_class)
        else:
            pictures, masks = load_images(network, run, images, per_class).images, _boxes(parts)
        found = find_concepts(network, pictures, masks, seed=seed)
        files = [] if out is None else save_figures(_concept_figures(found), out)
    if as_json:
        write_json({**found.to_json(), "files": files})
        return
    console = results_console()
    console.print(_concept_table(found))
    console.print(f"medians over the filters, on half of {found.images:,} images", soft_wrap=True)
    tell_figures(files)


def detect(
    run: Run,
    images: RunImages = None,
    out: Figures = None,
    attacks: Attacks = None,
    eps: Eps = "8/255",
    norm: Norm = "linf",
    steps: AttackSteps = 10,
    train: Train = None,
    seeds: Seeds = 5,
    model: o.RunModel = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    device: o.Device = None,
    per_class: o.PerClass = None,
    as_json: o.AsJson = False,
    quiet: o.Quiet = False,
) -> None:
    """Attack the images, and print how well paths give attacked ones away, beside controls that know no paths."""
    radius = _number(eps)
    with working("figures that were written stay."):
        check_device(device)
        from neurochains.decoupling import detect as measure

        network = load_network(run, model=model, weights=weights, trust_pickle=trust_pickle, device=device)
        found = measure(
            network,
            load_images(network, run, images, per_class),
            attacks=attacks or ("fgsm", "pgd", "adaptive pgd"),
            eps=radius,
            norm=norm,
            steps=steps,
            train_per_class=train,
            seeds=seeds,
            progress=None if quiet else tell,
        )
        files = [] if out is None else save_figures(_detection_figures(found), out)
    if as_json:
        write_json({**found.to_json(), "files": files})
        return
    console = results_console()
    console.print(_detection_table(found))
    for name, share in found.success.items():
        console.print(f"{name} changed {share:.0%} of {found.images:,} correct answers", soft_wrap=True)
    tell_figures(files)


def _shapes_parts(run: str, per_class: int | None) -> tuple[Tensor, dict[str, Any]]:
    """Return images of the built-in shapes and the masks of their parts."""
    import torch

    from neurochains.data import shapes

    if not run.startswith("shapes:"):
        raise SettingsError("Say which images and which parts: --images FOLDER --parts NAME=TOP,LEFT,BOTTOM,RIGHT.")
    drawn = shapes.batch(_CLASSES * (per_class or _DRAWN), split="test")
    return shapes.PREPROCESS.normalise(torch.from_numpy(drawn.pixels)), {n: drawn.part(n) for n in shapes.PARTS}


def _boxes(words: list[str] | None) -> dict[str, Any]:
    """Return a box for each part that is named.

    Raises:
        SettingsError: there is none, or one is no box.
    """
    import torch

    found = {}
    for word in words or []:
        name, _, box = word.partition("=")
        numbers = box.split(",")
        if not name or len(numbers) != 4 or not all(number.strip().isdigit() for number in numbers):
            raise SettingsError(f"--parts takes NAME=TOP,LEFT,BOTTOM,RIGHT, such as eye=10,12,20,30; got {word!r}.")
        found[name] = torch.tensor([int(number) for number in numbers])
    if not found:
        raise SettingsError("Say which parts: --parts NAME=TOP,LEFT,BOTTOM,RIGHT ..., in pixels of the model's input.")
    return found


def _number(text: str) -> float:
    """Return a number or a fraction.

    Raises:
        SettingsError: it is neither.
    """
    try:
        above, _, below = text.partition("/")
        return float(above) / (float(below) if below else 1.0)
    except (ValueError, ZeroDivisionError) as error:
        raise SettingsError(f"--eps takes a number or a fraction, such as 0.03 or 8/255; got {text!r}.") from error


def _concept_table(found: Concepts) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("part", no_wrap=True)
    for name in ("filters", "precision", "recall", "chance"):
        table.add_column(name, justify="right")
    for row in found.summary():
        shares = [f"{row[name]:.2f}" if row["filters"] else "-" for name in ("precision", "recall", "chance")]
        table.add_row(row["part"], f"{row['filters']:,}", *shares)
    return table


def _concept_figures(found: Concepts) -> dict[str, Figure]:
    from neurochains.pictures import concepts_figure

    rows = [row for part in found.parts for row in found.of_part(part)[: max(3, _ROWS // len(found.parts))]]
    if not rows:
        tell("hint: no filter answers to any of the parts, so there is nothing to draw.")
        return {}
    places = {(row.layer, row.filter): index for index, row in enumerate(rows)}
    starts, start = {}, 0
    for layer, count in found.filters.items():
        starts[layer] = start
        start += count
    off = {f"{layer}[{unit}]": found.off[:, starts[layer] + unit].tolist() for layer, unit in places}
    checks = {f"{row.layer}[{row.filter}]": (row.precision, row.recall, row.chance) for row in rows}
    return {"concepts": concepts_figure(off, checks, found.parts, title="Filters that answer to a part")}


def _detection_table(found: Detection) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("features", "classifier"):
        table.add_column(name, no_wrap=True)
    for name in found.success:
        table.add_column(f"AUROC, {name}", justify="right")
    kinds = dict.fromkeys((row.features, row.classifier) for row in found.rows)
    for features, classifier in kinds:
        rows = {row.tested_on: row for row in found.select(features=features, classifier=classifier)
                if row.trained_on in ("", row.tested_on)}  # fmt: skip
        cells = [f"{rows[name].mean:.3f} ± {rows[name].sd:.3f}" if name in rows else "-" for name in found.success]
        table.add_row(features, classifier, *cells)
    return table


def _detection_figures(found: Detection) -> dict[str, Figure]:
    from neurochains.pictures import cross_attack_figure, detection_figure

    rows = [row.to_json() for row in found.rows]
    title = f"Attacks on {found.images:,} images, detected"
    cross = "Detected by paths: trained on one attack (down), tested on another (across)"
    return {"detection": detection_figure(rows, title=title), "cross": cross_attack_figure(rows, title=cross)}
