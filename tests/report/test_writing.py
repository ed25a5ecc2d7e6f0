"""The page as people get it: self-contained, complete, escaped, the same each time, and whole or not there at all."""

from __future__ import annotations

import errno
import importlib
import itertools
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from neurochains.chains import Chain
from neurochains.data import Task
from neurochains.errors import ArtifactError, ImageError, SettingsError
from neurochains.report import collect, render, write_report
from neurochains.report.files import place_of, save_page

VOID = {"meta", "img", "input", "br", "link", "hr"}


class Page(HTMLParser):
    """What a page is made of; complains where elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def text(report):
    return render(report)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def test_the_page_needs_nothing_from_anywhere(text, page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "poster", "srcset", "action"):
            if name in attributes:
                assert attributes[name].startswith(("data:image/", "#")), (tag, attributes[name][:60])
        assert tag not in ("link", "iframe", "object", "embed")
    assert not re.search(r"url\(\s*['\"]?(?!#)", text)
    assert not re.search(r"@import|fetch\(|XMLHttpRequest|import\(", text)
    assert len(text.encode()) < 15_000_000


def test_every_section_is_there(page):
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    for section in ("architecture", "images", "chains", "maps", "measures", "further", "filters", "origin"):
        assert section in ids
    targets = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    assert set(targets) <= set(ids)
    assert len(ids) == len(set(ids))


def test_headings_do_not_skip_a_level(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(second <= first + 1 for first, second in itertools.pairwise(levels))


def test_pictures_have_words_and_scrolled_parts_can_be_reached(page):
    assert all("alt" in attributes for tag, attributes in page.tags if tag == "img")
    for _, attributes in page.tags:
        if "scroll" in attributes.get("class", "").split():
            assert attributes["tabindex"] == "0"
            assert attributes["aria-label"]


def test_what_was_found_stands_in_the_page(chain, report, page):
    assert report.verdict in page.text
    assert "red striped disc" in page.text
    for layer in report.layers:
        assert layer.units[0].label in page.text
        assert layer.units[0].name in page.text
    assert chain.provenance["model"]["digest"] in page.text
    for digest in chain.task.digests:
        assert digest in page.text
    assert "nc.Task.shapes(4, seed=0, split='test', classes=[0, 5])" in page.text
    assert "2 images held out" in page.text


def test_names_cannot_break_out_of_the_page(make_chain):
    made = make_chain(images=2)
    evil = "<script>alert(1)</script>\"'&"
    names = tuple(f"{evil} {i}" for i in range(16))
    task = Task(made.task.images, made.task.labels, names, names=[f"{evil}{i}.png" for i in range(2)])
    hostile = Chain(made.network, task, made.subnetwork, {"note": evil}, made.metrics)
    hostile.provenance["model"]["name"] = evil
    written = render(collect(hostile, visual_steps=0, paths_per_class=1))
    page = Page(written)
    assert "alert(1)" not in "".join(re.findall(r"<script>(.*?)</script>", written, re.DOTALL))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert evil in page.text


@pytest.fixture(scope="module")
def written(chain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    told: list[str] = []
    further = Task.shapes(1, seed=7, classes=[1])
    path = write_report(
        chain, folder / "a" / "page.html", also=further, visual_steps=1, paths_per_class=1, progress=told.append
    )
    return path, told


def test_page_and_figures_are_written(written):
    path, told = written
    assert path.name == "page.html"
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []
    figures = sorted(entry.name for entry in (path.parent / "page_figures").iterdir())
    stems = {name.rsplit(".", 1)[0] for name in figures}
    expected = {"architecture", "controls", "per-image", "leave-one-out", "smoe", "also-1-parting", "also-1-smoe"}
    assert expected | {"chain-red-striped-disc-1", "chain-green-dotted-square-1"} <= stems
    assert figures == sorted(f"{stem}.{kind}" for stem in stems for kind in ("svg", "png"))
    assert any("figures" in stage for stage in told)
    with Image.open(path.parent / "page_figures" / "smoe.png") as picture:
        assert picture.width > 1000


def test_the_same_chain_gives_the_same_page(alone, tmp_path):
    first = write_report(alone, tmp_path / "1.html", visual_steps=1, figures=False, paths_per_class=1)
    second = write_report(alone, tmp_path / "2.html", visual_steps=1, figures=False, paths_per_class=1)
    assert first.read_bytes() == second.read_bytes()
    assert not (tmp_path / "1_figures").exists()


def test_one_image_without_held_out_ones(alone, tmp_path):
    path = write_report(alone, tmp_path, visual_steps=0, figures=False)
    assert path == tmp_path / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert "The chain was extracted on one image" in page.text
    assert "No images were held out" in page.text
    assert "held out" not in " ".join(text for text in page.words if text.startswith("On "))


def test_outputs_that_are_no_classes(values, tmp_path):
    path = write_report(values, tmp_path / "values.html", visual_steps=1)
    page = Page(path.read_text(encoding="utf-8"))
    assert "mean squared error" in page.text
    assert "prediction" not in page.text.split("The images", 1)[0]
    assert "Predictions kept" not in page.text
    assert "a module without a name" in page.text


def test_an_image_file_beside_its_class(chain, tmp_path):
    folder = tmp_path / "red striped disc"
    folder.mkdir()
    file = folder / "new.png"
    Image.fromarray(chain.task.pixels[0].permute(1, 2, 0).numpy()).save(file)
    path = write_report(chain, tmp_path / "r.html", also=[file], visual_steps=0, figures=False, paths_per_class=1)
    page = Page(path.read_text(encoding="utf-8"))
    assert "beside red striped disc" in page.text
    assert "new.png" in page.text


def test_bad_images_and_settings_leave_nothing_behind(chain, values, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    out = tmp_path / "out" / "r.html"
    with pytest.raises(ImageError, match=r"broken\.png"):
        write_report(chain, out, also=[broken])
    with pytest.raises(ImageError, match="no file"):
        write_report(chain, out, also=[tmp_path / "none.png"])
    with pytest.raises(SettingsError, match=r"how images are prepared .* is not known"):
        write_report(values, out, also=[broken])
    with pytest.raises(SettingsError, match="paths_per_class and max_samples of 1 or more"):
        write_report(chain, out, paths_per_class=0)
    assert not out.parent.exists()


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(ArtifactError, match="taken is a file"):
        place_of(tmp_path / "taken" / "r.html")
    with pytest.raises(ArtifactError, match=r"Name a \.html file or a folder"):
        place_of(tmp_path / "taken")
    assert place_of(tmp_path / "new") == tmp_path / "new" / "report.html"


def test_a_full_disk_leaves_the_old_page(tmp_path, monkeypatch):
    file = tmp_path / "r.html"
    save_page("old", file)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match="No space left on device"):
        save_page("new", file)
    assert file.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.html"]


def test_a_page_that_is_too_large_says_so(report, monkeypatch):
    monkeypatch.setattr(importlib.import_module("neurochains.report.render"), "LARGEST", 1000)
    with pytest.raises(ArtifactError, match="max_samples="):
        render(report)


def test_the_package_carries_its_templates():
    folder = Path(write_report.__code__.co_filename).parent / "templates"
    assert {"report.html", "macros.html", "style.css", "script.js"} <= {file.name for file in folder.iterdir()}
