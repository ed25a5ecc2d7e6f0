from __future__ import annotations

import json
import os
import sys
import time
import tracemalloc

import numpy as np
import pytest

from neurochains.errors import ArtifactError, SettingsError
from neurochains.studies import Plan, expand, read_study
from neurochains.studies.parts import case_columns, table_of, write_part
from neurochains.studies.results import Results

from .conftest import answer_of, shapes_plan


def record_of(case, size=3):
    return {**answer_of({"id": case.id}, size), "spec": case.spec}


@pytest.fixture
def study(tmp_path):
    """Return the folder of a study with finished and failed cases, in parts and not."""
    cases = list(expand(Plan.of(shapes_plan(4))))
    results = Results(tmp_path)
    for case in cases[:6]:
        results.add(record_of(case))
    results.compact()
    results.add(record_of(cases[6], size=5))
    failed = {"id": cases[7].id, "status": "failed", "error": "no", "error_type": "ModelError", "spec": cases[7].spec}
    results.add(failed)
    plan = Plan.of(shapes_plan(4)).to_json()
    text = json.dumps({"version": 1, "plan": plan, "models": {}, "cases": 12, "created": "", "neurochains": ""})
    (tmp_path / "study.json").write_text(text)
    return tmp_path


def test_one_row_for_each_case_and_one_for_each_of_its_filters(study):
    read = read_study(study)
    cases = list(expand(Plan.of(shapes_plan(4))))
    assert sorted(read.cases.case) == sorted(case.id for case in cases[:8])
    assert read.cases.case.is_unique
    assert read.filters.groupby("case", observed=True).size().to_dict() == {
        **{case.id: 3 for case in cases[:6]},
        cases[6].id: 5,
    }
    assert read.plan["models"][0]["model"] == "shapes:vgg"
    row = read.cases.set_index("case").loc[cases[1].id]
    made = answer_of({"id": cases[1].id})["row"]
    assert (row["method"], row["like"], row["scope"], row["n_classes"]) == ("magnitude", "budget", "layer", 2)
    assert (row["kl"], row["filters"], list(row["image_quotient"])[:3]) == (made["kl"], 3, [1.0, 0.9, -0.1])
    failed = read.cases.set_index("case").loc[cases[7].id]
    assert (failed["status"], failed["error"], failed["error_type"]) == ("failed", "no", "ModelError")


def test_polars_and_pandas_hold_the_same(study):
    pytest.importorskip("polars")
    one, other = read_study(study), read_study(study, frame="polars")
    assert other.cases["case"].to_list() == list(one.cases.case)
    assert other.filters["score"].to_list() == list(one.filters.score)
    assert other.filters["layer"].cast(str).to_list() == list(one.filters.layer.astype(str))
    assert other.cases.columns == list(one.cases.columns)


def test_what_a_column_has_does_not_depend_on_the_part(tmp_path):
    cases = list(expand(Plan.of(shapes_plan(2))))
    first, second = record_of(cases[0]), record_of(cases[1])
    del first["row"]["kl"]
    first["row"].update(extra=None, note="a", mixed=1, several=[])
    second["row"].update(extra=0.5, note=None, mixed=1.5, several=[1], exact=True)
    for record in (first, second):
        write_part(tmp_path, [record])
    text = {"version": 1, "plan": {}, "models": {}, "cases": 2, "created": "", "neurochains": ""}
    (tmp_path / "study.json").write_text(json.dumps(text))
    rows = read_study(tmp_path).cases.set_index("case")
    assert np.isnan(rows.loc[cases[0].id, "kl"])
    assert rows.loc[cases[1].id, "extra"] == 0.5
    assert list(rows["mixed"]) == [1.0, 1.5]


def test_columns_of_the_plan_are_not_overwritten_by_what_was_measured():
    case = next(expand(Plan.of(shapes_plan(1))))
    record = record_of(case)
    record["row"]["seed"] = 99
    assert case_columns(record)["seed"] == 0
    assert table_of([record])[0].column("seed").to_pylist() == [0]


def test_what_is_no_study_is_said(tmp_path, study):
    with pytest.raises(ArtifactError, match="nowhere holds no study: there is no such folder"):
        read_study(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArtifactError, match=r"holds no study: study\.json is missing"):
        read_study(tmp_path / "empty")
    with pytest.raises(SettingsError, match="frame must be pandas or polars; got 'excel'"):
        read_study(study, frame="excel")


def test_a_missing_library_is_named_with_how_to_install_it(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(SettingsError, match=r"frame='polars' needs polars.*pip install 'neurochains\[study\]'"):
        read_study(study, frame="polars")


@pytest.mark.slow
def test_ten_thousand_cases_open_in_two_seconds_and_memory_stays_flat(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _handle: None)  # only speed and memory are looked at
    cases = list(expand(Plan.of(shapes_plan(256, seeds=list(range(28))))))[:10_000]
    assert len(cases) == 10_000
    results, peaks = Results(tmp_path), []
    tracemalloc.start()
    for number, case in enumerate(cases):
        results.add(record_of(case, size=50))
        if number in (2_000, 9_999):
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.reset_peak()
    tracemalloc.stop()
    results.compact()
    text = {"version": 1, "plan": {}, "models": {}, "cases": 10_000, "created": "", "neurochains": ""}
    (tmp_path / "study.json").write_text(json.dumps(text))
    read_study(tmp_path)
    began = time.process_time()
    read = read_study(tmp_path)
    assert time.process_time() - began < 2
    assert (len(read.cases), len(read.filters)) == (10_000, 500_000)
    assert peaks[1] < 1.25 * peaks[0] + 2**21
