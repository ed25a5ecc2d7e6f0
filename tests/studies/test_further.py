from __future__ import annotations

import json

import pytest

from neurochains.measures.stability import measure_stability
from neurochains.studies import Plan, expand
from neurochains.studies.figures import FIGURES
from neurochains.studies.frames import frame_of
from neurochains.studies.further import MEASURES, further
from neurochains.studies.results import Results
from neurochains.studies.runner import Runner
from neurochains.studies.tables import read_tables

from .conftest import plan_of


@pytest.fixture
def measured(world):
    """Return a study of one case with all further measures, and its record."""
    plan = plan_of(methods=plan_of()["methods"][:1], measures=list(MEASURES))
    case = next(expand(Plan.of(plan)))
    result = Runner(world).run({"id": case.id, "spec": case.spec, "base": None})
    assert result["status"] == "done", result.get("error")
    results = Results(world / "out")
    results.add({**result, "spec": case.spec})
    document = {
        "version": 1,
        "plan": Plan.of(plan).to_json(),
        "models": {},
        "cases": 1,
        "created": "",
        "neurochains": "",
    }
    (world / "out" / "study.json").write_text(json.dumps(document))
    return world / "out", result["row"]


def test_every_measure_of_a_plan_has_its_columns_and_its_figure(measured):
    folder, row = measured
    frame = frame_of(read_tables(folder))
    for name in MEASURES:
        assert any(key.startswith(f"{name}_") for key in row), name
        assert list(FIGURES[name]("small", frame)), name
    assert 0 <= row["stability_agreement_1"] <= 1
    assert row["locality_penultimate_distance"] >= 0
    probabilities = row["robustness_images_chain_fgsm_white_box_8"]
    assert len(probabilities) == 6
    assert row["robustness_chain_fgsm_white_box_8"] == pytest.approx(sum(probabilities) / 6)


def test_columns_are_what_the_measure_gives(world):
    from neurochains.data import Task
    from neurochains.extraction import extract
    from neurochains.network import load_model

    model = load_model("nets.py:small")
    task = Task.from_folder("images", classes=["ant", "bee"], per_class=3, held_out=2, model=model)
    chain = extract(model, task, method="paper", steps=1, refit=0, size=7, controls=False)
    found = further("stability", chain.network, chain)
    assert found["stability_given"] == measure_stability(model, chain, task).given.value
