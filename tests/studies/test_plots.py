from __future__ import annotations

import json
import re

import pytest

from neurochains.errors import ArtifactError
from neurochains.studies import Plan, expand, plot_study
from neurochains.studies.figures import FIGURES
from neurochains.studies.frames import frame_of
from neurochains.studies.results import Results
from neurochains.studies.summary import summarise
from neurochains.studies.tables import read_tables

from .conftest import answer_of, shapes_plan

PLAN = shapes_plan(
    5,
    name="<b>bold</b> & co",
    seeds=[0, 1],
    methods=[
        {"method": "budget"},
        {"method": "budget", "name": "gated", "gates": True},
        {"method": "random", "like": "budget"},
    ],
    tasks=[
        {"shapes": True, "pairs": 3, "per_class": [2, 5], "held_out": 2},
        {"shapes": True, "pairs": 2, "each": 3, "per_class": 5},
    ],
)


def written(folder, plan=PLAN, change=None):
    """Write a study with made-up results, and return its folder."""
    read, results = Plan.of(plan), Results(folder)
    for case in expand(read):
        record = {**answer_of({"id": case.id}), "spec": case.spec}
        results.add(change(record) if change else record)
    results.compact()
    document = {"version": 1, "name": read.name, "plan": read.to_json(), "models": {"shapes:vgg": "abc"}}
    more = {"cases": len(results.finished) + len(results.failed), "created": "today", "neurochains": "0"}
    (folder / "study.json").write_text(json.dumps({**document, **more}))
    return folder


@pytest.fixture(scope="module")
def plotted(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp("plotted"))
    return folder, plot_study(folder)


def test_every_figure_that_the_tables_allow_is_written_twice(plotted):
    names = {path.stem for path in plotted[1].parent.glob("*.svg")}
    assert names == {path.stem for path in plotted[1].parent.glob("*.png")}
    wanted = "E1-drop E1b-kl E2-drop E2b-moved E3-quotient E3b-changed E4-kl E4-shares E5-gates E6-classes E7-images"
    for start in [*wanted.split(), "seeds"]:
        assert any(name.startswith(start) for name in names), start
    assert not any(name.startswith("planted") for name in names)


def test_the_page_holds_them_with_the_plan_and_needs_nothing_else(plotted):
    page = plotted[1].read_text(encoding="utf-8")
    assert page.count("<figure ") == len(list(plotted[1].parent.glob("*.svg")))
    assert "&lt;b&gt;bold&lt;/b&gt; &amp; co" in page
    assert "<b>bold" not in page
    assert "tasks[0].per_class" in page
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page)
    assert not re.findall(r"https?://(?!www\.w3\.org)", re.sub(r"<!DOCTYPE[^>]*>", "", page))
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


@pytest.fixture
def quick(monkeypatch):
    """Let figures be written without being drawn."""
    monkeypatch.setattr("neurochains.studies.plots.save_figure", lambda _made, path: path.touch())
    monkeypatch.setattr("neurochains.studies.plots.svg", lambda _made, name: f"<svg id='{name}'></svg>")


def test_failures_are_listed_and_left_out_of_figures(tmp_path, quick):
    def change(record):
        if record["spec"]["seed"]:
            return {key: record[key] for key in ("id", "spec")} | {"status": "failed", "error": "<i>no</i>"}
        return record

    page = plot_study(written(tmp_path, shapes_plan(2, seeds=[0, 1]), change)).read_text(encoding="utf-8")
    assert "&lt;i&gt;no&lt;/i&gt;" in page
    assert "6 of 12 cases done, 6 failed" in page
    assert not list((tmp_path / "figures").glob("seeds*"))


def test_planted_networks_are_drawn_together(tmp_path, quick):
    plan = {"tasks": [{"planted": ["plain-small", "copies-small"]}]}
    planted = {"planted_precision": 1.0, "planted_recall": 0.5, "planted_exact": False}

    def change(record):
        return {**record, "row": {**record["row"], **planted}}

    plot_study(written(tmp_path, plan, change), tmp_path / "elsewhere")
    assert (tmp_path / "elsewhere" / "planted-planted-networks.svg").is_file()


def test_a_series_has_one_place_in_the_plan(plotted):
    frame = frame_of(read_tables(plotted[0]))
    assert list(frame.series()) == ["budget", "gated", "random"]
    assert list(frame.where([name == "random" for name in frame.texts("method")]).series()) == ["random"]
    assert sum(len(some) for some in frame.series().values()) == len(frame)
    few = frame.where([index < 2 for index in range(len(frame))])
    assert len(few.of_filters("score")) == 6


def test_the_summary_has_a_row_for_each_model_and_method(plotted):
    rows = {row["method"]: row for row in summarise(plotted[0])}
    assert {name: (row["done"], row["failed"]) for name, row in rows.items()} == dict.fromkeys(rows, (16, 0))
    assert rows["budget"]["share"] == pytest.approx(3 / 12)


def test_a_study_without_results_has_no_figures(tmp_path):
    folder = written(tmp_path, shapes_plan(1), lambda record: {**record, "status": "failed", "error": "no"})
    with pytest.raises(ArtifactError, match=r"No case of the study in .* is done, so there is nothing to draw"):
        plot_study(folder)


@pytest.mark.parametrize("name", FIGURES)
def test_no_figure_is_drawn_where_the_table_lacks_what_it_needs(tmp_path, name):
    def bare(record):
        return {**record, "row": {"filters": 3, "of": 12}, "filters": {}}

    folder = written(tmp_path, shapes_plan(2, methods=["budget"]), bare)
    assert list(FIGURES[name]("shapes:vgg", frame_of(read_tables(folder)))) == []
