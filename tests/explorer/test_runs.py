"""Chains and circuits as the panels ask for them, from memory and from folders."""

from __future__ import annotations

import pytest
import torch

from neurochains.chains import Chain, Scores
from neurochains.circuits import Bundle, Circuit
from neurochains.errors import ArtifactError
from neurochains.explorer import chains_panel
from neurochains.explorer.answers import answers
from neurochains.explorer.desk import Desk
from neurochains.explorer.saving import circuit_of
from neurochains.explorer.view import View
from neurochains.network import Network

from ..architectures import ARCHITECTURES, SHAPE
from .test_panels import text


@pytest.fixture
def circuit(desk) -> Circuit:
    layer = desk.bundle.spans.layers[1].name
    return circuit_of(desk, View(off=(f"{layer}[1]<0", f"{layer}[2]")))


@pytest.fixture
def opened(prepared, network, chains, circuit, tmp_path):
    places = [chains[0].save(tmp_path / "one" / "run"), circuit.save(tmp_path / "two" / "run")]
    torch.manual_seed(3)
    model = ARCHITECTURES["residual"]().eval()
    return lambda: Desk(Bundle.open(prepared), model=model, chains=places)


def test_a_circuit_answers_as_the_network_with_its_kernels_only(prepared, network, circuit, chains):
    desk = Desk(Bundle.open(prepared), model=network, chains=[chains[0], circuit])
    found = answers(desk, View(image="1.1", chains=("0", "1")))
    with torch.no_grad():
        wanted = circuit.as_network()(desk.task([(1, 1)]).images)[0].softmax(0)
    assert list(found.series) == ["original", "chain 1", "circuit 2"]
    torch.testing.assert_close(found.series["circuit 2"], wanted)


def test_a_circuit_of_a_filter_gives_no_answers(prepared, network, task):
    from neurochains.circuits import circuit as find_circuit

    layer = network.scored()[1].name
    made = find_circuit(network, task, target=f"{layer}[0]", method="hierarchical", thresholds=(0.8, 0.8))
    desk = Desk(Bundle.open(prepared), model=network, chains=[made])
    assert list(answers(desk, View(chains=("0",))).series) == ["original"]


def test_the_panel_lists_a_circuits_filters_and_compares_it_with_a_chain(prepared, network, circuit, chains):
    desk = Desk(Bundle.open(prepared), model=network, chains=[chains[0], circuit])
    said = text(chains_panel.shown(desk, View(chains=("1",))))
    assert f"{circuit.size:,} kernels between" in said
    assert "Finding the paths" not in said
    assert "only in circuit 2" in text(chains_panel.shown(desk, View(chains=("0", "1"))))


def test_two_of_one_name_are_told_apart(prepared, network, chains):
    desk = Desk(Bundle.open(prepared), model=network, chains=chains)
    desk.runs[1].name = desk.runs[0].name
    assert [desk.title(0), desk.title(1)] == ["chain 1 (1)", "chain 1 (2)"]


def test_runs_are_opened_from_their_folders(opened):
    desk = opened()
    assert [desk.title(number) for number in (0, 1)] == ["run (1)", "run (2)"]
    assert [run.has_paths for run in desk.runs] == [True, False]


def test_what_is_no_run_or_of_another_network_is_refused(prepared, network, chains, task, tmp_path):
    with pytest.raises(ArtifactError):
        Desk(Bundle.open(prepared), model=network, chains=[tmp_path])
    torch.manual_seed(9)
    other = Network.trace(ARCHITECTURES["residual"]().eval(), torch.zeros(1, *SHAPE))
    with pytest.raises(ArtifactError):
        Desk(Bundle.open(prepared), model=network, chains=[Chain(other, task, Scores({}))])
