from __future__ import annotations

import errno
import json
import logging
import os

import pytest

from neurochains.errors import ArtifactError
from neurochains.studies import Plan, expand, read_study
from neurochains.studies import results as module
from neurochains.studies.results import Results, base_of
from neurochains.studies.store import DamagedError, lock, publish, read_record, read_study_file, write_record

from .conftest import answer_of, shapes_plan


def records(count):
    cases = list(expand(Plan.of(shapes_plan(count))))
    return [{**answer_of({"id": case.id}), "spec": case.spec} for case in cases][:count]


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(module, "PART", 4)


def names_in(folder):
    return {path.name for path in folder.glob("*")} if folder.exists() else set()


def test_what_was_added_is_there_when_it_is_opened_again(tmp_path, small_parts):
    results, some = Results(tmp_path), records(10)
    for record in some:
        results.add(record)
    assert len(names_in(tmp_path / "pending")) == 2, "as many as fit were put into parts, so the folder stays small"
    again = Results(tmp_path)
    assert again.finished == results.finished
    assert sorted(again.finished.values()) == [-1, -1, 0, 0, 0, 0, 1, 1, 1, 1]
    for record in some:
        assert again.base(record["id"]) == base_of(record)
    again.compact()
    assert names_in(tmp_path / "pending") == set()
    assert len(again.finished) == 10
    assert again.base(some[-1]["id"]) == base_of(some[-1])


def test_a_part_that_was_cut_short_counts_once(tmp_path, small_parts):
    some = records(4)
    Results(tmp_path)
    for record in some:
        write_record(tmp_path / "pending" / f"{record['id']}.json", record)
    kept = {path: path.read_bytes() for path in (tmp_path / "pending").iterdir()}
    Results(tmp_path).compact()
    for path, data in kept.items():  # as if the process had been killed before it removed them
        path.write_bytes(data)
    publish(tmp_path / "study.json", json.dumps(document()).encode())
    assert sorted(read_study(tmp_path).cases.case) == sorted(record["id"] for record in some)
    again = Results(tmp_path)
    assert set(again.finished.values()) == {0}
    assert names_in(tmp_path / "pending") == set()


def test_filters_without_their_cases_are_replaced(tmp_path, small_parts):
    (tmp_path / "filters").mkdir()
    (tmp_path / "filters" / "part-000000.parquet").write_bytes(b"cut short")
    results = Results(tmp_path)
    for record in records(4):
        results.add(record)
    publish(tmp_path / "study.json", json.dumps(document()).encode())
    assert len(read_study(tmp_path).filters) == 12


def document():
    return {"version": 1, "plan": {}, "models": {}, "cases": 4, "created": "", "neurochains": ""}


@pytest.mark.parametrize("damage", [b"", b"{}", b"abc\n{}\n", None])
def test_a_damaged_record_is_named_set_aside_and_run_again(tmp_path, caplog, damage):
    results, some = Results(tmp_path), records(2)
    for record in some:
        results.add(record)
    path = tmp_path / "pending" / f"{some[0]['id']}.json"
    path.write_bytes(path.read_bytes().replace(b"0.1", b"0.9", 1) if damage is None else damage)
    publish(tmp_path / "study.json", json.dumps(document()).encode())
    with pytest.raises(ArtifactError, match=rf"{path} is damaged. Run the study again"):
        read_study(tmp_path)
    with caplog.at_level(logging.WARNING):
        again = Results(tmp_path)
    assert set(again.finished) == {some[1]["id"]}
    assert f"{path} is damaged and was set aside; its case is run again" in caplog.text
    assert path.with_name(f"{path.name}.damaged").exists()
    assert len(read_study(tmp_path).cases) == 1


@pytest.mark.parametrize("which", ["cases", "filters"])
def test_a_damaged_part_is_named_set_aside_and_run_again(tmp_path, small_parts, caplog, which):
    results, some = Results(tmp_path), records(9)
    for record in some:
        results.add(record)
    path = tmp_path / which / "part-000000.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    publish(tmp_path / "study.json", json.dumps(document()).encode())
    with pytest.raises(ArtifactError, match=f"{path} is damaged"):
        read_study(tmp_path)
    with caplog.at_level(logging.WARNING):
        again = Results(tmp_path)
    assert len(again.finished) == 5
    assert "part-000000.parquet is damaged and was set aside" in caplog.text
    for record in some:
        if record["id"] not in again.finished:
            again.add(record)
    again.compact()
    assert sorted(read_study(tmp_path).cases.case) == sorted(record["id"] for record in some)


def test_a_full_disk_is_said_and_loses_nothing(tmp_path, monkeypatch):
    results, some = Results(tmp_path), records(3)
    results.add(some[0])

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            ArtifactError, match=r"No space left to write .* All cases that were finished before are kept"
        ):
            results.add(some[1])
        with pytest.raises(ArtifactError, match=r"No space left to write .*part-000000\.parquet"):
            results.compact()
    assert names_in(tmp_path / "pending") == {f"{some[0]['id']}.json"}
    assert not list(tmp_path.rglob("*.part"))
    again = Results(tmp_path)
    assert set(again.finished) == {some[0]["id"]}
    again.compact()
    assert again.base(some[0]["id"]) == base_of(some[0])


def test_a_failure_is_kept_apart_and_goes_when_the_case_is_done(tmp_path):
    results, (record, _) = Results(tmp_path), records(2)
    failed = {"id": record["id"], "status": "failed", "error": "no", "error_type": "ModelError", "spec": record["spec"]}
    results.add(failed)
    assert (results.failed, results.finished) == ({record["id"]}, {})
    assert results.error(record["id"]) == "no"
    results.add(record)
    assert (Results(tmp_path).failed, set(Results(tmp_path).finished)) == (set(), {record["id"]})
    (tmp_path / "failed" / f"{record['id']}.json").write_text("cut")
    assert results.error(record["id"]) == "its record is damaged"


def test_results_of_another_plan_are_refused(tmp_path):
    results, some = Results(tmp_path), records(3)
    for record in some[:2]:
        results.add(record)
    results.check_plan(record["id"] for record in some)
    with pytest.raises(ArtifactError, match="holds the results of another plan: 1 of 2 finished and 0 failed cases"):
        results.check_plan([some[0]["id"], some[2]["id"]])


def test_a_folder_is_held_by_one(tmp_path):
    with (
        lock(tmp_path),
        pytest.raises(ArtifactError, match="Another process is at work on the study in"),
        lock(tmp_path),
    ):
        pass
    with lock(tmp_path):
        pass


def test_records_come_back_as_they_were(tmp_path):
    write_record(tmp_path / "a.json", {"x": [0.1, None, "é\n"]})
    assert read_record(tmp_path / "a.json") == {"x": [0.1, None, "é\n"]}
    with pytest.raises(DamagedError):
        read_record(tmp_path / "b.json")


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 1}'])
def test_a_damaged_study_file_is_said(tmp_path, text):
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"study\.json is damaged\. The results beside it are not lost"):
        read_study_file(tmp_path)


def test_a_study_file_of_a_newer_version_is_refused(tmp_path):
    (tmp_path / "study.json").write_text(json.dumps({**document(), "version": 99}))
    with pytest.raises(ArtifactError, match="has version 99; this NeuroChains reads up to 1"):
        read_study_file(tmp_path)
