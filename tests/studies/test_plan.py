from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurochains.errors import ArtifactError, SettingsError
from neurochains.studies import Plan, read_plan
from neurochains.studies.plan import Method, Settings, combined
from neurochains.studies.plan_file import key_lines

from .conftest import plan_of

TOML = """\
name = "pairs"  # a comment
seeds = [0, 1]

[[models]]
model = "shapes:vgg"

[[models]]
model = "nets.py:small"
input_size = 12
mean = [0.5, 0.5, 0.5]

[[tasks]]
images = "images"
pairs = [["ant", "bee"],
         ["cat", "dog"]]
per_class = [1, 3]

[[methods]]
method = "budget"
fidelity = 0.1

[[methods]]
method = "random"
like = "budget"
"""


def written(tmp_path, text):
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return path


def test_a_file_and_a_mapping_give_the_same_plan(tmp_path):
    read = read_plan(written(tmp_path, TOML))
    mapping = {
        "name": "pairs",
        "seeds": [0, 1],
        "models": ["shapes:vgg", {"model": "nets.py:small", "input_size": 12, "mean": [0.5] * 3}],
        "tasks": [{"images": "images", "pairs": [["ant", "bee"], ["cat", "dog"]], "per_class": [1, 3]}],
        "methods": [{"method": "budget", "fidelity": 0.1}, {"method": "random", "like": "budget"}],
    }
    assert read.to_json() == Plan.of(mapping).to_json()
    assert read.root == tmp_path
    assert read.tasks[0].sizes == (1, 3)
    assert read.models[0].name == "shapes:vgg"
    assert Plan.of(read) is read


@pytest.mark.parametrize(
    ("old", "new", "line", "said"),
    [
        ("seeds = [0, 1]", "sedes = [0, 1]", 2, "the plan has no key 'sedes'. Did you mean seeds?"),
        ("input_size = 12", "inputsize = 12", 9, "models[1] has no key 'inputsize'. Did you mean input_size?"),
        ("per_class = [1, 3]", "perclass = 3", 16, "tasks[0] has no key 'perclass'. Did you mean per_class"),
        ("fidelity = 0.1", "fidelty = 0.1", 20, "methods[0] has no key 'fidelty'. Did you mean fidelity?"),
        ("per_class = [1, 3]", "per_class = 0", 16, "per_class of tasks[0] must be a whole number of 1 or more"),
        ("seeds = [0, 1]", "seeds = true", 2, "seeds of the plan must be a whole number"),
        ('method = "budget"', 'method = "bugdet"', 19, "got 'bugdet'. Did you mean budget?"),
        (
            'like = "budget"',
            'like = "bugdet"',
            24,
            "like of methods[1] names no method of the plan: 'bugdet'. Did you mean",
        ),
        ("fidelity = 0.1", "fidelity = -1", 18, "methods[0]: A fidelity is a divergence above 0"),
        (
            'model = "shapes:vgg"',
            'name = "vgg"',
            4,
            'models[0] names no model. Give it: model = "torchvision:resnet50".',
        ),
        ('images = "images"', "", 12, "tasks[0] needs one of images, shapes and planted; got none of them."),
        (
            'like = "budget"',
            "",
            22,
            'methods[1] is a control, so it needs the method whose size it takes: like = "budget".',
        ),
        ('like = "budget"', 'like = "budget"\nlam = 0.1', 22, "methods[1] is a control and takes only refit, not lam."),
        ("fidelity = 0.1", "scope = 'layer'", 20, "scope of methods[0] says how controls are drawn; budget is none."),
        ('method = "random"', 'method = "random"\nname = "budget"', 22, "Two entries of methods are called 'budget'."),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path, old, new, line, said):
    path = written(tmp_path, TOML.replace(old, new))
    with pytest.raises(SettingsError) as error:
        read_plan(path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tasks": []}, "the plan: tasks must be a list of tables, at least one: [[tasks]]"),
        ({"models": [3]}, "models[0] must name its model, since each worker loads it itself: shapes:vgg"),
        (
            {"tasks": [{"planted": "all", "held_out": 3}]},
            "is of planted networks, which bring their images; leave held_out",
        ),
        ({"tasks": [{"images": "x", "noise": 0.1}]}, "is of images, which get no noise; leave noise out."),
        ({"tasks": [{"images": "x", "pairs": "some"}]}, 'pairs of tasks[0] must be "all", a number'),
        ({"measures": ["nothing"]}, "There is no measure 'nothing'"),
        ({"settings": [{"sise": 3}]}, "settings[0] has no key 'sise'. Did you mean size"),
        ({"methods": [{"method": "paper", "scope": "all"}]}, "scope of methods[0] must be one of layer, network"),
        (
            {"methods": [{"method": "paper", "like": "budget"}, {"method": "budget", "like": "paper"}]},
            "methods[0] takes its size from 'paper', which takes it from it: a circle.",
        ),
        ({"methods": [{"method": "budget", "lam": 0.1}]}, "lam belongs to method='paper'"),
    ],
)
def test_a_mapping_is_checked_alike(changes, said):
    with pytest.raises(SettingsError) as error:
        Plan.of(plan_of(**changes))
    assert said in str(error.value)


def test_a_plan_needs_tasks_and_models():
    with pytest.raises(SettingsError, match="The plan has no tasks"):
        Plan.of({"models": ["shapes:vgg"]})
    with pytest.raises(SettingsError, match="The plan has no models"):
        Plan.of({"tasks": ["images"]})
    assert Plan.of({"tasks": [{"planted": "plain-small", "noise": [0, 0.1]}]}).tasks[0].noises == (0, 0.1)


def test_a_plan_made_of_parts_is_checked_too():
    with pytest.raises(SettingsError, match="The plan has no tasks"):
        Plan.of(Plan(methods=(Method(method="budget"),)))


def test_files_that_are_no_plans(tmp_path):
    with pytest.raises(SettingsError, match=r"is not TOML: .*line 2"):
        read_plan(written(tmp_path, "seeds = 1\nmodels = = 3\n"))
    with pytest.raises(ArtifactError, match=r"The plan .*nowhere\.toml cannot be read: No such file"):
        read_plan(tmp_path / "nowhere.toml")
    (tmp_path / "plan.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="is no text in UTF-8"):
        read_plan(tmp_path / "plan.toml")


def test_without_a_reader_of_toml_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tomllib" if sys.version_info >= (3, 11) else "tomli", None)
    with pytest.raises(SettingsError, match=r"pip install 'neurochains\[study\]'; or give the plan as Python objects"):
        read_plan(written(tmp_path, TOML))


def test_a_methods_own_goal_comes_before_the_settings():
    settings = Settings(options={"fidelity": 0.1, "refit": 3})
    assert combined(Method(method="budget"), settings) == {"fidelity": 0.1, "refit": 3}
    assert combined(Method(method="budget", options={"size": 5}), settings) == {"size": 5, "refit": 3}
    assert combined(Method(method="paper", like="budget"), settings) == {"refit": 3}


NAMES = st.text("abcxyz_", min_size=1, max_size=6)


@given(st.lists(st.lists(NAMES, unique=True, max_size=4), max_size=4), st.lists(NAMES, unique=True, max_size=3))
def test_every_key_has_the_line_it_stands_on(tables, first):
    lines = [f"{key} = 1" for key in first]
    wanted = {(key,): number for number, key in enumerate(first, 1)}
    for at, keys in enumerate(tables):
        lines += ["", "[[many]] # header"]
        wanted[("many", at)] = len(lines)
        for key in keys:
            lines.append(f"  {key}= [1, 2]")
            wanted[("many", at, key)] = len(lines)
    assert key_lines("\n".join(lines)) == wanted
