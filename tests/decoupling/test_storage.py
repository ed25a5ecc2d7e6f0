from __future__ import annotations

import json

import pytest
import torch
from tests.decoupling.conftest import moody

from neurochains.decoupling import bundled_names, decouple, load_decoupled
from neurochains.decoupling.states import States
from neurochains.errors import ArtifactError

EXAMPLE = torch.zeros(2, 3, 12, 12)


@pytest.fixture
def saved(tiny, tmp_path):
    decoupled = moody(decouple(tiny, EXAMPLE, keep_one=True))
    decoupled.record["note"] = {"accuracy": 0.5}
    decoupled.save(tmp_path / "run")
    return decoupled


def test_what_was_saved_comes_back(saved, tiny, tmp_path, coloured):
    state = torch.get_rng_state()
    again = load_decoupled(tmp_path / "run", model=tiny)
    images, _ = coloured
    assert torch.equal(again.predict(images), saved.predict(images))
    assert (again.layers, again.keep_one, again.record) == (saved.layers, True, saved.record)
    assert torch.equal(torch.get_rng_state(), state)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["decoupled.json", "decoupled.safetensors"]


def test_settled_filters_stay_settled(saved, tiny, tmp_path, coloured):
    settled = saved.settle(saved.states(coloured[0]))
    settled.save(tmp_path / "settled")
    again = load_decoupled(tmp_path / "settled", model=tiny)
    assert any(controller.settled.any() for controller in again.controllers.values())


def test_messages(saved, tiny, tmp_path):
    with pytest.raises(ArtifactError, match=r"a model without a name\. Pass it"):
        load_decoupled(tmp_path / "run")
    with pytest.raises(ArtifactError, match="exists already"):
        saved.save(tmp_path / "run")
    with pytest.raises(ArtifactError, match="holds no decoupled: there is no such folder"):
        load_decoupled(tmp_path / "none", model=tiny)
    with torch.no_grad():
        tiny.fc.weight.add_(1)
    with pytest.raises(ArtifactError, match="other weights"):
        load_decoupled(tmp_path / "run", model=tiny)
    with pytest.raises(ArtifactError, match=r"in the package is called 'shapes:resnt'.*Did you mean shapes:resnet"):
        load_decoupled("shapes:resnt")


def test_a_document_of_other_layers_is_refused(saved, tiny, tmp_path):
    path = tmp_path / "run" / "decoupled.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "layers": ["conv1"]}))
    with pytest.raises(ArtifactError, match=r"is of another network or damaged: .* is not the model's"):
        load_decoupled(tmp_path / "run", model=tiny)
    del document["layers"]
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="is damaged: 'layers' is missing"):
        load_decoupled(tmp_path / "run", model=tiny)


@pytest.mark.parametrize("name", bundled_names())
def test_the_networks_of_the_package_are_what_their_record_says(name):
    from neurochains.data import Task

    decoupled, task = load_decoupled(name), Task.shapes(320)
    states = States.from_json(decoupled.record["states"])
    assert states.shares["dynamic"] >= 0.25
    assert states.shares["silent"] > 0
    accuracy = float((decoupled.predict(task.images).argmax(1) == task.labels).double().mean())
    assert accuracy == pytest.approx(decoupled.record["test"]["accuracy"], abs=0.03)
    part = task.images[:24]
    torch.testing.assert_close(decoupled.dynamic()(part), decoupled(part).detach(), rtol=0, atol=1e-4)
