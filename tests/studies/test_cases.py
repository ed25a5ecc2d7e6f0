from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurochains.errors import DataError, SettingsError
from neurochains.studies import Plan, count_cases, expand
from neurochains.studies.cases import Case
from neurochains.studies.groups import count_groups, groups
from neurochains.studies.plan import Tasks

from .conftest import CLASSES, plan_of, shapes_plan


def ids(plan):
    return [case.id for case in expand(Plan.of(plan))]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_the_count_is_that_of_the_cases(pairs, seeds, sizes, several):
    plan = shapes_plan(pairs, seeds=list(range(seeds)), models=["shapes:vgg", "shapes:resnet"][: 1 + several])
    plan["tasks"][0]["per_class"] = list(range(1, 1 + sizes))
    made = ids(plan)
    assert len(made) == len(set(made)) == count_cases(Plan.of(plan)) == pairs * seeds * sizes * (1 + several) * 3


def test_the_case_whose_size_another_takes_comes_first():
    plan = shapes_plan(4)
    plan["methods"].reverse()
    seen: set[str] = set()
    for case in expand(Plan.of(plan)):
        assert case.like is None or case.like in seen
        assert (case.like is None) == (case.spec["method"]["method"] == "budget")
        seen.add(case.id)


def test_identifiers_follow_from_what_decides_a_result_and_from_nothing_else():
    plan = shapes_plan(3)
    assert ids(plan) == ids(shapes_plan(3, name="another name"))
    assert set(ids(plan)) < set(ids(shapes_plan(5)))
    assert set(ids(plan)) < set(ids(shapes_plan(3, seeds=[0, 1])))
    assert not set(ids(plan)) & set(ids(shapes_plan(3, seeds=[1])))
    changed = shapes_plan(3)
    changed["methods"][0]["fidelity"] = 0.2
    assert not set(ids(plan)) & set(ids(changed)), "controls change with the method that they are like"


def test_a_plan_that_names_a_task_twice_has_it_once():
    plan = shapes_plan(3)
    plan["tasks"] *= 2
    assert ids(plan) == ids(shapes_plan(3))


def test_controls_share_what_is_scored_with_the_method_they_are_like():
    plan = shapes_plan(1, settings=[{"units": ["hidden"], "fidelity": 0.1}])
    by_method = {case.spec["method"]["method"]: case.spec["options"] for case in expand(Plan.of(plan))}
    assert by_method["budget"] == {"units": ["hidden"], "fidelity": 0.1}
    assert by_method["magnitude"] == by_method["random"] == {"units": ["hidden"]}


def test_planted_networks_bring_their_model():
    cases = list(expand(Plan.of({"tasks": [{"planted": ["plain-small"], "noise": [0, 0.1]}]})))
    assert [case.spec["task"]["noise"] for case in cases] == [0.0, 0.1]
    assert {case.spec["model"]["name"] for case in cases} == {"planted:plain-small"}
    with pytest.raises(SettingsError, match=r"No planted network is called 'plain-smal'. Did you mean plain-small"):
        list(expand(Plan.of({"tasks": [{"planted": "plain-smal"}]})))
    assert count_cases(Plan.of({"tasks": [{"planted": "all"}]})) > 10


def test_pairs_of_a_folder(world):
    every = list(groups(Tasks(images="images", per_class=3), world))
    assert len(every) == count_groups(Tasks(images="images", per_class=3), world) == 6
    assert every[0] == ("ant", "bee")
    listed = Tasks(images="images", pairs=(("dog", "ant", "cat"),))
    assert list(groups(listed, world)) == [("dog", "ant", "cat")]
    three = Tasks(images="images", per_class=3, each=3, classes=CLASSES)
    assert len(list(groups(three, world))) == 4


def test_a_larger_draw_contains_a_smaller_and_another_seed_draws_others():
    drawn = [list(groups(Tasks(shapes=True, pairs=n), Path())) for n in (5, 12)]
    assert drawn[0] == drawn[1][:5]
    assert len(set(map(frozenset, drawn[1]))) == 12
    assert drawn[0] != list(groups(Tasks(shapes=True, pairs=5, seed=1), Path()))
    most = Tasks(shapes=True, pairs=10**6, each=2, classes=("red striped disc", "red striped star", "red dotted disc"))
    assert len(list(groups(most, Path()))) == count_groups(most, Path()) == 3


def test_classes_without_enough_images_are_left_out_and_too_few_are_an_error(world):
    (world / "images" / "ant" / "0.png").unlink()
    assert count_groups(Tasks(images="images", per_class=6), world) == math.comb(3, 2)
    with pytest.raises(DataError, match="Wanted tasks of 2 classes, but images has 0 with at least 9 images"):
        list(groups(Tasks(images="images", per_class=6, held_out=3), world))
    with pytest.raises(DataError, match="there is no folder"):
        list(groups(Tasks(images="imgs"), world))


def test_cases_of_a_kind_are_those_of_one_model_and_method():
    case = next(expand(Plan.of(plan_of())))
    assert isinstance(case, Case)
    assert case.kind == ("small", "paper")
