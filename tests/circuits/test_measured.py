from __future__ import annotations

import numpy as np
import pytest

from neurochains.circuits import Bundle, Measured, importance, query
from neurochains.circuits import measured as measured_module
from neurochains.errors import ArtifactError, ExpressionError, SettingsError

from .conftest import small_network


@pytest.fixture
def measured(network, task):
    return Measured(network, task)


def assert_equal(result, wanted, close=1e-4):
    for name, values in result.scores.items():
        np.testing.assert_allclose(values, wanted[name], rtol=close, atol=close * abs(wanted[name]).max())


@pytest.mark.parametrize("kernels", [False, True])
@pytest.mark.parametrize("text", ["tiger - overall", "n00000001 * 2", '"<b>wolf</b>" / (overall + 1e-3)'])
def test_measuring_and_reading_say_the_same(measured, bundle, text, kernels):
    wanted = query(text, bundle, kernels=kernels).scores
    assert_equal(query(text, measured, kernels=kernels), wanted, close=5e-3 if kernels else 1e-4)  # kept as float16


@pytest.mark.parametrize("name", ["04.png", '"set1/04.png"', '"04"'])
def test_an_image_is_measured_by_itself(measured, network, task, name):
    (index,) = [number for number, known in enumerate(task.names) if known == "set1/04.png"]
    wanted = importance(network, task.subset([index]), target="loss")
    assert_equal(query(name, measured), {key: values.numpy() for key, values in wanted.filters.items()})


def test_a_set_is_the_mean_of_its_images(measured, task):
    own = [f'"{task.names[row]}"' for row in task.by_class()[1]]
    mean = f"({' + '.join(own)}) / {len(own)}"
    assert_equal(query(mean, measured), query("tiger", measured).scores)


def test_nothing_is_measured_twice(measured, monkeypatch):
    calls, measure = [], measured_module.importance_vectors

    def counted(network, task, *args, **options):
        calls.append(len(task))
        return measure(network, task, *args, **options)

    monkeypatch.setattr(measured_module, "importance_vectors", counted)
    query("tiger - 04.png", measured)
    query("tiger + 04.png", measured, kernels=True)
    assert sorted(calls) == [1, 4]
    query("overall - tiger", measured)
    assert len(calls) == 4


def test_what_the_bundle_holds_is_read_from_it(network, task, prepared, monkeypatch):
    bundle = Bundle.open(prepared)
    measured = Measured(network, task, bundle=bundle)
    calls = []
    monkeypatch.setattr(Bundle, "values", lambda self, name, kernels=False: calls.append(name) or np.ones(48))
    query("tiger - 0.1 * overall + 04.png", measured)
    assert calls == ["tiger", "overall"]


def test_target_and_criterion_are_asked_for(network, task):
    measured = Measured(network, task, target="logit:1", criterion="snip", reduce="signed")
    wanted = importance(network, task, target="logit:1", criterion="snip", reduce="signed")
    result = query("2 * overall", measured, layers=["a.0"])
    np.testing.assert_allclose(
        result.scores["a.0"], np.maximum(2 * wanted.filters["a.0"].numpy(), 0), rtol=1e-3, atol=1e-6
    )
    assert (result.settings["target"], result.settings["criterion"]) == ("logit:1", "snip")


def test_settings_follow_the_bundle(network, task, bundle):
    assert Measured(network, task, bundle=bundle, target="loss").settings["criterion"] == "activation_gradient"
    with pytest.raises(
        SettingsError, match="The bundle was prepared with the criterion 'activation_gradient', not 'snip'"
    ):
        Measured(network, task, bundle=bundle, criterion="snip")
    with pytest.raises(ArtifactError, match="prepared from a model with other weights"):
        Measured(small_network("grouped"), task, bundle=bundle)
    with pytest.raises(SettingsError, match="There is no criterion 'snap'"):
        Measured(network, task, criterion="snap")


def test_names_that_mean_nothing_or_several_are_said(measured, network, task, bundle):
    with pytest.raises(
        ExpressionError, match=r"No class, set or image is called 'tigre'. Did you mean tiger"
    ) as caught:
        query("1 + tigre", measured)
    assert caught.value.start == 4
    with pytest.raises(ExpressionError, match=r"No class, set or image is called 'tigre'. Did you mean tiger"):
        query("tigre", Measured(network, task, bundle=bundle))


def test_an_image_name_of_two_sets_lists_both(network, task):
    from neurochains.data import Task

    names = [f"{name.split('/')[0]}/{index // 3}.png" for index, name in enumerate(task.names)]
    twice = Measured(network, Task(task.images, task.labels, task.class_names, names=names, synsets=task.synsets))
    with pytest.raises(
        ExpressionError, match=r"'1\.png' names 3 images: 'set0/1\.png', .* Name one in full, in quotes"
    ):
        query("1.png", twice)
