from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurochains.data import Task
from neurochains.decoupling import CLASSIFIERS, FEATURES, Decoupled, Detection, decouple, detect
from neurochains.decoupling.classifiers import auroc, probabilities
from neurochains.decoupling.detection import _measured, _Shown, _training_ids
from neurochains.decoupling.detection_features import FeatureReader
from neurochains.errors import DataError, SettingsError
from neurochains.preprocess import Preprocess

HOW = Preprocess(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
QUICK = {"eps": 0.2, "steps": 3, "seeds": 2, "preprocess": HOW, "classifiers": ("random forest", "logistic regression")}


@pytest.fixture(scope="module")
def network() -> Decoupled:
    """Tells by the colour of which corner is brighter; its gates follow the mean brightness of channels."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 1), nn.ReLU(), nn.Flatten())
    torch.manual_seed(0)
    head = nn.Linear(12 * 64, 2)
    whole = nn.Sequential(*model, head).eval()
    made = decouple(whole, torch.zeros(2, 3, 8, 8), layers=["2"])
    controller = made.controllers["2"]
    with torch.no_grad():
        nn.init.normal_(controller.expand.weight, std=3.0)
        controller.expand.bias.zero_()
    return made


@pytest.fixture(scope="module")
def task(network) -> Task:
    """Images labelled by what the network answers, so that all answers are right."""
    images = HOW.std[0] ** -1 * (torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.5)
    return Task(images, network.predict(images).argmax(1), ("left", "right"))


@pytest.fixture(scope="module")
def found(network, task) -> Detection:
    return detect(network, task, attacks=("fgsm", "adaptive pgd"), **QUICK)


def state(network: Decoupled) -> Iterator[tuple[str, Tensor | bool]]:
    yield from ((name, value.clone()) for name, value in network.state_dict().items())
    yield from ((name, value.requires_grad) for name, value in network.named_parameters())
    yield from ((name, module.training) for name, module in network.named_modules())
    yield from ((name, controller.surrogate) for name, controller in network.controllers.items())


def same(one: Tensor | bool, other: Tensor | bool) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) and isinstance(other, Tensor) else one == other


def test_every_feature_classifier_and_pair_of_attacks_has_its_row(found):
    trained = {(row.features, row.classifier, row.trained_on, row.tested_on) for row in found.rows if row.trained_on}
    assert len(trained) == 3 * 2 * 2 * 2
    assert len(found.select(features="confidence")) == 2
    assert all(len(row.auroc) == 2 and 0 <= row.mean <= 1 for row in found.rows)
    assert found.images == found.given == 60
    assert set(found.success) == {"fgsm", "adaptive pgd"}


def test_the_best_row_is_the_best(found):
    rows = found.select(features="activations", trained_on="fgsm", tested_on="fgsm")
    assert found.best("fgsm", features="activations").mean == max(row.mean for row in rows)
    assert found.best("fgsm", features="confidence").classifier == "none"
    with pytest.raises(DataError, match="Nothing was measured for paths tested on 'bim'"):
        found.best("bim")


def test_the_success_of_an_attack_is_told_by_its_answers(found, task):
    changed = found.answers["fgsm"] != task.labels
    assert found.success["fgsm"] == pytest.approx(float(changed.double().mean()))
    assert bool((found.answers["clean"] == task.labels).all())
    assert set(found.paths) == {"clean", "fgsm", "adaptive pgd"}


def test_the_same_settings_give_the_same_numbers(found, network, task):
    again = detect(network, task, attacks=("fgsm", "adaptive pgd"), **QUICK)
    assert [row.auroc for row in again.rows] == [row.auroc for row in found.rows]
    assert again.to_json() == found.to_json()


def test_the_network_stays_as_it_was(network, task):
    network.train()
    before = dict(state(network))
    detect(network, task, attacks=("adaptive fgsm",), **{**QUICK, "seeds": 1})
    with pytest.raises(DataError, match="changed 0 of 60 answers"):
        detect(network, task, attacks=("adaptive fgsm",), **{**QUICK, "eps": 0.0})
    after = dict(state(network))
    network.eval()
    assert before.keys() == after.keys()
    assert all(same(before[name], after[name]) for name in before)


def test_an_image_is_never_on_both_sides():
    """A feature that says which image a picture was made of, and nothing else, tells nothing of attacks."""
    labels = torch.arange(40) % 4
    names = np.eye(40, dtype=np.float32)
    shown = {name: _Shown({"paths": names}, labels, {}, np.full(40, name != "clean")) for name in ("clean", "fgsm")}
    for seed in range(3):
        train = _training_ids(labels, None, seed)
        pairs = [pair for _, pair in _measured(shown, train, ("paths",), tuple(CLASSIFIERS), seed)]
        assert pairs == [(0.5, 0.5)] * len(CLASSIFIERS)


@pytest.mark.parametrize("per_class", [1, 3, None])
def test_so_many_of_each_class_are_trained_on(per_class):
    labels = torch.arange(40) % 4
    train = torch.from_numpy(_training_ids(labels, per_class, 0))
    assert labels[train].bincount().tolist() == [per_class or 5] * 4
    assert not torch.equal(train, torch.from_numpy(_training_ids(labels, per_class, 1)))


def test_one_image_of_a_class_at_least_is_left_to_test_on():
    assert _training_ids(torch.zeros(3), 50, 0).sum() == 2


def test_the_features_are_what_they_are_called(network, task):
    features, logits = FeatureReader(network, task.images).read(task.images[:5])
    assert tuple(features) == FEATURES
    assert np.array_equal(features["paths"], network.codes(task.images[:5])["2"].numpy())
    maps = task.images[:5]
    for module in list(network.detach().children())[:4]:  # up to the ReLU behind the controlled layer
        maps = module(maps)
    assert np.allclose(features["activations"], maps.detach().mean((2, 3)).numpy(), atol=1e-5)
    assert np.allclose(features["confidence"][:, 0], logits.softmax(1).max(1).values.numpy())


def test_random_gates_are_on_for_half_of_the_clean_images(network, task):
    features, _ = FeatureReader(network, task.images).read(task.images)
    assert features["random gates"].shape == features["paths"].shape
    assert np.allclose(features["random gates"].mean(0), 0.5, atol=0.02)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_tells_what_is_easy(name):
    dice = np.random.default_rng(0)
    clean, odd = dice.random((40, 6)) < 0.2, dice.random((40, 6)) < 0.8
    score = probabilities(name, clean[:20].astype(float), odd[:20].astype(float), 0)
    assert auroc(score(clean[20:].astype(float)), score(odd[20:].astype(float))) > 0.85


def test_the_area_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score

    dice = np.random.default_rng(0)
    clean, odd = dice.integers(0, 6, 30) / 5, dice.integers(1, 8, 20) / 5
    wanted = roc_auc_score(np.repeat([0, 1], [30, 20]), np.concatenate([clean, odd]))
    assert auroc(clean, odd) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacks": ("pdg",)}, r"No attack is called 'pdg'; there are fgsm, bim, pgd\. Did you mean"),
        ({"attacks": "fgsm"}, "No attack is called 'f'"),
        ({"features": ("path",)}, r"No feature.* Did you mean paths\?"),
        ({"classifiers": ()}, "at least one classifier"),
        ({"seeds": 0}, "seeds and train_per_class are 1 or more; got 0 and None"),
        ({"preprocess": None}, r"Pass preprocess=nc\.Preprocess"),
    ],
)
def test_bad_settings(network, task, changes, message):
    with pytest.raises(SettingsError, match=message):
        detect(network, task, **{"attacks": ("fgsm",), **QUICK, **changes})


def test_images_without_labels_or_right_answers(network, task):
    with pytest.raises(DataError, match="needs the class of every image"):
        detect(network, Task(task.images), **QUICK)
    with pytest.raises(DataError, match="Only 0 of 60 images are classified correctly"):
        detect(network, Task(task.images, 1 - task.labels), **QUICK)


def test_attacks_that_leave_nothing_to_learn_from(network, task, monkeypatch):
    monkeypatch.setattr("neurochains.decoupling.detection._training_ids", lambda *_: np.zeros(60, dtype=bool))
    with pytest.raises(DataError, match="fgsm changed too few of 60 answers to have some to learn from"):
        detect(network, task, attacks=("fgsm",), **QUICK)


def test_scikit_learn_is_asked_for(network, task, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"pip install 'neurochains\[decouple\]'"):
        detect(network, task, **QUICK)
