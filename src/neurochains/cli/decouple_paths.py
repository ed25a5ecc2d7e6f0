"""`neurochains decouple paths | tree`: which filters images use, and at which layer which classes part."""

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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurochains.decoupling import DecisionTree, Paths

__all__ = ["paths", "tree"]

Projection = Annotated[str, typer.Option(metavar="HOW", help="Into the plane: auto, umap or pca.")]
Smallest = Annotated[
    int | None, typer.Option(metavar="N", min=2, help="Fewest images of a node.", show_default="a twentieth")
]
Start = Annotated[str | None, typer.Option(metavar="LAYER", help="Where to begin.", show_default="the first")]
Least = Annotated[float, typer.Option(metavar="H", help="Least Hopkins statistic to part at.")]


def paths(
    run: Run,
    images: RunImages = None,
    out: Figures = None,
    projection: Projection = "auto",
    model: o.RunModel = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    device: o.Device = None,
    per_class: o.PerClass = None,
    seed: o.Seed = 0,
    as_json: o.AsJson = False,
) -> None:
    """Print how many filters the images of each class use, easy classes first, and draw the paths of the classes."""
    with working("figures that were written stay."):
        check_device(device)
        from neurochains.decoupling import calculation_paths

        network = load_network(run, model=model, weights=weights, trust_pickle=trust_pickle, device=device)
        found = calculation_paths(network, load_images(network, run, images, per_class))
        described = found.to_json()
        figures = {} if out is None else _path_figures(found, described, projection, seed)
        files = [] if out is None else save_figures(figures, out)
    if as_json:
        frequency = {name: values.tolist() for name, values in found.frequency().items()}
        write_json({**described, "frequency": frequency, "files": files})
        return
    console = results_console()
    if "classes" in described:
        console.print(_use_table(described["classes"]))
    used = described["used"]
    console.print(
        f"{described['distinct']:,} different paths of {described['images']:,} images; an image uses "
        f"{used['mean']:,.0f} of {described['filters']:,} filters, from {used['least']:,} to {used['most']:,}",
        soft_wrap=True,
    )
    tell_figures(files)


def tree(
    run: Run,
    images: RunImages = None,
    out: Figures = None,
    start: Start = None,
    smallest: Smallest = None,
    least: Least = 0.55,
    model: o.RunModel = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    device: o.Device = None,
    per_class: o.PerClass = None,
    seed: o.Seed = 0,
    as_json: o.AsJson = False,
) -> None:
    """Print at which layer which images part, tested for groups layer by layer, and draw the tree."""
    with working("figures that were written stay."):
        check_device(device)
        from neurochains.decoupling import calculation_paths, decision_tree

        network = load_network(run, model=model, weights=weights, trust_pickle=trust_pickle, device=device)
        found = calculation_paths(network, load_images(network, run, images, per_class))
        grown = decision_tree(found, start=start, smallest=smallest, least=least, seed=seed)
        files = [] if out is None else save_figures(_tree_figures(grown), out)
    if as_json:
        write_json({"tree": grown.to_json(), "leaves": len(grown.leaves), "files": files})
        return
    console = results_console()
    for depth, node in grown.root.walk():
        shown = ", ".join(f"{name} {count / len(node.images):.0%}" for name, count in _first(grown.counts(node)))
        way = "" if node.layer is None else f", part at {node.layer}"
        console.print(f"{'  ' * depth}{len(node.images):,} images{way}: {shown}", soft_wrap=True)
    tell_figures(files)


def _path_figures(found: Paths, described: dict[str, Any], projection: str, seed: int) -> dict[str, Figure]:
    from neurochains.pictures import class_distance_figure, class_use_figure, paths_figure, plane_figure

    if "classes" not in described:
        tell("hint: most figures compare classes, and the classes of these images are not known.")
        return {"paths": paths_figure({"all images": _lists(found)}, title="Calculation paths")}
    assert found.labels is not None
    groups = {found.class_name(label): _lists(found.of_class(label)) for label in found.classes}
    known = found.subset((found.labels >= 0).nonzero().flatten())
    labels, names = known.labels.tolist(), {label: found.class_name(label) for label in found.classes}  # type: ignore[union-attr]
    points = known.plane(method=projection, seed=seed)
    apart = described["class_distances"]
    figures = {
        "paths": paths_figure(groups, title="Calculation paths of the classes"),
        "plane": plane_figure(points, labels, names, title=f"Whole paths of {len(known):,} images"),
        "use": class_use_figure(described["classes"], title="Easy classes and hard ones"),
    }
    if len(found.classes) > 1:
        title = "How far the paths of two classes lie apart"
        figures["distances"] = class_distance_figure(apart, list(names.values()), title=title)
    return figures


def _lists(found: Paths) -> dict[str, list[float]]:
    return {name: values.tolist() for name, values in found.frequency().items()}


def _tree_figures(grown: DecisionTree) -> dict[str, Figure]:
    from neurochains.pictures import tree_figure

    title = f"The decision process: where {len(grown.paths):,} images part"
    return {"tree": tree_figure(grown.to_json(), title=title)}


def _first(counts: dict[str, int], most: int = 4) -> list[tuple[str, int]]:
    return list(counts.items())[:most]


def _use_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("class", no_wrap=True)
    for name in ("images", "filters", "sd", "share"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["name"], f"{row['images']:,}", f"{row['mean']:,.1f}", f"{row['sd']:.1f}", f"{row['share']:.1%}"
        )
    return table
