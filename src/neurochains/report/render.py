"""From the content of a report to one HTML page that needs nothing else.

Names of classes, images and models are escaped by the template engine; figures come in as SVG elements and pictures as
data URIs, both made here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import resources
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor

from neurochains.errors import ArtifactError
from neurochains.pictures import data_uri, lovi, overlay, svg, upsample
from neurochains.pictures.figures import display, ink_on, score_colors
from neurochains.pictures.smoe_figure import agreement
from neurochains.report import words
from neurochains.report.content import ImageView, MapsView, Report
from neurochains.report.figures import page_figures

__all__ = ["LARGEST", "render"]

LARGEST = 15_000_000  # bytes of a page
SHRINKING = (1.0, 0.75, 0.5, 0.35)  # sides of the pictures, tried in turn until the page is small enough
MANY_FILTERS = 150  # beyond, the table of filters is folded


def render(report: Report) -> str:
    """Return the page.

    Raises:
        ArtifactError: even with small pictures it is larger than 15 MB.
    """
    figures = {name: Markup(svg(made, name=f"figure-{name}")) for name, made in page_figures(report).items()}  # noqa: S704
    size = 0
    for scale in SHRINKING:
        page = _page(report, figures, scale)
        size = len(page.encode())
        if size <= LARGEST:
            return page
    raise ArtifactError(
        f"The report would have {size / 1e6:.0f} MB, more than the {LARGEST / 1e6:.0f} MB of a page. "
        "Show fewer images (max_samples=) or fewer chains (paths_per_class=)."
    )


def _page(report: Report, figures: Mapping[str, Markup], scale: float) -> str:
    template = _environment().get_template("report.html")
    return template.render(
        report=report,
        figures=figures,
        picture=_encoder(scale),
        maps=_maps(scale),
        likeness_of_maps=_shared,
        color=_color,
        report_largest=_largest(report),
        folded=sum(len(layer.units) for layer in report.layers) > MANY_FILTERS,
        style=Markup(_text("style.css")),  # noqa: S704 - a file of the package
        script=Markup(_text("script.js")),  # noqa: S704
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("neurochains.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("count", "decimal", "number", "percent", "plural")
    made.filters.update({name: getattr(words, name) for name in names})
    made.filters.update({"short": _short, "groupwise": _by_truth})
    return made


def _text(name: str) -> str:
    return resources.files("neurochains.report").joinpath("templates").joinpath(name).read_text(encoding="utf-8")


def _by_truth(views: Iterable[ImageView]) -> list[tuple[str | None, list[ImageView]]]:
    """Return images that follow each other by their class, None where it is not known."""
    return [(truth, list(several)) for truth, several in groupby(views, key=lambda view: view.truth)]


def _short(text: str, most: int) -> str:
    """Return a text cut in its middle, so that the end of a file name stays."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-(most // 2) :]}"


def _encoder(scale: float) -> Callable[..., str]:
    """Return the function from a picture to its data URI, for a place of so many points of the page."""

    def encode(pixels: np.ndarray, side: int, quality: int = 82) -> str:
        return data_uri(_fit(pixels, round(side * 2 * scale)), photo=True, quality=quality)

    return encode


def _fit(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return a picture reduced to at most ``side`` pixels; a smaller one stays as it is."""
    height, width = pixels.shape[:2]
    longest = max(height, width)
    if longest <= side:
        return pixels
    size = (max(1, width * side // longest), max(1, height * side // longest))
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(image)


def _maps(scale: float) -> Callable[[MapsView, str], list[str]]:
    """Return the function from an image to the data URIs of its maps laid over it, the combined one last."""
    encode = _encoder(scale)

    def overlaid(view: MapsView, which: str) -> list[str]:
        pixels = _fit(display(view.pixels), round(220 * scale))
        stack = [torch.from_numpy(one) for one in getattr(view, which)]
        laid = [overlay(one, torch.from_numpy(pixels.copy()), limits=(0.0, 1.0)).numpy() for one in stack]
        return [encode(one, 96) for one in [*laid, _lovi(stack, pixels.shape[:2])]]

    return overlaid


def _lovi(stack: list[Tensor], size: tuple[int, int]) -> np.ndarray:
    large = torch.stack([upsample(one, size) for one in stack])[None]
    return (lovi(large)[0] * 255).round().to(torch.uint8).numpy()


def _shared(view: MapsView, at: int) -> str:
    """Return how alike the maps of both networks are at a layer, as text."""
    value = agreement(torch.from_numpy(view.original[at]), torch.from_numpy(view.reduced[at]))
    return "constant" if np.isnan(value) else f"r {words.decimal(value, 2)}"


def _largest(report: Report) -> float:
    """Return the score that gets the last colour: the largest, or where that is far out the 95th percentile."""
    scores = [unit.score for layer in report.layers for unit in layer.units] or [1.0]
    usual = float(np.percentile(scores, 95))
    return usual if max(scores) > 2.5 * usual > 0 else max(scores)


def _color(score: float, largest: float) -> dict[str, Any]:
    """Return fill and ink of a score, as in the architecture figure."""
    fill = score_colors()(min(max(score / largest, 0.0), 1.0) if largest > 0 else 0.0)
    return {"fill": to_hex(fill), "ink": ink_on(fill)}
