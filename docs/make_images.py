"""Draws the pictures of the documentation, and writes what the demo prints into the README.

``python docs/make_images.py`` runs ``neurochains demo`` in a temporary folder, saves two of its figures as small PNG
files in ``docs/images``, and replaces the text between the marks in the README. Run it after a change to the search.
"""

from __future__ import annotations

import io
import re
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

from PIL import Image, ImageChops

from neurochains.cli.app import run

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
FIGURES = {"architecture": "demo-architecture", "chain-red-striped-star-1": "demo-chain"}
MARKS = ("<!-- demo: written by docs/make_images.py -->", "<!-- end of demo -->")
LARGEST = 300_000  # bytes of a picture
WIDTHS = (1400, 1200, 1000, 800, 600)


def main() -> int:
    """Run the demo and write what it shows; return its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        printed = io.StringIO()
        with redirect_stdout(printed):
            code = run(["demo", "--quiet", "--out", folder + "/demo"])
        if code:
            return code
        for figure, name in FIGURES.items():
            small_png(Path(folder, "demo", "report_figures", f"{figure}.png"), HERE / "images" / f"{name}.png")
    README.write_text(with_demo(README.read_text(encoding="utf-8"), printed.getvalue()), encoding="utf-8")
    return 0


def small_png(source: Path, target: Path) -> None:
    """Write a figure without its empty margin; where its file is too large, in 256 colours and as wide as may be."""
    with Image.open(source) as opened:
        picture = opened.convert("RGB")
    filled = ImageChops.difference(picture, Image.new("RGB", picture.size, "white")).getbbox() or (0, 0, *picture.size)
    picture = picture.crop((0, 0, min(filled[2] + 24, picture.width), picture.height))
    widths = [width for width in WIDTHS if width < picture.width]
    sizes = [(width, round(picture.height * width / picture.width)) for width in widths]
    tries = [picture, picture.quantize(256), *(picture.resize(size).quantize(256) for size in sizes)]
    target.parent.mkdir(exist_ok=True)
    target.write_bytes(next(data for data in map(png, tries) if len(data) <= LARGEST))


def png(picture: Image.Image) -> bytes:
    """Return a picture as a PNG file."""
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return data.getvalue()


def with_demo(readme: str, printed: str) -> str:
    """Return the README with the tables and the verdict that the demo printed, without times and places."""
    lines = [line.rstrip() for line in printed.splitlines() if not re.match("time of|The report is in", line)]
    block = "\n".join(["```text", *lines, "```"])
    first, last = (re.escape(mark) for mark in MARKS)
    return re.sub(f"{first}.*?{last}", lambda _: f"{MARKS[0]}\n{block}\n{MARKS[1]}", readme, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    sys.exit(main())
