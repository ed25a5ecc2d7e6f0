"""Criteria: how much a filter or a kernel matters for a target.

Notation: ``z_o`` is the map of filter o before its activation, ``a_oi`` the map of its kernel from channel i, ``g`` the
gradient of the target of one image at either map, ``w_oi`` the kernel's weights, ``dt/dw`` the gradient of the images'
mean target at the weights, H its second derivative. Means of maps are over images and positions.

==================== ================================================= ===========================================
criterion            kernel                                            filter
==================== ================================================= ===========================================
activation           mean ``|a_oi|``                                   mean ``|z_o|``
gradient             mean ``|g|``, the same for all kernels of o       mean ``|g|``
activation_gradient  mean ``|a_oi g|`` (Eq. 4 of the VISCNN paper)     mean ``|z_o g|``
weight               mean ``|w_oi|``                                   mean over the filter
snip                 sum ``|w_oi dt/dw_oi|`` (Lee et al. 2019)         sum over the filter
force                SNIP, 10 times over on what is left (de Jorge     sum over the filter
                     et al. 2021)
grasp                sum ``|w_oi (H dt/dw)_oi|`` (Wang et al. 2020)    sum over the filter
magnitude            Euclidean length of ``w_oi``                      of the filter
random               uniform                                           uniform
==================== ================================================= ===========================================

The signed form leaves the absolute value out: opposite signs cancel.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from neurochains.circuits.kernels import absolute_sums, signed_sums, weight_gradient
from neurochains.circuits.probe import Opened, Probe
from neurochains.data import Task
from neurochains.errors import SettingsError, did_you_mean

__all__ = ["CRITERIA", "Criterion", "Question", "Reduce", "Values", "find_criterion"]

Reduce = Literal["abs", "signed"]
ByLayer = dict[str, Tensor]
Sums = Callable[[Opened, Tensor, Tensor], tuple[Tensor, Tensor]]
Slopes = Callable[[Tensor, list[Opened]], list[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Values:
    """By layer name: ``filters`` ``(O,)`` and ``kernels`` ``(O, I)``, float64 on the CPU."""

    filters: ByLayer = field(default_factory=dict)
    kernels: ByLayer = field(default_factory=dict)

    def add(self, name: str, filters: Tensor, kernels: Tensor) -> None:
        """Add the values of one layer to what is there."""
        for place, values in ((self.filters, filters), (self.kernels, kernels)):
            values = values.detach().cpu().double()
            place[name] = place[name] + values if name in place else values


@dataclass(frozen=True)
class Question:
    """What is asked: of which layers, on which images, with or without the absolute value."""

    probe: Probe
    task: Task
    reduce: Reduce
    batch_size: int | None = None

    def sized(self, values: Tensor) -> Tensor:
        """Return values or their absolute values."""
        return values.abs() if self.reduce == "abs" else values


@dataclass(frozen=True)
class Criterion:
    """One way of measuring importance.

    Attributes:
        name: in the registry.
        words: what it measures, for lists.
        measure: gives the values of a question.
        signed: whether it has a signed form.
    """

    name: str
    words: str
    measure: Callable[..., Values]
    signed: bool = True

    def having(self, **options: Any) -> Criterion:
        """Return the criterion with options of its own: ``CRITERIA["force"].having(keep=0.05)``.

        Raises:
            SettingsError: it has no such option.
        """
        parameters = inspect.signature(self.measure).parameters.values()
        known = [found.name for found in parameters if found.kind is found.KEYWORD_ONLY]
        for name in options:
            if name not in known:
                listing = f"it has {', '.join(known)}" if known else "it has none"
                raise SettingsError(f"The criterion {self.name} has no option {name!r}; {listing}.")
        return replace(self, measure=partial(self.measure, **options))


CRITERIA: dict[str, Criterion] = {}


def _criterion(words: str, *, signed: bool = True) -> Callable[[Callable[..., Values]], Callable[..., Values]]:
    """Register a function as the criterion of its own name."""

    def register(measure: Callable[..., Values]) -> Callable[..., Values]:
        CRITERIA[measure.__name__] = Criterion(measure.__name__, words, measure, signed)
        return measure

    return register


def find_criterion(name: str | Criterion, reduce: str) -> Criterion:
    """Return a criterion by its name; one that was made is returned as it is.

    Raises:
        SettingsError: there is no such criterion or form of it.
    """
    if reduce not in ("abs", "signed"):
        raise SettingsError(f"Wanted reduce='abs' or 'signed'; got {reduce!r}.")
    if not isinstance(name, Criterion) and name not in CRITERIA:
        near = did_you_mean(str(name), CRITERIA) or f"There are {', '.join(CRITERIA)}."
        raise SettingsError(f"There is no criterion {name!r}. {near}")
    found = name if isinstance(name, Criterion) else CRITERIA[name]
    if reduce == "signed" and not found.signed:
        raise SettingsError(f"The criterion {found.name} has no signed form. Leave reduce='abs'.")
    return found


# --- on maps ----------------------------------------------------------------------------------------------------------


@_criterion("how large the map is: mean |a|")
def activation(question: Question) -> Values:
    """Return the means of the maps' absolute values."""
    return _means(question, partial(_weighted, question), slopes=partial(_ones, question))


@_criterion("how strongly the target answers to the map: mean |dt/da|")
def gradient(question: Question) -> Values:
    """Return the means of the gradients' absolute values; those of the kernels of one filter are equal."""

    def sums(opened: Opened, output_slope: Tensor, map_slope: Tensor) -> tuple[Tensor, Tensor]:
        by_filter, by_kernel = (_per_unit(question.sized(slope), opened) for slope in (map_slope, output_slope))
        return by_filter, by_kernel[:, None].expand(opened.weight.shape[:2])

    return _means(question, sums, slopes=question.probe.slopes)


@_criterion("both: mean |a dt/da|, to first order what the target loses without the map")
def activation_gradient(question: Question) -> Values:
    """Return the means of map times gradient (Eq. 4)."""
    return _means(question, partial(_weighted, question), slopes=question.probe.slopes)


def _means(question: Question, sums: Sums, *, slopes: Slopes) -> Values:
    """Return sums over maps, weighted with slopes, divided by the number of images and positions."""
    found, probe = Values(), question.probe
    for images, labels in probe.batches(question.task, question.batch_size):
        values, opened = probe.run(images, labels)
        weightings = slopes(values, opened)
        del values
        while opened:  # what was dealt with makes room
            layer = opened.pop()
            positions = layer.map.numel() / layer.layer.units / len(images)
            by_filter, by_kernel = sums(layer, *weightings.pop())
            found.add(layer.layer.name, by_filter / positions, by_kernel / positions)
    return _divided(found, len(question.task))


def _divided(values: Values, count: int) -> Values:
    return Values(*({name: value / count for name, value in part.items()} for part in (values.filters, values.kernels)))


def _ones(question: Question, values: Tensor, opened: list[Opened]) -> list[tuple[Tensor, Tensor]]:
    """Return a weighting of 1 for all positions; in the target's own layer 0 for the filters that are not asked for."""
    found = []
    for layer in opened:
        read = question.probe.target.reads(layer.layer)
        ones = torch.ones_like(layer.output, requires_grad=False)
        if read is not None:
            ones = (ones.movedim(layer.layer.axis, -1) * read.to(ones)).movedim(-1, layer.layer.axis)
        found.append((ones, ones.to(values.dtype)))
    return found


def _weighted(question: Question, opened: Opened, output_slope: Tensor, map_slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``sum z_o g`` and ``sum a_oi g``, of absolute values or not."""
    by_filter = _per_unit(question.sized(opened.map.detach() * map_slope), opened)
    kernel_sums = absolute_sums if question.reduce == "abs" else signed_sums
    return by_filter, kernel_sums(opened.layer, opened.weight, opened.input, output_slope)


def _per_unit(values: Tensor, opened: Opened) -> Tensor:
    return values.movedim(opened.layer.axis, 0).flatten(1).sum(1)


# --- on weights -------------------------------------------------------------------------------------------------------


@_criterion("how large the weights are: mean |w|")
def weight(question: Question) -> Values:
    """Return the means of the weights' absolute values."""
    found = Values()
    for name, values in question.probe.weights().items():
        by_kernel = question.sized(values.double()).reshape(*values.shape[:2], -1).mean(-1)
        found.add(name, by_kernel.mean(1), by_kernel)
    return found


@_criterion("the Euclidean length of the weights", signed=False)
def magnitude(question: Question) -> Values:
    """Return the lengths of the kernels and filters."""
    found = Values()
    for name, values in question.probe.weights().items():
        by_kernel = values.double().reshape(*values.shape[:2], -1).norm(dim=-1)
        found.add(name, by_kernel.norm(dim=1), by_kernel)
    return found


@_criterion("nothing at all: uniform in [0, 1)", signed=False)
def random(question: Question, *, seed: int = 0) -> Values:
    """Return random numbers that depend on the seed, and on each layer's place in the network."""
    found = Values()
    for layer, (name, values) in zip(question.probe.layers, question.probe.weights().items()):
        generator = torch.Generator().manual_seed(seed * 100_003 + layer.index)
        drawn = torch.rand(len(values), 1 + values.shape[1], dtype=torch.float64, generator=generator)
        found.add(name, drawn[:, 0], drawn[:, 1:])
    return found


@_criterion("what the target loses to first order without each weight: sum |w dt/dw|")
def snip(question: Question) -> Values:
    """Return SNIP's connection sensitivities, summed over kernels and filters."""
    return _sensitivity(question, {})


@_criterion("SNIP over and over on what is left of the kernels", signed=False)
def force(question: Question, *, keep: float = 0.1, rounds: int = 10) -> Values:
    """Return FORCE's sensitivities after the last round; kernels that were left out may return in each round.

    Args:
        question: what is asked.
        keep: the fraction of the kernels that the last round ends at.
        rounds: how many; the kernels kept shrink exponentially.

    Raises:
        SettingsError: a value is out of range, or no path to the target is left.
    """
    if not 0 < keep <= 1 or rounds < 1:
        raise SettingsError(f"FORCE keeps a fraction above 0, at most 1, in 1 round or more; got {keep}, {rounds}.")
    found, masked = _sensitivity(question, {}), {}
    total = sum(values.numel() for values in found.kernels.values())
    for step in range(1, rounds):
        share = step / rounds
        kept = math.exp(share * math.log(max(1.0, keep * total)) + (1 - share) * math.log(total))
        masked = _masked(question.probe.weights(), found.kernels, round(kept))
        found = _sensitivity(question, masked)
        if not any(bool(values.any()) for values in found.kernels.values()):
            raise SettingsError(f"FORCE lost every path to the target at {round(kept)} of {total} kernels: keep more.")
    return found


@_criterion("how much the gradients would lose without each weight: sum |w (H dt/dw)|")
def grasp(question: Question) -> Values:
    """Return GraSP's scores, larger where a weight matters more for the flow of gradients."""
    slopes = {name: torch.zeros_like(values) for name, values in question.probe.weights().items()}
    products = {name: torch.zeros_like(values) for name, values in slopes.items()}
    for found in _weight_slopes(question, create_graph=False):
        for name, (_, slope) in found.items():
            slopes[name] += slope
    for found in _weight_slopes(question, create_graph=True):
        agreement = torch.stack([(slope * slopes[name]).sum() for name, (_, slope) in found.items()]).sum()
        second = _gradients(agreement, [leaf for leaf, _ in found.values()])
        for name, value in zip(found, second, strict=True):
            products[name] += value
    count = len(question.task) ** 2
    return _summed(question, {name: value.double() / count for name, value in products.items()})


def _sensitivity(question: Question, masked: Mapping[str, Tensor]) -> Values:
    """Return ``sum |w dt/dw|`` with gradients of the network whose weights are masked."""
    probe, totals = question.probe, ByLayer()
    for images, labels in probe.batches(question.task, question.batch_size):
        values, opened = probe.run(images, labels, masked)
        slopes = probe.slopes(values, opened)
        for layer, (slope, _) in zip(opened, slopes):
            found = weight_gradient(layer.layer, layer.weight, layer.input.detach(), slope).double()
            name = layer.layer.name
            totals[name] = totals[name] + found if name in totals else found
    return _summed(question, {name: value / len(question.task) for name, value in totals.items()})


def _summed(question: Question, slopes: Mapping[str, Tensor]) -> Values:
    """Return weights times slopes, summed over kernels and filters."""
    found = Values()
    for name, values in question.probe.weights().items():
        products = question.sized(values.double() * slopes[name])
        by_kernel = products.reshape(*values.shape[:2], -1).sum(-1)
        found.add(name, by_kernel.sum(1), by_kernel)
    return found


def _masked(weights: Mapping[str, Tensor], kernels: Mapping[str, Tensor], kept: int) -> ByLayer:
    """Return the weights with all but the `kept` kernels of highest value set to 0."""
    ranked = torch.cat([values.flatten() for values in kernels.values()])
    mask = torch.zeros_like(ranked)
    mask[ranked.topk(kept).indices] = 1.0
    parts = mask.split([values.numel() for values in kernels.values()])
    result = {}
    for (name, values), part in zip(weights.items(), parts):
        shape = (*values.shape[:2], *[1] * (values.ndim - 2))
        result[name] = values * part.view(shape).to(values)
    return result


def _weight_slopes(question: Question, *, create_graph: bool) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """Yield, batch by batch, the weights as leaves and the gradients of the summed target at them."""
    probe = question.probe
    for images, labels in probe.batches(question.task, question.batch_size):
        leaves = {name: values.detach().clone().requires_grad_() for name, values in probe.weights().items()}
        values, _ = probe.run(images, labels, leaves)
        slopes = _gradients(values.sum(), list(leaves.values()), create_graph=create_graph)
        yield {name: (leaf, slope) for (name, leaf), slope in zip(leaves.items(), slopes)}


def _gradients(value: Tensor, leaves: list[Tensor], *, create_graph: bool = False) -> tuple[Tensor, ...]:
    if not value.requires_grad:  # a target that is linear in all weights has no second derivative
        return tuple(map(torch.zeros_like, leaves))
    return torch.autograd.grad(value, leaves, create_graph=create_graph, allow_unused=True, materialize_grads=True)
