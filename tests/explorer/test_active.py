"""Calculation paths on the page: what a decoupled network has on for the chosen image, and for others of its set."""

from __future__ import annotations

import pytest
import torch

from neurochains.circuits import Bundle
from neurochains.decoupling import decouple
from neurochains.explorer import active, chains_panel
from neurochains.explorer.answers import answers
from neurochains.explorer.comparing import units_of
from neurochains.explorer.desk import Desk
from neurochains.explorer.graph import draw
from neurochains.explorer.graph_panel import figure, legend
from neurochains.explorer.view import View

from ..architectures import ARCHITECTURES
from .test_panels import text


@pytest.fixture(scope="module")
def decoupled(network, task):
    torch.manual_seed(3)
    made = decouple(ARCHITECTURES["residual"]().eval(), task.images[:2])
    with torch.no_grad():
        for number, controller in enumerate(made.controllers.values()):
            dice = torch.Generator().manual_seed(number)
            for weight in controller.parameters():
                weight.copy_(torch.randn(weight.shape, generator=dice))
    return made


@pytest.fixture
def desk(prepared, network, decoupled, chains):
    return Desk(Bundle.open(prepared), model=network, chains=[decoupled, chains[0]])


def test_a_path_is_the_codes_of_the_chosen_image(desk, decoupled):
    path = active.path_of(desk, 0, View(image="1.1"), None)
    wanted = decoupled.codes(desk.task([(1, 1)]).images)
    assert {name: mask.tolist() for name, mask in path.items()} == {name: c[0].tolist() for name, c in wanted.items()}
    assert 0 < len(active.on_units(desk, 0, View(image="1.1"), None)) < sum(decoupled.filters.values())


def test_what_is_on_is_parted_by_the_set_once_that_is_known(desk, decoupled):
    view = View(image="1.0", chains=("0",))
    assert [words for words, _ in active.by_use(desk, 0, view, None)] == ["on for this image"]
    assert "Comparing with other images" in text(chains_panel.shown(desk, view))
    assert not active.is_compared(desk, 0, 1)
    active.compare_with_set(desk, 0, 1)
    (_, always), (_, here), (_, others) = active.by_use(desk, 0, view, None)
    codes = decoupled.codes(desk.task([(1, i) for i in range(len(desk.bundle.sets[1].images))]).images)
    assert len(always) == sum(int(code.all(0).sum()) for code in codes.values())
    assert len(always) + len(here) == sum(int(code[0].sum()) for code in codes.values())
    assert len(others) == sum(int((code.any(0) & ~code[0]).sum()) for code in codes.values())
    assert "sometimes" in text(chains_panel.shown(desk, view))


def test_the_graph_marks_what_is_on_and_another_image_changes_it(desk):
    view = View(image="0.0", chains=("0",))
    drawn = draw(desk, view)
    assert "on for this image" in text(legend(desk, view, drawn))
    flipped = {name: ~mask for name, mask in active.path_of(desk, 0, view, None).items()}
    desk.paths.put((0, "0.1"), flipped)
    one, other = (figure(desk, view.having(image=f"0.{n}"), drawn)["data"][0]["marker"]["color"] for n in (0, 1))
    assert one != other


def test_it_answers_and_is_compared_with_a_chain(desk, decoupled):
    view = View(image="1.1", chains=("0", "1"))
    found = answers(desk, view)
    torch.testing.assert_close(found.series["decoupled 1"], decoupled.predict(desk.task([(1, 1)]).images)[0].softmax(0))
    assert "only in chain 2" in text(chains_panel.shown(desk, view))
    assert set(units_of(desk, 1, view)) == set(desk.runs[1].units)


def test_a_picture_that_was_dropped_has_a_path_too(desk):
    from neurochains.pictures import data_uri

    view, kept = View(image="upload", chains=("0",)), data_uri(desk.bundle.picture(1, 0))
    said = text(chains_panel.shown(desk, view, kept))
    assert "Calculation path" in said
    assert "sometimes" not in said
    assert active.followers(desk) == ["0"]


def test_it_is_opened_from_what_the_command_wrote(prepared, decoupled, tmp_path):
    torch.manual_seed(3)
    model = ARCHITECTURES["residual"]().eval()
    plain, whole = decoupled.save(tmp_path / "plain"), tmp_path / "run"
    decoupled.save(whole / "network")
    found = Desk(Bundle.open(prepared), model=model, chains=[plain, whole])
    assert [run.name for run in found.runs] == ["plain", "run"]
