"""Queries: which filters or kernels matter for what an expression says, such as ``tiger - overall``.

1. The expression is parsed (`expressions`), and each name becomes the vector of importances of a set or an image.
2. Where asked for, the values of each layer are brought to one scale.
3. The expression is applied to the vectors, element by element, and what is negative becomes 0 (Hamblin and Alvarez
   2021).
4. The result is ranked, over the layers asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from neurochains.circuits.bundle_document import BundleLayer
from neurochains.circuits.bundle_numbers import Spans
from neurochains.circuits.expressions import Expression, parse
from neurochains.errors import SettingsError
from neurochains.network import Filter
from neurochains.network.labels import find_layer

__all__ = ["NORMALISATIONS", "QueryResult", "Row", "Source", "query"]

Array = NDArray[Any]
Normalisation = Literal["none", "layer-minmax", "layer-sum"]
_MOST_SOURCES = 3


class Source(Protocol):
    """What a query asks: a `Bundle` or `Measured`."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The target and criterion of the importances, among others."""
        ...

    @property
    def layers(self) -> tuple[BundleLayer, ...]:
        """All layers of the network."""
        ...

    @property
    def spans(self) -> Spans:
        """Where those with importances lie in the vectors."""
        ...

    def values(self, name: str, *, kernels: bool = False) -> Array:
        """Return the vector of importances of a set or image."""
        ...

    def sources(self, layer: str) -> tuple[tuple[Filter, ...], ...]:
        """Return the filters behind each input channel of a layer."""
        ...


@dataclass(frozen=True, slots=True)
class Row:
    """One filter or kernel of a ranking.

    `channel` is the input channel of a kernel, over all groups; None for a filter. `share` is of the sum of all scores.
    """

    layer: str
    filter: int
    channel: int | None
    label: str
    name: str
    score: float
    share: float


@dataclass(frozen=True, eq=False)
class QueryResult:
    """The scores that an expression gives.

    Attributes:
        expression: as it was written.
        kind: ``"filters"`` or ``"kernels"``.
        settings: target, criterion, reduce and normalisation.
        scores: by dotted layer name, in order of execution, ``(O,)`` or ``(O, I)``, I per group; none below 0.
    """

    expression: str
    kind: Literal["filters", "kernels"]
    settings: Mapping[str, Any]
    scores: Mapping[str, Array]
    _layers: Mapping[str, BundleLayer] = field(repr=False)
    _sources: Callable[[str], tuple[tuple[Filter, ...], ...]] = field(repr=False)

    @property
    def total(self) -> float:
        """The sum of all scores."""
        return float(sum(values.sum() for values in self.scores.values()))

    @property
    def of(self) -> int:
        """How many filters or kernels were scored."""
        return sum(values.size for values in self.scores.values())

    @property
    def positive(self) -> int:
        """How many of them have a score above 0."""
        return sum(int(np.count_nonzero(values)) for values in self.scores.values())

    def rows(self, top: int | None = None) -> tuple[Row, ...]:
        """Return the filters or kernels with a score above 0, the largest first, equal ones in order of execution.

        Args:
            top: at most so many; all if None.

        Raises:
            SettingsError: ``top`` is below 1.
        """
        if top is not None and top < 1:
            raise SettingsError(f"Wanted the top 1 or more; got {top}.")
        flat = np.concatenate([values.ravel() for values in self.scores.values()])
        total, order = float(flat.sum()) or 1.0, _largest(flat, min(self.positive, flat.size if top is None else top))
        ends = np.cumsum([values.size for values in self.scores.values()])
        names, sources = list(self.scores), {}
        found = []
        for place in order.tolist():
            number = int(np.searchsorted(ends, place, side="right"))
            layer = self._layers[names[number]]
            inside = place - int(ends[number]) + self.scores[layer.name].size
            if self.kind == "kernels" and layer.name not in sources:
                sources[layer.name] = self._sources(layer.name)
            score = float(flat[place])
            found.append(self._row(layer, inside, sources.get(layer.name), score, score / total))
        return tuple(found)

    def to_json(self, top: int | None = None) -> dict[str, Any]:
        """Return the result as JSON values, with at most ``top`` rows."""
        rows = [{key: getattr(row, key) for key in Row.__slots__} for row in self.rows(top)]
        counts = {"total": self.total, "positive": self.positive, "of": self.of}
        return {"expression": self.expression, "kind": self.kind, **self.settings, **counts, "rows": rows}

    def _row(
        self, layer: BundleLayer, place: int, sources: Sequence[Sequence[Filter]] | None, score: float, share: float
    ) -> Row:
        if sources is None:
            return Row(layer.name, place, None, f"{layer.label}_{place}", f"{layer.name}[{place}]", score, share)
        unit, column = divmod(place, layer.shape[1])
        channel = unit // (layer.units // layer.groups) * layer.shape[1] + column
        label, name = (
            f"{_joined(sources[channel], form)} -> {form(Filter(layer.name, unit))}" for form in (self._label, str)
        )
        return Row(layer.name, unit, channel, label, name, score, share)

    def _label(self, unit: Filter) -> str:
        known = self._layers.get(unit.layer)
        return f"{known.label if known else unit.layer}_{unit.index}"


def query(
    expression: str | Expression,
    source: Source,
    *,
    kernels: bool = False,
    layers: Sequence[str] | None = None,
    normalise: Normalisation = "none",
) -> QueryResult:
    """Return how much each filter or kernel matters for an expression over sets of images, classes and images.

    Args:
        expression: such as ``'0.5 * ("Border Collie" + n02106662) - overall'``; see `expressions`.
        source: a `Bundle`, which answers at once, or `Measured`.
        kernels: score kernels instead of filters.
        layers: dotted names or labels of the layers to rank; all if None.
        normalise: ``"layer-minmax"`` brings each vector to [0, 1] layer by layer before it enters the expression,
            ``"layer-sum"`` divides it by its sum of absolute values.

    Raises:
        ExpressionError: the expression cannot be read, names something unknown, or divides by zero.
        LayerError: there is no such layer.
        SettingsError: there is no such normalisation, or no kernels to score.
    """
    if normalise not in NORMALISATIONS:
        raise SettingsError(f"A normalisation is one of {', '.join(NORMALISATIONS)}; got {normalise!r}.")
    parsed = parse(expression) if isinstance(expression, str) else expression
    chosen = _chosen(source, layers)
    scale, cut = NORMALISATIONS[normalise], source.spans.kernels_of if kernels else source.spans.filters_of

    def values(name: str) -> Array:
        flat = np.array(source.values(name, kernels=kernels), np.float64)
        for part in cut(flat).values():
            part[...] = scale(part)
        return flat

    scores = cut(np.maximum(parsed.evaluate(values), 0.0))
    kept = ("target", "criterion", "reduce")
    return QueryResult(
        parsed.text,
        "kernels" if kernels else "filters",
        {**{key: source.settings[key] for key in kept}, "normalise": normalise},
        {name: scores[name] for name in chosen},
        {layer.name: layer for layer in source.layers},
        source.sources,
    )


def _chosen(source: Source, layers: Sequence[str] | None) -> list[str]:
    known = {layer.name: layer for layer in source.spans.layers}
    if layers is None:
        return list(known)
    wanted = {find_layer(known, text).name for text in layers}  # type: ignore[arg-type]
    if not wanted:
        raise SettingsError("Wanted the names of some layers, but there are none. Leave the option out for all.")
    return [name for name in known if name in wanted]


def _largest(flat: Array, count: int) -> Array:
    """Return the places of the largest values in order, the first of equal ones first."""
    if count < flat.size // 4:
        edge = np.partition(flat, flat.size - count)[flat.size - count] if count else np.inf
        candidates = np.flatnonzero(flat >= edge)
        return candidates[np.argsort(-flat[candidates], kind="stable")][:count]
    return np.argsort(-flat, kind="stable")[:count]


def _joined(units: Sequence[Filter], form: Callable[[Filter], str]) -> str:
    shown = [form(unit) for unit in units[:_MOST_SOURCES]]
    more = [f"{len(units) - _MOST_SOURCES} more"] if len(units) > _MOST_SOURCES else []
    return " + ".join([*shown, *more]) or "nothing"


def _spread(values: Array) -> Array:
    lowest, highest = values.min(), values.max()
    return (values - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(values)


def _share(values: Array) -> Array:
    total = np.abs(values).sum()
    return values / total if total > 0 else values


NORMALISATIONS: dict[str, Callable[[Array], Array]] = {
    "none": lambda values: values,
    "layer-minmax": _spread,
    "layer-sum": _share,
}
"""What brings the values of a layer to one scale, by name."""
