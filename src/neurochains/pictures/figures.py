"""The house look of every figure: white ground, one typeface, colours that colour-blind readers tell apart.

Figures are built without pyplot, so nothing global is touched and nothing opens a window. A width of 11 inches is
the width of a report page; all sizes are in points of that page.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Colormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from neurochains.errors import ArtifactError, DataError, SettingsError

__all__ = ["colormap", "figure", "save_figure", "score_colors", "svg", "text_width"]

PAGE = 11.0  # inches
INK, QUIET, FAINT, HAIR, LANE = "#1a1a1a", "#5f6368", "#9aa0a6", "#dadce0", "#f1f3f4"  # text to pale fill
BLUE, ORANGE, GREEN, PINK, SKY, AMBER = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
SERIES = (BLUE, ORANGE, GREEN, PINK, SKY, AMBER)  # Okabe and Ito, 2008
SMALL, BODY, TITLE = 7.0, 8.0, 10.5  # points
HINTED = 0.96  # screens round the width of letters; a long line grows by so much
MARGIN = 14.0  # points of white around everything

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "neurochains",
    "pdf.fonttype": 42,
    "image.composite_image": False,  # pictures stay apart and keep their own resolution in SVG
}


def figure(height: float, *, width: float = PAGE) -> Figure:
    """Return an empty white figure of ``width`` x ``height`` inches with its own canvas.

    Raises:
        SettingsError: a side is not between 0 and 200 inches.
    """
    if not (0 < width <= 200 and 0 < height <= 200):
        raise SettingsError(f"expected a figure of 0 to 200 inches a side, got {width} x {height}")
    made = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(made)
    return made


def canvas_axes(made: Figure) -> Axes:
    """Return axes without frame that cover the figure, with points as units and the origin at the top left."""
    width, height = made.get_size_inches() * 72
    axes = made.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return axes


def title_line(axes: Axes, title: str) -> None:
    """Write the title at the top left of axes in points."""
    text = shorten(title, TITLE, axes.get_xlim()[1] - 2 * MARGIN, bold=True)
    axes.text(MARGIN, 18, text, size=TITLE, weight="bold", color=INK)


def titled(height: float, title: str, width: float) -> Figure:
    """Return a figure of ``height`` points and ``width`` inches with a title at the top left."""
    made = figure(height / 72, width=width)
    if title:
        text = shorten(title, TITLE, width * 72 - 2 * MARGIN, bold=True)
        made.text(MARGIN / (width * 72), 1 - 17 / height, text, size=TITLE, weight="bold", color=INK, va="baseline")
    return made


def place(made: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Return axes at a place in points from the top left corner."""
    across, down = made.get_size_inches() * 72
    return made.add_axes((left / across, 1 - (top + height) / down, width / across, height / down))


def panel(made: Figure, left: float, top: float, width: float, height: float, *, grid: str | None = None) -> Axes:
    """Return axes in the house look, without small ticks, at a place in points from the top left corner."""
    axes = place(made, left, top, max(width, 20), height)
    axes.minorticks_off()
    return calm(axes, grid=grid)


def calm(axes: Axes, *, grid: str | None = None) -> Axes:
    """Return ``axes`` in the house look: two thin spines, small ticks, a faint grid along ``grid`` ("x", "y")."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(FAINT)
        spine.set_linewidth(0.6)
    axes.tick_params(labelsize=BODY, colors=QUIET, length=2.5, width=0.6)
    axes.xaxis.label.set(color=INK, size=BODY)
    axes.yaxis.label.set(color=INK, size=BODY)
    if grid is not None:
        axes.grid(axis="x" if grid == "x" else "y", color=HAIR, linewidth=0.5)
        axes.set_axisbelow(True)
    return axes


def colormap(name: str) -> Colormap:
    """Return one of matplotlib's colour maps by name.

    Raises:
        SettingsError: there is no such colour map.
    """
    try:
        return matplotlib.colormaps[name]
    except KeyError:
        raise SettingsError(f"matplotlib has no colour map {name!r}; try 'viridis', 'inferno' or 'RdBu_r'") from None


@lru_cache(maxsize=1)
def score_colors() -> Colormap:
    """Return the colour map of scores: viridis, reversed and without its palest end, dark for a large score."""
    return ListedColormap(colormap("viridis")(np.linspace(0.93, 0.05, 256)), name="score")


@lru_cache(maxsize=4096)
def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width in points of one line of text in the default typeface."""
    if not text.strip():
        return 0.0
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def shorten(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """Return ``text``, cut with an ellipsis where it is wider than ``room`` points."""
    if text_width(text, size, bold=bold) <= room:
        return text

    def width(length: int) -> float:
        return text_width(text[:length] + "…", size, bold=bold)

    return text[: max(bisect_right(range(len(text)), HINTED * room, key=width) - 1, 0)].rstrip() + "…"


def ink_on(color: Sequence[float]) -> str:
    """Return black or white, whichever reads better on an RGB colour in [0, 1]."""
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in color[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return INK if luminance > 0.3 else "white"


def display(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 ``(H, W, 3)`` of pixels ``(C, H, W)`` or ``(H, W, C)`` with one or three channels.

    Where both could be meant, the first axis counts as the channels.

    Raises:
        DataError: the array is no uint8 picture.
    """
    picture = np.asarray(pixels)
    if picture.dtype != np.uint8 or picture.ndim != 3 or 0 in picture.shape:
        raise DataError(f"expected a picture as uint8 (C, H, W) or (H, W, C), got {picture.dtype} {picture.shape}")
    if picture.shape[0] in (1, 3):
        picture = picture.transpose(1, 2, 0)
    elif picture.shape[2] not in (1, 3):
        raise DataError(f"a picture has 1 or 3 channels, got uint8 {picture.shape}")
    return np.repeat(picture, 3, axis=2) if picture.shape[2] == 1 else picture


def save_figure(made: Figure, path: str | Path, *, dpi: int = 150) -> Path:
    """Write a figure as ``.svg`` (text stays text) or ``.png``, by the suffix, and return the path.

    The same figure gives the same bytes. The file appears complete or not at all.

    Raises:
        SettingsError: another suffix.
        ArtifactError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png"):
        raise SettingsError(f"a figure is saved as .svg or .png, got {path.name!r}")
    data = _render(made, path.suffix.lower()[1:], dpi)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ArtifactError(f"cannot write the figure {path}: {error.strerror}; choose another folder") from error
    return path


def svg(made: Figure, *, name: str = "figure") -> str:
    """Return a figure as an SVG element to put into a page: no XML prolog, scaled to the room it gets.

    Args:
        made: the figure; it stays as it is.
        name: prefix of all ids in it; give each figure of one page its own.
    """
    text = _render(made, "svg", 72).decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r'^<svg([^>]*?) width="[^"]*"', r"<svg\1", text)
    text = re.sub(r'^<svg([^>]*?) height="[^"]*"', r"<svg\1", text)
    text = re.sub(r'(\bid="|"#|url\(#)', lambda match: f"{match[1]}{name}-", text)
    text = text.replace("<svg", f'<svg id="{name}"', 1).replace(">*{", f">#{name} *{{", 1)
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL).strip()


def _render(made: Figure, kind: str, dpi: int) -> bytes:
    """Return the bytes of a figure; reproducible, without date."""
    stream = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context(_STYLE):
        made.savefig(stream, format=kind, dpi=dpi, metadata=metadata, facecolor="white")
    return stream.getvalue()
