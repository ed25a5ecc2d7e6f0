from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


class FakeReport:
    """Stands in for `write_report`: writes a small page, and remembers what it was asked."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.error: BaseException | None = None

    def __call__(self, chain, out: Path, *, progress=None, **settings) -> Path:
        self.settings = {"filters": chain.subnetwork.kept, **settings}
        if progress is not None:
            progress("report: writing the page")
        if self.error is not None:
            raise self.error
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("<!doctype html>")
        return out


@pytest.fixture
def writing(monkeypatch) -> FakeReport:
    """Return the writer that takes the place of the real one."""
    fake = FakeReport()
    monkeypatch.setattr("neurochains.report.write_report", fake)
    return fake


def test_a_report_lies_beside_its_chain_and_is_replaced(command, writing, saved):
    for _ in range(2):
        shown = command("report", saved)
        assert (shown.code, shown.err) == (0, "report: writing the page\n")
        assert shown.out == f"The report is in {saved / 'report.html'} (0.0 MB)\n"
    assert writing.settings == {"filters": 260, "also": (), "figures": True, "paths_per_class": 3}


def test_every_option_arrives(command, writing, saved, tmp_path):
    shown = command(
        "report", saved, "--also", "a.png", "b.png", "--paths", 5, "--no-figures", "-o", tmp_path / "x/p.html"
    )
    assert shown.code == 0
    also = [Path("a.png"), Path("b.png")]
    assert writing.settings == {"filters": 260, "also": also, "figures": False, "paths_per_class": 5}
    assert (tmp_path / "x" / "p.html").is_file()


def test_a_folder_gets_the_page(command, writing, saved, tmp_path):
    assert command("report", saved, "--out", tmp_path / "pages", "--quiet").out == ""
    assert (tmp_path / "pages" / "report.html").is_file()


def test_a_page_elsewhere_is_replaced_by_force_only(command, writing, saved, tmp_path):
    page = tmp_path / "index.html"
    page.write_text("mine")
    shown = command("report", saved, "--out", page)
    assert (shown.code, page.read_text(), writing.settings) == (2, "mine", {})
    assert "index.html exists already. Choose another name, or replace it with --force" in shown.err
    assert command("report", saved, "--out", page, "--force").code == 0
    assert page.read_text() == "<!doctype html>"


def test_an_interrupt_says_that_the_old_page_is_whole(command, writing, saved):
    writing.error = KeyboardInterrupt()
    assert command("report", saved).err.endswith(f"interrupted: nothing was written to {saved / 'report.html'}.\n")
    (saved / "report.html").write_text("old")
    shown = command("report", saved)
    assert shown.code == 130
    assert shown.err.endswith(f"interrupted: {saved / 'report.html'} is as it was.\n")


def test_the_model_of_a_run_can_be_named(command, writing, saved):
    assert command("report", saved, "--model", "shapes:vgg").code == 0
    shown = command("report", saved, "--model", "shapes:resnet")
    assert shown.code == 2
    assert "was extracted from a model with other weights" in shown.err


def test_what_is_no_run_is_refused(command, writing, tmp_path):
    shown = command("report", tmp_path / "nothing")
    assert shown.code == 2
    assert "holds no chain" in shown.err


def test_an_image_that_is_not_there_is_named(command, saved):
    shown = command("report", saved, "--also", "castle.png")
    assert shown.code == 2
    assert "there is no file castle.png" in shown.err
    assert not (saved / "report.html").exists()
