"""Draws the picture of patch chains in the page on vision transformers: ``python docs/make_patches_image.py``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from make_images import HERE, small_png

import neurochains as nc
from neurochains.pictures import PatchRow, patches_figure, save_figure


def main() -> int:
    """Extract the patches of two images of shapes:vit and draw them beside what tokens are made of."""
    task = nc.Task.shapes(2, classes=[9, 0], seed=0)
    chain = nc.extract("shapes:vit", task, units=("patches",), controls=False)
    less = nc.attribution(chain.network, task, kept=chain.patches, normalise=True)
    whole = nc.attribution(chain.network, task, normalise=True)
    names = [task.label_name(int(label)) for label in task.labels]
    rows = [
        PatchRow(name, task.pixels[i], chain.patches[i], less[i], (8, 8), original=whole[i])
        for i, name in enumerate(names)
    ]
    with tempfile.TemporaryDirectory() as folder:
        drawn = Path(folder, "patches.png")
        save_figure(patches_figure(rows, width=7.6), drawn)
        small_png(drawn, HERE / "images" / "patches.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
