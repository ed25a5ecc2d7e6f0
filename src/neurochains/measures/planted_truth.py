"""The truth about a planted network: its circuit, what counts as the same, and the proof that nothing smaller will do.

**What is true.** Parts with the same map up to a factor are *alike*: since scores are not bounded above, one of them
can stand for all. So a truth is a set of groups of alike filters, and a sub-network is right if it has exactly one
filter of each group and nothing else. `Truth.filters` names one of each.

**Why nothing smaller will do.** Each shape has a logit that reads its own filter of the last layer alone, and that
reads the filters of its circuit. For each group there are pairs of images, its witnesses, that differ in one glyph: one
shows a shape, the other counts as nothing, and of all maps of the group's layer that the shape's circuit reads only the
group's differ. So without the group the difference of the two logits, of the shape and of nothing, is the same for both
images, whatever the scores. Let S be these two outputs. With p, p' of the original and q, q' of the sub-network, all
restricted to S, q = q', and by the chain rule of KL

    KL(image) + KL(other image)  >=  p(S) KL(p_S || q_S) + p'(S) KL(p'_S || q_S)  >=  2 min(p(S), p'(S)) JSD(p_S, p'_S)

for each pair. The mean KL over the N images is at least the sum over the group's witnesses, divided by N; `least_kl` is
the smallest such bound. So at any fidelity below it every sub-network holds a filter of each group; and one of each is
enough, for without noise the rest adds nothing on the task's images (trained filters add less than .005). With noise on
the weights neither holds exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from neurochains.network.layers import Filter

__all__ = ["Recovery", "Truth", "average_precision", "least_divergence"]

Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Recovery:
    """How well a set of filters recovers a truth.

    A group counts as found once; further filters of it count as wrong, like any decoy.
    """

    precision: float
    recall: float
    exact: bool
    found: int
    wanted: int

    def to_json(self) -> dict[str, Any]:
        """Return the numbers."""
        return asdict(self)


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """The true circuit of a planted network for its task; filters are (dotted layer, index).

    Attributes:
        filters: one of each group: a smallest sub-network.
        alike: the groups of filters that can stand for each other.
        by_class: the filters that each class of the task is computed by, copies included.
        names: what each filter of a circuit stands for, such as ``"bar-post"``.
        witnesses: for each group, in order, pairs of images that only it tells apart.
        least_kl: below this mean KL no sub-network lacks a group; without noise.
    """

    filters: frozenset[Place]
    alike: tuple[frozenset[Place], ...]
    by_class: Mapping[str, frozenset[Place]]
    names: Mapping[Place, str]
    witnesses: tuple[tuple[tuple[int, int], ...], ...]
    least_kl: float

    def recovery(self, found: Iterable[Filter | Place]) -> Recovery:
        """Return how well some filters recover the truth."""
        places = {_place(unit) for unit in found}
        hit = sum(bool(group & places) for group in self.alike)
        wanted = len(self.alike)
        precision = hit / len(places) if places else 0.0
        return Recovery(precision, hit / wanted, hit == wanted == len(places), len(places), wanted)

    def first(self, ranking: Sequence[Filter | Place]) -> Recovery:
        """Return how well the best of a ranking recover the truth: as many as it has groups."""
        return self.recovery(ranking[: len(self.alike)])


def average_precision(truth: Truth, ranking: Sequence[Filter | Place]) -> float:
    """Return the mean, over the groups, of the precision where each is first met in a ranking; 0 for one never met."""
    met: set[int] = set()
    total = 0.0
    for rank, unit in enumerate(ranking, 1):
        fresh = {number for number, group in enumerate(truth.alike) if _place(unit) in group} - met
        met |= fresh
        total += len(met) / rank * len(fresh)
    return total / len(truth.alike)


def least_divergence(outputs: Tensor, labels: Tensor, witnesses: Sequence[Sequence[tuple[int, int]]]) -> float:
    """Return the mean KL that every sub-network without one of the groups exceeds.

    Args:
        outputs: ``(N, K)``, the original's logits on the task's images.
        labels: ``(N,)``; those of a pair are the two outputs that its bound is restricted to.
        witnesses: for each group, pairs of images; of pairs that share an image only the first counts.
    """
    p = outputs.double().softmax(-1)
    return min(sum(_bound(p, labels, pair) for pair in _disjoint(pairs)) / len(p) for pairs in witnesses)


def _bound(p: Tensor, labels: Tensor, pair: tuple[int, int]) -> float:
    """Return the least sum of the KL of both images of a pair."""
    both = p[list(pair)][:, labels[list(pair)]]
    share = both.sum(1, keepdim=True)
    return 2 * float(share.min()) * _divergence(*(both / share))


def _divergence(p: Tensor, other: Tensor) -> float:
    """Return the Jensen-Shannon divergence of two distributions ``(K,)`` in nats."""
    middle = (p + other) / 2
    return 0.5 * float((p * (p / middle).log()).sum() + (other * (other / middle).log()).sum())


def _disjoint(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    seen: set[int] = set()
    chosen = []
    for pair in pairs:
        if not seen & set(pair):
            chosen.append(pair)
            seen |= set(pair)
    return chosen


def _place(unit: Filter | Place) -> Place:
    return (unit.layer, unit.index) if isinstance(unit, Filter) else (unit[0], int(unit[1]))
