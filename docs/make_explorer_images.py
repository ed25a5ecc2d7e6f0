"""Draws the pictures of the explorer's documentation: each panel in a real browser, as a person finds it.

``python docs/make_explorer_images.py`` prepares the bundled network in a temporary folder, finds two chains in it,
opens the explorer and saves what each panel shows as a PNG file in ``docs/images``. It needs playwright and a chromium.
Run it after a change to the page, and look at what came.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from benchmarks.browser import page, settle  # noqa: E402
from make_images import small_png  # noqa: E402

import neurochains as nc  # noqa: E402

IMAGES, OF_A_CHAIN, PATIENCE = 320, 16, 600_000
PAIRS = (["red striped disc", "red striped star"], ["red striped disc", "green checked triangle"])
QUERY = "expression=%22red+striped+disc%22+-+overall"
UNIT = "unit=features.10[22]"


def main() -> int:
    """Draw all pictures; return 1 if something went wrong on the page."""
    with tempfile.TemporaryDirectory() as folder:
        model = nc.load_model("shapes:vgg")
        bundle = nc.prepare(model, nc.Task.shapes(IMAGES), Path(folder, "bundle"), projection="pca")
        tasks = [nc.Task.shapes(OF_A_CHAIN, classes=pair) for pair in PAIRS]
        runs = [
            nc.extract(model, task, controls=False).save(Path(folder, f"{' and '.join(pair)}"))
            for task, pair in zip(tasks, PAIRS)
        ]
        with nc.explore(bundle, chains=runs, model=model, port=0) as explorer, page() as (made, wrong):
            made.set_default_timeout(PATIENCE)
            for name, (search, ready) in SHOTS.items():
                made.goto(f"{explorer.url}?{search}", wait_until="commit")
                ready(made)
                settle(made)
                made.screenshot(path=Path(folder, "shot.png"))
                small_png(Path(folder, "shot.png"), HERE / "images" / f"explorer-{name}.png")
            return int(any("net::ERR_ABORTED" not in text for text in wrong))


def seen(*selectors: str) -> Callable[[Any], None]:
    """Return what waits until some things are there."""
    return lambda made: [made.wait_for_selector(selector) for selector in selectors]


def painted(made: Any) -> None:
    """Paint the feature visualisation of the selected filter."""
    made.wait_for_selector("#filter-kernels .kernel-row")
    settle(made)
    made.get_by_role("button", name="Paint").click()
    made.wait_for_selector("#visual img")


def walked(made: Any) -> None:
    """Go to where a filter's kernels are listed."""
    made.wait_for_selector("#filter-kernels .kernel-row")
    settle(made)
    made.evaluate("document.querySelector('#filter-kernels').scrollIntoView()")


def parted(made: Any) -> None:
    """Find the sub-features of the selected filter."""
    settle(made)
    made.get_by_role("button", name="Find sub-features").click()
    made.wait_for_selector("#sub-shown section, #sub-shown p:has-text('no clusters')")
    made.wait_for_selector("#sub-find:not([disabled])")


SHOTS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "network": (QUERY, seen("#graph canvas", "#query-said p")),
    "circuit": (f"{QUERY}&graph=2d&{UNIT}&image=0.1&cell=6.8", painted),
    "kernels": (f"{QUERY}&graph=2d&{UNIT}", walked),
    "kernel": (f"{QUERY}&graph=2d&{UNIT}&kernel=features.10[22]<13&panel=kernel", seen("#kernel-matrix .heatmaplayer")),
    "image": (f"{QUERY}&graph=2d&chains=0&image=0.3&panel=image", seen("#image-bars .barlayer", "#image-strip .tile")),
    "ablation": (
        f"{QUERY}&graph=2d&off=features.10[22]&off=features.15[1]&off=block:features.18&panel=ablation",
        seen("#ablation-bars .barlayer", "#ablation-scores table"),
    ),
    "chains": (f"{QUERY}&chains=0&chains=1&panel=chains", seen("#graph canvas", "#chain-shown table")),
    "paths": (f"{QUERY}&graph=2d&chains=0&panel=chains", seen("#chain-shown button")),
    "subfeatures": ("graph=2d&unit=features.15[1]&panel=subfeatures", parted),
}


if __name__ == "__main__":
    sys.exit(main())
