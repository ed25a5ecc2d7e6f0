"""Adversarial detection: whether attacked images give themselves away by their calculation paths.

1. Of the images, those that the decoupled network classifies correctly are attacked, in pixels.
2. For each seed the images, not the pictures made of them, are parted: so many of each class to train on, the others to
   test on. A clean image and what an attack made of it are never on both sides.
3. A classifier learns to tell clean images from those of one attack that succeeded, by one kind of feature. It is
   tested on every attack, on images it changed the answer of, and on all; on paths and on the controls alike.
4. AUROC is that of the predicted probabilities, not of hard decisions; mean and standard deviation over the seeds.

Binary codes have no gradient, so an attack sees the convolutions only. The attacks called ``adaptive ...`` see through
the gates as well, by the smooth codes of training in place of the gradient.

Shapes: N images, D numbers of a feature.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.attacks import ATTACKS, attack, on_pixels
from neurochains.data import Task
from neurochains.decoupling.classifiers import CLASSIFIERS, auroc, check_sklearn, probabilities
from neurochains.decoupling.decoupled import Decoupled, evaluating
from neurochains.decoupling.detection_features import CONFIDENCE, FEATURES, FeatureReader, Features
from neurochains.errors import DataError, SettingsError, did_you_mean
from neurochains.preprocess import Preprocess

if TYPE_CHECKING:
    from neurochains.decoupling.paths import Paths

__all__ = ["Detection", "DetectionRow", "detect"]

ADAPTIVE = "adaptive "
_UNTRAINED = "none"
_Key = tuple[str, str, str, str]  # features, classifier, attack trained on, attack tested on


@dataclass(frozen=True, slots=True)
class DetectionRow:
    """How well one kind of feature detects one attack.

    Attributes:
        features: their name.
        classifier: its name; ``"none"`` for the confidence.
        trained_on, tested_on: names of attacks.
        auroc: for each seed, on the images whose answer the attack changed.
        auroc_all: for each seed, on all attacked images.
    """

    features: str
    classifier: str
    trained_on: str
    tested_on: str
    auroc: tuple[float, ...]
    auroc_all: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of `auroc` over the seeds."""
        return statistics.fmean(self.auroc)

    @property
    def sd(self) -> float:
        """The standard deviation of `auroc` over the seeds; 0 with one seed."""
        return statistics.stdev(self.auroc) if len(self.auroc) > 1 else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        names = {name: getattr(self, name) for name in ("features", "classifier", "trained_on", "tested_on")}
        figures = {"mean": self.mean, "sd": self.sd, "mean_all": statistics.fmean(self.auroc_all)}
        return {**names, **figures, "auroc": list(self.auroc), "auroc_all": list(self.auroc_all)}


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """The outcome of all attacks, features and classifiers.

    Attributes:
        rows: one for each features, classifier, attack trained on and attack tested on.
        success: by attack, the share of images that it changed the answer of.
        images: how many were attacked: those classified correctly, of `given`.
        given: how many there were.
        settings: what was asked for.
        paths: by attack, and ``"clean"``, the codes ``(N, F)`` of the attacked images, in one order.
        answers: by attack, and ``"clean"``, the classes ``(N,)`` that the network answers.
    """

    rows: tuple[DetectionRow, ...]
    success: dict[str, float]
    images: int
    given: int
    settings: dict[str, Any]
    paths: dict[str, Paths]
    answers: dict[str, Tensor]

    def select(self, **wanted: str) -> list[DetectionRow]:
        """Return the rows whose fields are as wanted, such as ``features="paths", tested_on="pgd"``."""
        return [row for row in self.rows if all(getattr(row, name) == value for name, value in wanted.items())]

    def best(self, tested_on: str, *, features: str = "paths", trained_on: str | None = None) -> DetectionRow:
        """Return the row of the best classifier for an attack, trained on the same attack if None.

        Raises:
            DataError: there is no such row.
        """
        home = "" if features == CONFIDENCE else trained_on or tested_on
        rows = [row for row in self.select(features=features, tested_on=tested_on) if home in ("", row.trained_on)]
        if not rows:
            raise DataError(f"Nothing was measured for {features} tested on {tested_on!r}, trained on {home!r}.")
        return max(rows, key=lambda row: row.mean)

    def to_json(self) -> dict[str, Any]:
        """Return everything but the paths and answers as JSON values."""
        rows = [row.to_json() for row in self.rows]
        counts = {"images": self.images, "given": self.given, "success": self.success}
        return {**counts, "settings": self.settings, "rows": rows}


@dataclass(frozen=True, slots=True, eq=False)
class _Shown:
    """What was read of clean or attacked images: features, answers, and which answers an attack changed."""

    features: Features
    answers: Tensor
    codes: dict[str, Tensor]
    changed: NDArray[np.bool_]


def detect(
    decoupled: Decoupled,
    task: Task,
    *,
    attacks: Sequence[str] = ("fgsm", "bim", "pgd", "adaptive pgd"),
    eps: float = 8 / 255,
    norm: str = "linf",
    steps: int = 10,
    train_per_class: int | None = None,
    features: Sequence[str] = FEATURES,
    classifiers: Sequence[str] = tuple(CLASSIFIERS),
    seeds: int = 5,
    preprocess: Preprocess | None = None,
    batch: int = 64,
    progress: Callable[[str], None] | None = None,
) -> Detection:
    """Return how well attacks are detected by calculation paths, beside the controls; see the module.

    Args:
        decoupled: the network, which is also the one that is attacked.
        task: images that it was not trained on, with labels.
        attacks: names of `neurochains.attacks.ATTACKS`, each also with ``adaptive `` in front.
        eps: the radius of the attacks' ball, in pixels of [0, 1].
        norm: of the ball, ``"linf"`` or ``"l2"``.
        steps: of attacks with several.
        train_per_class: how many images of each class to train on; half of them if None.
        features: names of `FEATURES`.
        classifiers: names of `CLASSIFIERS`.
        seeds: how many partings of the images.
        preprocess: how pixels become images; the model's way if None.
        batch: how many images are computed at once.
        progress: is called with a line of text as the work goes on.

    Raises:
        SettingsError: a name means nothing, a number is out of range, it is not known how images are prepared, or
            scikit-learn is not installed.
        DataError: the images have no labels, too few of them are classified correctly, or an attack changes no answer.
    """
    check_sklearn()
    plain = [name.removeprefix(ADAPTIVE) for name in attacks]
    _check_names(attack=(plain, ATTACKS), features=(features, FEATURES), classifier=(classifiers, CLASSIFIERS))
    if seeds < 1 or (train_per_class is not None and train_per_class < 1):
        raise SettingsError(f"seeds and train_per_class are 1 or more; got {seeds} and {train_per_class}.")
    tell = progress or (lambda _: None)
    chosen = _correct(decoupled, task, batch)
    how = {"eps": eps, "norm": norm, "steps": steps}
    shown = dict(_all_shown(decoupled, chosen, attacks, how, _preprocess(decoupled, preprocess), batch, tell))
    found: dict[_Key, list[tuple[float, float]]] = {}
    assert chosen.labels is not None
    for seed in range(seeds):
        train = _training_ids(chosen.labels, train_per_class, seed)
        tell(f"seed {seed + 1} of {seeds}: classifiers learn from {int(train.sum())} images")
        for key, pair in _measured(shown, train, features, classifiers, seed):
            found.setdefault(key, []).append(pair)
    _check_found(found, attacks, features, len(chosen))
    used = {**how, "seeds": seeds, "train_per_class": train_per_class, "attacks": list(attacks)}
    return _gathered(found, shown, chosen, len(task), used)


def _check_found(found: Collection[_Key], attacks: Sequence[str], features: Sequence[str], images: int) -> None:
    for name in attacks if set(features) != {CONFIDENCE} else ():
        if not any(key[2:] == (name, name) for key in found):
            raise DataError(
                f"{name} changed too few of {images} answers to have some to learn from and some to test on, in any "
                "parting. Take more images, a larger eps or more steps."
            )


def _gathered(
    found: dict[_Key, list[tuple[float, float]]],
    shown: dict[str, _Shown],
    chosen: Task,
    given: int,
    used: dict[str, Any],
) -> Detection:
    from neurochains.decoupling.paths import Paths

    pairs = {key: tuple(zip(*values, strict=True)) for key, values in found.items()}
    rows = tuple(DetectionRow(*key, changed, every) for key, (changed, every) in pairs.items())
    success = {name: float(one.changed.mean()) for name, one in shown.items() if name != "clean"}
    paths = {name: Paths(one.codes, chosen.labels, chosen.class_names) for name, one in shown.items()}
    answers = {name: one.answers for name, one in shown.items()}
    return Detection(rows, success, len(chosen), given, used, paths, answers)


def _correct(decoupled: Decoupled, task: Task, batch: int) -> Task:
    """Return the images that the network classifies correctly."""
    if task.labels is None or bool((task.labels < 0).any()):
        raise DataError("Detection needs the class of every image: only correct answers are attacked. Pass labels.")
    right = decoupled.predict(task.images, batch=batch).argmax(1) == task.labels
    if int(right.sum()) < 4:
        raise DataError(f"Only {int(right.sum())} of {len(task)} images are classified correctly; at least 4 must be.")
    return task.subset(right.nonzero().flatten())


def _all_shown(
    decoupled: Decoupled,
    task: Task,
    attacks: Sequence[str],
    how: dict[str, Any],
    preprocess: Preprocess,
    batch: int,
    tell: Callable[[str], None],
) -> Iterator[tuple[str, _Shown]]:
    """Yield what is read of the clean images, and of those that each attack made of them."""
    assert task.labels is not None
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocess.mean, preprocess.std))
    pixels = (task.images * std + mean).clamp(0, 1)
    reader = FeatureReader(decoupled, task.images, batch=batch)
    tell(f"reading {len(task)} clean images")
    yield "clean", _shown(reader, decoupled, task.images, task.labels)
    for name in attacks:
        tell(f"attacking {len(task)} images: {name}")
        options = {key: value for key, value in how.items() if key != "steps" or not name.endswith("fgsm")}
        with evaluating(decoupled), decoupled.surrogate_gradients() if name.startswith(ADAPTIVE) else nullcontext():
            model = on_pixels(decoupled, preprocess)
            moved = attack(name.removeprefix(ADAPTIVE), model, pixels, task.labels, **options)
        made = _shown(reader, decoupled, (moved.cpu() - mean) / std, task.labels)
        if made.changed.sum() < 2:
            raise DataError(
                f"{name} changed {int(made.changed.sum())} of {len(task)} answers; at least 2 are needed to detect it. "
                "Take a larger eps, more steps or more images."
            )
        yield name, made


def _shown(reader: FeatureReader, decoupled: Decoupled, images: Tensor, labels: Tensor) -> _Shown:
    features, logits = reader.read(images)
    bits = torch.from_numpy(features["paths"]).bool().split(list(decoupled.filters.values()), 1)
    codes = dict(zip(decoupled.layers, bits, strict=True))
    answers = logits.argmax(1)
    return _Shown(features, answers, codes, (answers != labels).numpy())


def _training_ids(labels: Tensor, per_class: int | None, seed: int) -> NDArray[np.bool_]:
    """Return ``(N,)``, True for images to train on: so many of each class, but never all."""
    dice = np.random.default_rng(seed)
    train = np.zeros(len(labels), dtype=bool)
    for label in labels.unique().tolist():
        members = dice.permutation((labels == label).nonzero().flatten().numpy())
        wanted = (len(members) + int(dice.integers(2))) // 2 if per_class is None else per_class
        train[members[: min(wanted, len(members) - 1) if per_class else wanted]] = True
    return train


def _measured(
    shown: dict[str, _Shown],
    train: NDArray[np.bool_],
    features: Sequence[str],
    classifiers: Sequence[str],
    seed: int,
) -> Iterator[tuple[_Key, tuple[float, float]]]:
    """Yield the AUROC on changed and on all images by names of features, classifier, attack trained on and tested on.

    Attacks that changed no answer on one side of the parting are left out.
    """
    attacked = {name: one for name, one in shown.items() if name != "clean"}
    for kind in features:
        clean = shown["clean"].features[kind]
        if kind == CONFIDENCE:
            tests = _tested(lambda table: -table[:, 0], clean, attacked, kind, ~train)
            yield from (((kind, _UNTRAINED, "", name), pair) for name, pair in tests)
            continue
        for home, one in attacked.items():
            odd = one.features[kind][train & one.changed]
            if not len(odd) or not train.any() or train.all():
                continue
            for classifier in classifiers:
                score = probabilities(classifier, clean[train], odd, seed)
                tests = _tested(score, clean, attacked, kind, ~train)
                yield from (((kind, classifier, home, name), pair) for name, pair in tests)


def _tested(
    score: Callable[[NDArray[Any]], NDArray[Any]],
    clean: NDArray[Any],
    attacked: dict[str, _Shown],
    kind: str,
    test: NDArray[np.bool_],
) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield by attack the AUROC of a score on the images it changed and on all, clean ones being the others."""
    calm = score(clean[test])
    for name, one in attacked.items():
        changed = one.changed[test]
        if changed.any():
            odd = score(one.features[kind][test])
            yield name, (auroc(calm, odd[changed]), auroc(calm, odd))


def _preprocess(decoupled: Decoupled, given: Preprocess | None) -> Preprocess:
    found = given or getattr(decoupled.network.info, "preprocess", None)
    if found is None:
        raise SettingsError(
            "Attacks change pixels, and how pixels become the network's images is not known. Pass "
            "preprocess=nc.Preprocess(size=..., mean=..., std=...) as in the model's training."
        )
    return found


def _check_names(**groups: tuple[Sequence[str], Sequence[str] | dict[str, Any]]) -> None:
    for what, (names, known) in groups.items():
        for name in names:
            if name not in known:
                hint = did_you_mean(str(name), known)
                raise SettingsError(f"No {what} is called {name!r}; there are {', '.join(known)}. {hint}".rstrip())
        if not names or isinstance(names, str):
            raise SettingsError(f"Wanted a list of at least one {what}; got {names!r}.")
