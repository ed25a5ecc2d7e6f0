"""Every error has its page in docs/errors, and the pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import neurochains.errors

PAGES = Path(__file__).parents[1] / "docs" / "errors"
NAMES = [name for name in neurochains.errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize("name", NAMES)
def test_every_error_has_a_page(name):
    kind = getattr(neurochains.errors, name)
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}: ")
    assert re.findall("^## (.*)", page, re.M) == ["What it means", "An example", "What to do"]
    bases = ", ".join(f"`{base.__name__}`" for base in kind.__bases__)
    assert f"{bases}; exit code {kind.exit_code}." in page


def test_the_index_lists_every_page_with_its_exit_code():
    index = (PAGES / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| .+ \| (\d) \|$", index, re.M)
    assert {name for name, _, _ in rows} == set(NAMES) == {path.stem for path in PAGES.glob("*.md")} - {"README"}
    for name, page, code in rows:
        assert name == page
        assert int(code) == getattr(neurochains.errors, name).exit_code
