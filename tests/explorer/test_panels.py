"""What panels show, as functions of the desk and the view."""

from __future__ import annotations

import csv
import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from neurochains.errors import ImageError, SettingsError
from neurochains.explorer import ablation_panel, chains_panel, filter_panel, image_panel, kernel_panel, visual_panel
from neurochains.explorer.answers import answers
from neurochains.explorer.comparing import shared
from neurochains.explorer.exports import offline_page, ranking
from neurochains.explorer.saving import zipped
from neurochains.explorer.uploads import read_kept
from neurochains.explorer.view import View
from neurochains.network import Filter
from neurochains.pictures import data_uri


def text(component) -> str:
    """All that a component says, as JSON."""
    return json.dumps(component, default=lambda part: part.to_plotly_json())


@pytest.fixture
def unit(desk):
    return Filter(desk.bundle.spans.layers[1].name, 1)


def test_the_filter_panel_says_score_rank_and_shows_crops_and_kernels(desk, unit):
    view = View(unit=str(unit))
    said = text(filter_panel.head(desk, view))
    assert desk.label(unit) in said
    assert "in its layer" in said
    assert "data:image" in text(filter_panel.crops(desk, unit))
    around = text(filter_panel.kernels(desk, view, None))
    assert "Kernels in" in around
    assert "Kernels out" in around


def test_a_cell_of_the_map_outlines_what_it_sees_and_says_its_value(desk, network, unit):
    view = View(unit=str(unit), cell="1.2", image="1.0")
    values = filter_panel.map_of(desk, view, None)
    shown, said = filter_panel.seen_cell(desk, view, None, values)
    top, left, bottom, right = network.receptive_field(unit.layer).box(1, 2)
    assert f"{float(values[1, 2]):.4g}" in said
    assert f"rows {top} to {bottom - 1}, columns {left} to {right - 1}" in said
    assert text(shown) != text(filter_panel.seen_cell(desk, view.having(cell=""), None, values)[0])


def test_a_cell_outside_the_map_is_none(desk, unit):
    values = filter_panel.map_of(desk, View(unit=str(unit)), None)
    assert filter_panel.cell_of(View(cell="999.0"), values) is None


def test_the_kernel_panel_has_both_ends_weights_and_maps(desk, unit):
    said = text(kernel_panel.shown(desk, View(kernel=f"{unit}<0"), None))
    assert f"to {desk.label(unit)}" in said
    assert "goes in" in said
    assert "balance" in said


def test_answers_are_those_of_the_network_the_chain_and_what_is_left(desk, network, chains, unit):
    view = View(image="1.1", off=(str(unit),), chains=("0",))
    found = answers(desk, view)
    image = desk.task([(1, 1)]).images
    with torch.no_grad():
        wanted = network(image)[0].softmax(0), chains[0].subnetwork.run(network, image)[0].softmax(0)
    torch.testing.assert_close(found.series["original"], wanted[0])
    torch.testing.assert_close(found.series["chain 1"], wanted[1])
    assert set(found.series) == {"original", "chain 1", "after ablation"}
    assert found.label == desk.bundle.sets[1].label


def test_ablation_shows_changes_and_what_is_off(desk, unit):
    view = View(off=(str(unit), f"block:{desk.bundle.blocks[0].name}"))
    said = text(ablation_panel.changes(desk, view, None))
    assert "after ablation" in said
    assert desk.label(unit) in text(ablation_panel.listed(desk, view))


def test_what_is_off_is_saved_as_a_chain_and_with_kernels_as_a_circuit(desk, network, unit, tmp_path):
    view = View(off=(str(unit), f"block:{desk.bundle.blocks[0].name}"))
    name, data = zipped(desk, view)
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    assert name == "chain.zip"
    document = json.loads((tmp_path / "chain" / "chain.json").read_text())
    assert document["skipped"] == [desk.bundle.blocks[0].name]
    name, data = zipped(desk, View(off=(f"{unit}<0",)))
    zipfile.ZipFile(io.BytesIO(data)).extractall(tmp_path)
    assert name == "circuit.zip"
    assert (tmp_path / "circuit" / "circuit.json").is_file()
    with pytest.raises(SettingsError, match="Nothing is switched off"):
        zipped(desk, View())


def test_two_chains_are_parted_into_what_is_shared_and_what_is_not(desk, chains):
    found = shared(*(run.units for run in desk.runs))
    assert len(found.both) + len(found.first) == sum(len(kept) for kept in chains[0].filters.values())
    assert len(found.both) + len(found.second) == sum(len(kept) for kept in chains[1].filters.values())
    assert not set(found.first) & set(found.second)
    assert "only in chain 2" in text(chains_panel.shown(desk, View(chains=("0", "1"))))
    assert "KL 0.250" in text(chains_panel.shown(desk, View(chains=("0",))))


def test_a_visualisation_is_painted_with_progress_and_kept(own_desk):
    unit = Filter(own_desk.bundle.spans.layers[0].name, 2)
    view, told = View(unit=str(unit), objective="centre-"), []
    assert "not painted yet" in text(visual_panel.shown(own_desk, view))
    visual_panel.paint(own_desk, view, lambda step, steps: told.append((step, steps)), steps=32)
    assert told == [(16, 32), (32, 32)]
    kept = own_desk.bundle.visual(unit, objective="centre", negative=True)
    assert kept is not None
    assert f"reached {kept.reached:.3g}" in text(visual_panel.shown(own_desk, view))
    assert own_desk.bundle.visual(unit) is None


def picture_file(size=(60, 40), form="PNG") -> str:
    import base64

    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), np.uint8)).save(stream, form)
    return f"data:image/x;base64,{base64.b64encode(stream.getvalue()).decode()}"


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_a_dropped_picture_becomes_an_input_and_is_answered(desk, form):
    _, kept = image_panel.taken(desk, picture_file(form=form))
    pixels = read_kept(kept, desk.bundle.document.input_shape)
    assert tuple(pixels.shape) == desk.bundle.document.input_shape
    view = View(image="upload")
    assert answers(desk, view, kept).label == -1
    assert "your picture" in text(image_panel.shown(desk, view, kept))


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (None, "was not taken"),
        ("data:image/png;base64,@@@", "did not arrive whole"),
        ("data:image/png;base64,aGVsbG8=", "no image of a known format"),
        (f"data:x;base64,{'A' * 17_000_000}", "17|12,750,000 bytes; at most"),
        (picture_file((1000, 4)), "no side may be more"),
    ],
)
def test_bad_files_are_refused_in_words(desk, contents, reason):
    import re

    words, kept = image_panel.taken(desk, contents)
    assert kept is None
    assert re.search(reason, text(words))
    assert "/tmp" not in text(words)


def test_what_the_browser_sends_back_is_checked_again(desk):
    shape = desk.bundle.document.input_shape
    other = data_uri(torch.zeros(3, 5, 7, dtype=torch.uint8))
    for kept in (None, "", "file:///etc/passwd", "data:image/png;base64,aGVsbG8=", other):
        with pytest.raises(ImageError):
            read_kept(kept, shape)


def test_the_ranking_is_that_of_the_query(desk):
    rows = list(csv.DictReader(io.StringIO(ranking(desk, View(expression="tiger")))))
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[0]["rank"] == "1"


def test_the_offline_page_needs_nothing_and_escapes_names(desk):
    page = offline_page(desk, View(expression='"<b>wolf</b>"'))
    assert "&lt;b&gt;wolf" in page
    assert "<b>wolf</b>" not in page
    assert 'src="http' not in page
    assert "Plotly.newPlot" in page
