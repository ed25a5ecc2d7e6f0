"""The page and its server as a person meets them: restarted, without its bundle, in a notebook, stopped in its work."""

from __future__ import annotations

import importlib.util
import os

import pytest
from benchmarks.browser import find_chromium, page, settle

from neurochains.circuits import prepare
from neurochains.data import Task
from neurochains.network import load_model

pytestmark = [
    pytest.mark.skipif(
        "NEUROCHAINS_RESTARTS" not in os.environ, reason="takes minutes on a busy machine; set NEUROCHAINS_RESTARTS=1"
    ),
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium is installed"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="playwright is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def model():
    return load_model("shapes:resnet")


@pytest.fixture(scope="module")
def place(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles") / "shapes"
    return prepare(model, Task.shapes(160), folder, projection="pca").folder.place


def text_of(made, name):
    return made.locator(f"#{name}").inner_text()


def test_a_page_goes_on_when_its_server_was_started_again(place, model):
    from neurochains.explorer import explore

    with page() as (made, _):
        with explore(place, model=model, port=0) as first:
            port = first.port
            made.goto(f"{first.url}?graph=2d&filters=0.5&unit=layer2.0.conv1[3]", wait_until="commit")
            made.wait_for_selector("#filter-head h2")
            settle(made)
        made.wait_for_function("document.getElementById('trouble').innerText.includes('does not answer')")
        with explore(place, model=model, port=port):
            made.wait_for_function("document.getElementById('trouble')?.innerText === ''")
            made.wait_for_selector("#filter-head h2")
            settle(made)
            assert "filters=0.5" in made.url
            made.locator("#filter-find").fill("L1B1C1_2")
            made.locator("#filter-find").press("Enter")
            made.wait_for_function("document.querySelector('#filter-head h2')?.innerText === 'L1B1C1_2'")


def test_a_bundle_that_goes_is_missed_and_one_that_comes_back_is_read(place, model, tmp_path):
    import shutil

    from neurochains.explorer import explore

    own = shutil.copytree(place, tmp_path / "own")
    with explore(own, model=model, port=0) as running, page() as (made, _):
        made.goto(running.url, wait_until="commit")
        made.wait_for_selector("#graph canvas")
        own.rename(tmp_path / "away")
        made.wait_for_function("document.getElementById('trouble').innerText.includes('not there any more')")
        (tmp_path / "away").rename(own)
        made.wait_for_function("document.getElementById('trouble').innerText === ''")


def test_a_notebook_shows_it_below_the_cell(place, model, tmp_path, monkeypatch):
    from neurochains.explorer import explore, serve

    monkeypatch.setattr(serve, "_in_notebook", lambda: True)
    with explore(place, model=model, port=0) as running, page() as (made, _):
        (tmp_path / "notebook.html").write_text(f"<!doctype html><body>{running._repr_html_()}</body>")
        made.goto((tmp_path / "notebook.html").as_uri())
        inside = made.frame_locator("iframe")
        inside.locator("#graph canvas").first.wait_for()
        inside.locator("#filter-find").fill("L1B1C1_2")
        inside.locator("#filter-find").press("Enter")
        inside.locator("#filter-head h2", has_text="L1B1C1_2").wait_for()


def test_finding_sub_features_can_be_stopped_and_what_was_found_stays(place, model):
    from neurochains.explorer import explore

    with explore(place, model=model, port=0) as running, page() as (made, wrong):
        made.goto(f"{running.url}?graph=2d&unit=layer3.0.conv2[3]&panel=subfeatures", wait_until="commit")
        made.get_by_role("button", name="Find sub-features").click()
        made.wait_for_function("document.getElementById('sub-progress').innerText.includes('Painting')")
        made.locator("#sub-stop").click()
        made.wait_for_selector("#sub-find:not([disabled])")
        made.wait_for_selector("#sub-shown section")
        assert "clusters of" in text_of(made, "sub-shown")
        made.wait_for_timeout(2500)
        assert not running._worker._jobs._known
        assert text_of(made, "sub-progress") == ""
        assert wrong == []


def test_a_calculation_path_is_marked_and_follows_the_image(place, model):
    from neurochains.explorer import explore

    with explore(place, model=model, chains=["shapes:resnet"], port=0) as running, page() as (made, wrong):
        made.goto(f"{running.url}?graph=2d&panel=chains", wait_until="commit")
        made.locator("#chain-pick").click()
        made.get_by_role("option", name="shapes:resnet").click()
        made.wait_for_function("document.getElementById('chain-shown').innerText.includes('sometimes')")
        made.wait_for_function("document.getElementById('marks').innerText.includes('off here, on for others')")
        before = text_of(made, "chain-shown")
        made.keyboard.press("Escape")
        made.get_by_role("tab", name="Image").click()
        made.locator("#image-strip .tile").nth(2).click()
        made.get_by_role("tab", name="Chains").click()
        made.wait_for_function("(old) => document.getElementById('chain-shown').innerText !== old", arg=before)
        assert wrong == []
