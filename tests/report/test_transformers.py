"""Reports of transformers: kept patches, what tokens are made of, what heads read."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from benchmarks.browser import find_chromium
from benchmarks.browser import page as browser_page
from matplotlib.text import Text
from tests.transformers import images, make
from torch import Tensor

import neurochains as nc
from neurochains.chains import Chain
from neurochains.data import Task
from neurochains.pictures import attribution, overlay
from neurochains.report import Report, collect, render, write_report
from neurochains.report.figures import page_figures

OPTIONS = {"fidelity": 0.2, "refit": 5}


@pytest.fixture(scope="module")
def patches() -> Chain:
    return nc.extract(make("bundled"), images(4), units=("patches",), **OPTIONS)


@pytest.fixture(scope="module")
def both() -> Chain:
    return nc.extract(make("bundled"), images(4), units=("heads", "hidden", "patches"), **{**OPTIONS, "fidelity": 0.01})


@pytest.fixture(scope="module")
def of_patches(patches) -> Report:
    return collect(patches, visual_steps=0)


@pytest.fixture(scope="module")
def of_both(both) -> Report:
    return collect(both, visual_steps=0)


def test_a_report_of_patches_alone_says_nothing_of_filters(patches, of_patches):
    sizes = patches.metrics["patches"]
    assert of_patches.verdict.startswith(f"{100 * sizes['kept'] / sizes['of']:.1f} % of the patches over all blocks")
    assert of_patches.facts[0].label == "of the patches over all blocks, out of 16 in each"
    assert any(text.startswith("Patches are kept image by image") for text in of_patches.warnings)
    assert (of_patches.architecture, of_patches.heads, of_patches.layers) == (None, None, ())
    assert list(of_patches.measures.columns) == ["chain", "random patches", "attended patches"]
    assert "Patches, over all blocks and images" in [row.name for row in of_patches.measures.sizes]
    page = render(of_patches)
    assert 'id="patches"' in page
    assert 'id="figure-patches"' in page
    for absent in ('id="architecture"', 'id="filters"', 'id="heads"', 'id="chains"', "refit of their scores"):
        assert absent not in page


def test_the_figures_are_written_too(patches, tmp_path):
    write_report(patches, tmp_path / "page.html", visual_steps=0, also=Task(images(5)[4:]))
    names = {file.stem for file in (tmp_path / "page_figures").iterdir()}
    assert names == {"patches", "controls", "per-image"}


def test_patches_are_those_of_the_chain(patches, of_patches):
    task = patches.task
    assert [view.name for view in of_patches.patches] == [view.name for view in of_patches.images[:3]]
    for view in of_patches.patches:
        row = task.names.index(view.name)
        assert torch.equal(torch.from_numpy(view.kept), patches.patches[row])
        whole = attribution(patches.network, task.images[row : row + 1], normalise=True)
        kept = patches.patches[row : row + 1]
        less = attribution(patches.network, task.images[row : row + 1], kept=kept, normalise=True)
        assert torch.allclose(torch.from_numpy(view.original), whole[0], atol=1e-5)
        assert torch.allclose(torch.from_numpy(view.reduced), less[0], atol=1e-5)


def test_answers_are_those_of_the_hard_network(both, of_both):
    with torch.no_grad():
        reduced = both.compact()(both.task.images).softmax(-1)
    for view in of_both.images:
        row = both.task.names.index(view.name)
        assert view.reduced.probability == pytest.approx(float(reduced[row].max()), abs=1e-4)


def test_heads_stand_beside_hidden_units(both, of_both):
    assert of_both.noun == "units"
    assert of_both.architecture is not None
    assert " units in " in of_both.verdict
    assert " and " in of_both.verdict
    columns = list(of_both.measures.columns)
    assert columns[:5] == ["chain", "random patches", "attended patches", "all patches", "random"]
    assert of_both.measures.columns["random"] == "as many units of each layer, drawn at random, with all patches"
    assert of_both.architecture.summary.split(" in ")[0].endswith("of 105 units")
    kept = {f"{both.network.layer(name).label}_{unit}" for name, unit in _kept_heads(both)}
    assert of_both.heads is not None
    assert {head.label for head in of_both.heads.heads} == kept
    assert of_both.heads.total == 9
    page = render(of_both)
    assert 'id="figure-heads"' in page
    assert "The kept units" in page


def test_a_head_shows_what_the_class_token_reads_through_it(both, of_both):
    name, unit = _kept_heads(both)[0]
    head = next(one for one in of_both.heads.heads if one.label == f"{both.network.layer(name).label}_{unit}")
    block = int(name.split(".")[1])
    read = _attention(both.task.images, block)[:, unit, 0, 1:].unflatten(-1, (4, 4))
    shown = [both.task.names.index(sample) for sample, _ in of_both.heads.samples]
    limits = (0.0, float(read[shown].max()))
    for row, heatmap in zip(shown, head.heatmaps, strict=True):
        literal = overlay(read[row], both.task.pixels[row], limits=limits).numpy()
        assert abs(literal.astype(int) - heatmap.astype(int)).max() <= 1


def _kept_heads(chain: Chain) -> list[tuple[str, int]]:
    heads = [layer.name for layer in chain.network.heads]
    return [(name, unit) for name in heads if name in chain.filters for unit in chain.filters[name].tolist()]


def _attention(pixels: Tensor, block: int) -> Tensor:
    """Return the maps (N, H, T, T) of one block of the small transformer."""
    model = make("bundled")
    tokens = model.embed(pixels)
    for earlier in model.blocks[:block]:
        tokens = earlier(tokens)
    split = model.blocks[block].attn.qkv(model.blocks[block].norm1(tokens)).unflatten(-1, (3, 3, 8))
    query, key, _ = split.permute(2, 0, 3, 1, 4)
    return (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)


def test_patches_are_shown_of_each_class():
    task = Task.shapes(6, seed=3, classes=[0, 0, 0, 1, 2, 2])
    page = collect(nc.extract("shapes:vit", task, units=("patches",), controls=False), visual_steps=0)
    assert sorted(task.labels[task.names.index(view.name)].item() for view in page.patches) == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="no chromium is installed")
@pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_pages_of_both_open_without_an_error(patches, both, tmp_path):
    with browser_page() as (made, wrong):
        for name, chain in (("patches", patches), ("both", both)):
            write_report(chain, tmp_path / f"{name}.html", visual_steps=0)
            made.goto((tmp_path / f"{name}.html").as_uri())
            assert made.locator("#figure-patches").is_visible()
            assert made.locator("#find-filter").count() == (name == "both")
        assert wrong == []


def test_chains_without_units_are_not_told():
    task = Task.shapes(4, seed=0, classes=[0, 1])
    page = collect(nc.extract("shapes:vit", task, units=("heads",), controls=False), visual_steps=0)
    assert page.heads is not None
    assert not page.tells_chains
    written = render(page)
    assert 'href="#chains"' not in written
    assert "0 filters" not in written
    figure = page_figures(page)["leave-one-out"]
    assert "What is lost without each unit" in [text.get_text() for text in figure.findobj(Text)]
