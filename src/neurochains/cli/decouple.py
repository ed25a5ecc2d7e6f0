"""`neurochains decouple train | eval | states | bench`: filters that are switched for each image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neurochains.cli import options as o
from neurochains.cli.console import results_console, working, write_json
from neurochains.cli.decouple_train import train
from neurochains.cli.decoupled_run import load_images, load_network, time_networks
from neurochains.cli.drawing import save_figures, tell_figures
from neurochains.cli.models import check_device
from neurochains.cli.values import ManyValues

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from neurochains.decoupling import Decoupled, States

__all__ = ["decouple"]

decouple = typer.Typer(
    name="decouple",
    no_args_is_help=True,
    add_completion=False,
    help="Train a copy of a model whose filters are switched for each image, and look at its calculation paths.",
)
decouple.command(cls=ManyValues)(train)

Run = Annotated[str, typer.Argument(metavar="RUN", help="A folder that train wrote, or shapes:resnet.")]
RunImages = Annotated[
    Path | None,
    typer.Option("--images", "-i", metavar="FOLDER", help="FOLDER/CLASS/FILE; of shapes:resnet by default shapes."),
]
Tolerance = Annotated[float, typer.Option(metavar="S", help="Share of images a state may be wrong for.")]
Figures = Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Write the figures here.")]
Repeats = Annotated[int, typer.Option(metavar="N", min=1, help="Passes over the images.")]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="Of torch.")]


@decouple.command(name="eval", cls=ManyValues)
def evaluate(
    run: Run,
    images: RunImages = None,
    model: o.RunModel = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    device: o.Device = None,
    per_class: o.PerClass = None,
    as_json: o.AsJson = False,
) -> None:
    """Print accuracy, the cost of the paths, and the shares of filter states on some images."""
    with working("nothing was written."):
        check_device(device)
        network = load_network(run, model=model, weights=weights, trust_pickle=trust_pickle, device=device)
        found = _evaluated(network, load_images(network, run, images, per_class))
    if as_json:
        write_json(found)
        return
    costs, shares = found["costs"], found["states"]
    lines = [f"{found['images']:,} images"]
    if found["accuracy"] is not None:
        lines.append(f"accuracy {found['accuracy']:.2%}, of the original {found['original_accuracy']:.2%}")
    lines.append(
        f"{costs['macs']:,.0f} MACs an image, controllers included; {costs['saved']:.1%} fewer than the original"
    )
    lines.append(", ".join(f"{name} {share:.1%}" for name, share in shares.items()) + " of the filters")
    results_console().print("\n".join(lines), soft_wrap=True)


@decouple.command(cls=ManyValues)
def states(
    run: Run,
    images: RunImages = None,
    out: Figures = None,
    tolerance: Tolerance = 0.0,
    model: o.RunModel = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    device: o.Device = None,
    per_class: o.PerClass = None,
    as_json: o.AsJson = False,
) -> None:
    """Print, layer by layer, which filters are on for all, for some and for none of the images."""
    with working("figures that were written stay."):
        check_device(device)
        network = load_network(run, model=model, weights=weights, trust_pickle=trust_pickle, device=device)
        task = load_images(network, run, images, per_class)
        found = network.states(task.images, tolerance=tolerance)
        files = [] if out is None else save_figures(_figures(found, run), out)
    if as_json:
        write_json({**found.to_json(), "shares": found.shares, "layers": found.table(), "files": files})
        return
    console = results_console()
    console.print(_states_table(found))
    shares = ", ".join(f"{name} {share:.1%}" for name, share in found.shares.items())
    console.print(f"{shares} of the filters, on {found.images:,} images", soft_wrap=True)
    for name, count in found.blank.items():
        console.print(f"{name}: no filter is on for {count:,} images", soft_wrap=True)
    tell_figures(files)


@decouple.command(cls=ManyValues)
def bench(
    run: Run,
    images: RunImages = None,
    repeats: Repeats = 3,
    threads: Threads = None,
    model: o.RunModel = None,
    weights: o.Weights = None,
    trust_pickle: o.TrustPickle = False,
    per_class: o.PerClass = 1,
    as_json: o.AsJson = False,
) -> None:
    """Time dynamic inference beside the original and the gated network, one image at a time, on the CPU."""
    with working("nothing was written."):
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        network = load_network(run, model=model, weights=weights, trust_pickle=trust_pickle, device="cpu")
        found = time_networks(network, load_images(network, run, images, per_class).images, repeats)
    if as_json:
        write_json(found)
        return
    console = results_console()
    for name, seconds in found["seconds"].items():
        console.print(f"{name:9} {1000 * seconds:8.2f} ms an image")
    console.print(
        f"dynamic: 1 / {found['speed']:.2f} of the original's time, 1 / {found['macs']:.2f} of its MACs; logits differ "
        f"by at most {found['difference']:.1e}",
        soft_wrap=True,
    )


def _evaluated(network: Decoupled, task: Any) -> dict[str, Any]:
    from neurochains.decoupling import count_states, path_costs

    codes = network.codes(task.images)
    found: dict[str, Any] = {"images": len(task), "costs": path_costs(network, codes).to_json()}
    found |= {"states": count_states(codes).shares, "accuracy": None, "original_accuracy": None}
    if task.labels is not None:
        runs: dict[str, Callable[..., Any]] = {"accuracy": network.predict, "original_accuracy": network.original}
        for name, run in runs.items():
            found[name] = float((run(task.images).argmax(1) == task.labels).double().mean())
    return found


def _states_table(found: States) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("layer", no_wrap=True)
    for name in ("filters", "energetic", "dynamic", "silent", "on"):
        table.add_column(name, justify="right")
    for row in found.table():
        counts = [f"{row[name]:,}" for name in ("filters", "energetic", "dynamic", "silent")]
        table.add_row(row["layer"], *counts, f"{row['on']:.0%}")
    return table


def _figures(found: States, run: str) -> dict[str, Figure]:
    from neurochains.pictures import frequency_figure, states_figure

    title = f"Filter states of {Path(run).name} on {found.images:,} images"
    frequencies = {name: values.tolist() for name, values in found.frequency.items()}
    return {
        "states": states_figure(found.table(), title=title),
        "frequencies": frequency_figure(frequencies, images=found.images),
    }
