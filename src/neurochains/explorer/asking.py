"""Queries of the explorer: from the bundle where it has the numbers, else from what was measured for them before.

A set of images asked for with the bundle's own target and criterion is read; a single image, and everything with
another target or criterion, has to be measured once (`measure`), which takes a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.circuits import QueryResult, Target, query
from neurochains.circuits.bundle_document import BundleLayer
from neurochains.circuits.bundle_numbers import Spans
from neurochains.circuits.criteria import find_criterion
from neurochains.circuits.expressions import parse
from neurochains.circuits.probe import layers_to
from neurochains.circuits.set_names import OVERALL
from neurochains.circuits.vectors import importance_vectors
from neurochains.errors import ExpressionError
from neurochains.explorer.desk import Desk
from neurochains.explorer.view import View
from neurochains.explorer.worker import stop_point
from neurochains.network import Filter

__all__ = ["Answer", "Asked", "NotMeasured", "answer", "measure", "missing"]

Array = NDArray[Any]
Tell = Callable[[float, str], None]
_AT_ONCE = 16


class NotMeasured(Exception):  # noqa: N818 - it is told to the worker, not to the user
    """Numbers that a query names are not there yet."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What a query says: the score of each filter, and of each kernel, by layer name.

    `kernels` are the sizes of the weights where the bundle has no importance of kernels; then `weighed` is True.
    """

    result: QueryResult
    filters: Mapping[str, Array]
    kernels: Mapping[str, Array]
    weighed: bool
    ranks: Mapping[str, Array] = field(default_factory=dict)


class Asked:
    """What a query asks, as `neurochains.circuits.query` wants it.

    Raises:
        SettingsError, LayerError: the target or the criterion is none.
        ArtifactError: numbers have to be measured, and the model is not known.
    """

    def __init__(self, desk: Desk, view: View) -> None:
        self.desk, bundle = desk, desk.bundle
        usual = bundle.settings
        target, criterion = view.target or usual["target"], view.criterion or usual["criterion"]
        self.settings: Mapping[str, Any] = {"target": target, "criterion": criterion, "reduce": usual["reduce"]}
        self.usual = target == usual["target"] and criterion == usual["criterion"]
        self.layers: tuple[BundleLayer, ...] = bundle.layers
        self.spans: Spans = bundle.spans if self.usual else self._spans()

    def sources(self, layer: str) -> tuple[tuple[Filter, ...], ...]:
        """Return the filters behind each input channel of a layer."""
        return self.desk.bundle.sources(layer)

    def values(self, name: str, *, kernels: bool = False) -> Array:
        """Return the vector of importances of a set or an image.

        Raises:
            ExpressionError: nothing is called that.
            NotMeasured: it has to be measured first.
        """
        key = self.key(name)
        if self.usual and (key == OVERALL or len(key) == 1):
            return self.desk.bundle.values(name, kernels=kernels)
        found = self.desk.measured.find((key, *self.settings.values()))
        if found is None:
            raise NotMeasured(name)
        return found[kernels]

    def key(self, name: str) -> Any:
        """Return what a name means: ``"overall"``, ``(set,)`` or ``(set, image)``.

        Raises:
            ExpressionError: nothing, or several things.
        """
        names = self.desk.bundle.names
        if name == OVERALL:
            return OVERALL
        if names.candidates(name):
            return (names.find(name),)
        found = names.images(name)
        if len(found) > 1:
            raise ExpressionError(f"{name!r} names {len(found)} images. Name one in full, in quotes.")
        if not found:
            raise ExpressionError(f"No class, set or image is called {name!r}. {names.suggestion(name)}")
        return found[0]

    def measure(self, name: str, tell: Tell) -> None:
        """Measure what a name means, and keep it on the desk."""
        key, sets = self.key(name), self.desk.bundle.sets
        if key == OVERALL:
            places = [(s, i) for s, known in enumerate(sets) for i in range(len(known.images))]
        else:
            places = [key] if len(key) == 2 else [(key[0], i) for i in range(len(sets[key[0]].images))]
        total: list[Array | float] = [0.0, 0.0]
        for start in range(0, len(places), _AT_ONCE):
            stop_point()
            tell(start / len(places), f"{name}: {start} of {len(places)} images")
            part = places[start : start + _AT_ONCE]
            found = importance_vectors(self.desk.network, self.desk.task(part), self.spans, **self.settings)
            total = [old + new * (len(part) / len(places)) for old, new in zip(total, found)]
        self.desk.measured.put((key, *self.settings.values()), tuple(total))

    def _spans(self) -> Spans:
        find_criterion(self.settings["criterion"], self.settings["reduce"])
        network = self.desk.network
        leading = {layer.name for layer in layers_to(network, Target.parse(self.settings["target"], network))}
        return Spans([layer for layer in self.layers if layer.name in leading and layer.scored])


def missing(desk: Desk, view: View) -> tuple[str, ...]:
    """Return the names in a view's query whose numbers have to be measured first.

    Raises:
        ExpressionError: the query cannot be read.
        SettingsError, LayerError, ArtifactError: as `Asked`.
    """
    asked, found = Asked(desk, view), []
    parsed = parse(view.expression)
    for name in parsed.names:
        try:
            _located(asked.values, parsed.text, name)
        except NotMeasured:  # noqa: PERF203 - which of several names it is has to be known
            found.append(name)
    return tuple(found)


def measure(desk: Desk, view: View, tell: Tell) -> None:
    """Measure all that a view's query needs.

    Raises:
        Stopped: nobody waits for it any more.
    """
    asked = Asked(desk, view)
    for name in missing(desk, view):
        asked.measure(name, tell)


def answer(desk: Desk, view: View) -> Answer:
    """Return what the query of a view says.

    Raises:
        NotMeasured: numbers have to be measured first.
        ExpressionError, SettingsError, LayerError, ArtifactError: it cannot be answered; the message says why.
    """
    key = tuple(view.part("expression", "target", "criterion", "normalise", "layers").values())
    return desk.answers.get(key, lambda: _answer(desk, view))


def _answer(desk: Desk, view: View) -> Answer:
    asked = Asked(desk, view)
    wishes: dict[str, Any] = {"layers": view.layers or None, "normalise": view.normalise}
    result = query(view.expression, asked, **wishes)
    weighed = asked.usual and not desk.bundle.has_kernels
    if weighed:
        kernels = {name: _sizes(desk, name) for name in result.scores}
    else:
        exact = query(view.expression, asked, kernels=True, **wishes).scores
        kernels = {name: scores.astype(np.float32) for name, scores in exact.items()}
    return Answer(result, dict(result.scores), kernels, weighed)


def _sizes(desk: Desk, layer: str) -> Array:
    found = desk.bundle.layer(layer)
    return np.abs(desk.bundle.weights(layer).astype(np.float32)).reshape(*found.shape, -1).mean(-1)


def _located(values: Callable[[str], Array], text: str, name: str) -> None:
    """Look a name up; an error about it is told with its place in the text."""
    try:
        values(name)
    except ExpressionError as error:
        start = text.find(name)
        if error.text or start < 0:
            raise
        raise ExpressionError(error.message, text=text, start=start, end=start + len(name)) from error


def rank(scores: Mapping[str, Array], unit: Filter) -> tuple[int, int, float]:
    """Return the place of a filter among all of the answer and of its layer, from 1, and its score."""
    own = scores[unit.layer]
    score = own[unit.index]
    larger = sum(int((values > score).sum()) for values in scores.values())
    return larger + 1, int((own > score).sum()) + 1, float(score)


def above(scores: Sequence[float] | Array, share: float) -> Array:
    """Return which of some scores together carry a share of their sum, the largest first; bool, as long as they are.

    >>> above([0.1, 0.6, 0.3], 0.7).tolist()
    [False, True, True]
    """
    values = np.asarray(scores, np.float64)
    order = np.argsort(-values, axis=-1, kind="stable")
    ordered = np.take_along_axis(values, order, -1)
    before = np.cumsum(ordered, -1) - ordered
    total = ordered.sum(-1, keepdims=True)
    kept = (before < share * total * (1 - 1e-9)) & (ordered > 0)
    found = np.zeros(values.shape, bool)
    np.put_along_axis(found, order, kept, -1)
    return found
