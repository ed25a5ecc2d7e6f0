"""The documentation does what it says: its Python runs, its command lines parse, its links and pictures are there.

The Python blocks of a page, but for those on errors, run in order, in one namespace and an empty folder. A comment
``<!-- file: NAME -->`` in front of a block makes it the text of that file instead.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main

from neurochains.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- file: (?P<file>\S+) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
LINK = re.compile(r"""(?:\]\(|src=")(?!https?:|#)([^)#\s"]+)""")


def blocks(page: Path, kind: str) -> list[tuple[str | None, str]]:
    """The (file name, text) of the blocks of one kind on a page."""
    found = BLOCK.finditer(page.read_text(encoding="utf-8"))
    return [(match["file"], match["text"]) for match in found if match["kind"] == kind]


def pages_with(kind: str) -> list:
    pages = [page for page in PAGES if page.parent.name != "errors" and blocks(page, kind)]
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages]


def command_lines(page: Path) -> list[list[str]]:
    lines = [line for _, text in blocks(page, "console") for line in text.splitlines()]
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("page", pages_with("python"))
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    modules, names = set(sys.modules), {"__name__": "page"}
    for file, text in blocks(page, "python"):
        if file:
            Path(file).write_text(text)
        else:
            exec(compile(text, page.name, "exec"), names)
    for own in set(sys.modules) - modules:
        if str(getattr(sys.modules[own], "__file__", "") or "").startswith(str(tmp_path)):
            del sys.modules[own]


@pytest.mark.parametrize("page", pages_with("console"))
def test_the_command_lines_of_a_page_parse(page):
    group = typer.main.get_command(app)
    for words in command_lines(page):
        if words[0] == "neurochains":
            command = group.commands[words[1]]
            command.make_context(words[1], words[2:])
        elif words[0] == "make":
            assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M)
        else:
            assert words[0] == "pip"


def test_a_wrong_command_line_would_be_seen():
    command = typer.main.get_command(app).commands["extract"]
    with pytest.raises(Exception, match="No such option: --imges"):
        command.make_context("extract", ["--model", "shapes:vgg", "--imges", "photos", "--out", "runs/a"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_links_of_a_page_lead_somewhere(page):
    targets = LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_pictures_are_small():
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures
    assert all(picture.suffix == ".png" and picture.stat().st_size < 300_000 for picture in pictures)
