"""Sub-features of a bundled network's filters, held against what the images are known to show.

For some filters of each layer, on images of the shapes data (16 classes: shape, texture and colour of one object):

1. `layer_subfeatures`: clusters of the top patches, a circuit for each cluster, the mixed control.
2. Purity: the share of clustered patches whose object has the attribute that is most frequent in their cluster; beside
   it the mean for clusters that were dealt anew.
3. A filter *answers to two textures* (shapes, colours) if two of its clusters are each at least 80 % of one texture,
   not the same one.
4. Intervention: all but one cluster's circuit is removed; what it keeps of the filter's answers to its own cluster, and
   of those to the others (`answers_kept`).

It passes where the median separability of each layer is at most half of that of the mixed control, every filter lies
below all draws of its control, filters that answer to two textures or shapes are found, and circuits keep at least
twice as much of their own cluster as of the others.

``python -m benchmarks subfeatures [--model shapes:vgg] [--layers L10 L18] [--every 8] [--out FILE.csv]``
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from neurochains.circuits import (
    LayerSubFeatures,
    SubFeatures,
    answers_kept,
    layer_subfeatures,
    mixed_labels,
    purity,
)
from neurochains.data import Task, shapes
from neurochains.network import Network, load_model

ATTRIBUTES = {"shape": shapes.SHAPES, "texture": shapes.TEXTURES, "colour": shapes.COLOURS}
PURE = 0.8
DRAWS = 10


@dataclass(frozen=True)
class Row:
    """What came of one layer; purities and separabilities are means and medians over filters with clusters."""

    layer: str
    filters: int
    separable: int
    two_shapes: int
    two_textures: int
    two_colours: int
    purity_shape: float
    shuffled_shape: float
    purity_texture: float
    shuffled_texture: float
    purity_colour: float
    shuffled_colour: float
    separability: float
    mixed: float
    below_all_draws: int
    kept_own: float
    kept_others: float
    seconds_a_filter: float

    @property
    def passes(self) -> bool:
        """Whether the layer reaches what the module says."""
        found = self.two_shapes + self.two_textures
        apart = self.separability <= 0.5 * self.mixed and self.below_all_draws == self.separable
        return found > 0 and apart and self.kept_own >= 2 * self.kept_others


def truth(task: Task) -> dict[str, torch.Tensor]:
    """Return, for each attribute, which one each image's object has: ``(N,)``."""
    assert task.labels is not None
    each = [shapes.attributes(label) for label in task.labels.tolist()]
    return {
        name: torch.tensor([values.index(attributes[place]) for attributes in each])
        for place, (name, values) in enumerate(ATTRIBUTES.items())
    }


def answers_to_two(found: SubFeatures, kinds: torch.Tensor) -> bool:
    """Return whether two clusters are each mostly of one kind, not the same."""
    main = set()
    for cluster in range(found.clusters):
        counts = kinds[found.patches.images[found.members(cluster)]].bincount()
        if counts.max() >= PURE * counts.sum():
            main.add(int(counts.argmax()))
    return len(main) > 1


def purities(found: SubFeatures, kinds: torch.Tensor) -> tuple[float, float]:
    """Return the purity of the clusters, and its mean for clusters dealt anew."""
    here = kinds[found.patches.images]
    return purity(found.labels, here), float(np.mean([purity(row, here) for row in mixed_labels(found.labels, DRAWS)]))


def kept(network: Network, task: Task, chosen: Sequence[SubFeatures]) -> tuple[float, float]:
    """Return what circuits keep of the answers to their own cluster and to the others: medians over all pairs."""
    own, others = [], []
    for found in chosen:
        shares = answers_kept(network, task, found)
        same = torch.eye(len(shares), dtype=torch.bool)
        own += shares[same].tolist()
        others += shares[~same].tolist()
    return float(np.median(own)), float(np.median(others))


def row_of(network: Network, task: Task, ranked: LayerSubFeatures, seconds: float) -> Row:
    """Return what came of a layer."""
    chosen, kinds = ranked.separable, truth(task)
    pure = {name: np.mean([purities(one, values) for one in chosen] or [(0, 0)], 0) for name, values in kinds.items()}
    two = {name: sum(answers_to_two(one, values) for one in chosen) for name, values in kinds.items()}
    return Row(
        ranked.layer,
        len(ranked),
        len(chosen),
        *two.values(),
        *np.concatenate(list(pure.values())).tolist(),
        float(np.median([one.separability for one in chosen])) if chosen else float("nan"),
        float(np.median([one.mixed_separability for one in chosen])) if chosen else float("nan"),
        sum(one.separability < float(one.mixed.min()) for one in chosen),
        *(kept(network, task, chosen) if chosen else (float("nan"), float("nan"))),
        seconds / max(len(ranked), 1),
    )


def line(row: Row) -> str:
    """Return one row as a line to print."""
    return (
        f"{'ok' if row.passes else 'FAILS':6}{row.layer:13}{row.separable:3} of {row.filters:3}   two shapes "
        f"{row.two_shapes:3}, textures {row.two_textures:3}, colours {row.two_colours:3}   purity (shuffled) shape "
        f"{row.purity_shape:.2f} ({row.shuffled_shape:.2f}), texture {row.purity_texture:.2f} "
        f"({row.shuffled_texture:.2f}), colour {row.purity_colour:.2f} ({row.shuffled_colour:.2f})   separability "
        f"{row.separability:.2f}, mixed {row.mixed:.2f}, below all draws {row.below_all_draws}   kept of "
        f"own {row.kept_own:.2f}, of others {row.kept_others:.2f}   "
        f"{row.seconds_a_filter:.1f} s a filter"
    )


def write(rows: Sequence[Row], path: Path) -> None:
    """Write the rows as CSV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in dataclasses.fields(Row)])
        for row in rows:
            values = dataclasses.asdict(row).values()
            writer.writerow([f"{value:.3g}" if isinstance(value, float) else value for value in values])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the layers asked for and print a line for each; 1 if one fails."""
    parser = argparse.ArgumentParser(prog="benchmarks.subfeatures", description=str(__doc__).splitlines()[0])
    parser.add_argument("--model", default="shapes:vgg")
    parser.add_argument("--layers", nargs="+", default=["L10", "L13", "L15", "L18"], metavar="LAYER")
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--every", type=int, default=8, metavar="N", help="take every N-th filter (default 8)")
    parser.add_argument("--out", type=Path, help="CSV file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    task = Task.shapes(options.images)
    network = Network.trace(load_model(options.model), task.images[:1])
    rows = []
    for layer in options.layers:
        units, start = range(0, network.layer(layer).units, options.every), time.process_time()
        ranked = layer_subfeatures(network, task, layer, units=units, draws=DRAWS)
        rows.append(row_of(network, task, ranked, time.process_time() - start))
        print(line(rows[-1]), flush=True)
    if options.out:
        write(rows, options.out)
    return 0 if all(row.passes for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
