"""Semantic concepts: which filters switch off when a part of the image is hidden (Li et al. 2020, supplement A.2).

1. Each part is hidden in each image in turn, by black. As a control, an equally shaped place elsewhere is hidden: the
   mask, shifted round to where it covers least of the part, of some random shifts.
2. On one half of the images: a filter answers to a part if, where it was on, hiding the part switches it off more often
   than hiding the other place, by the sign test over images that differ; at a false discovery rate of 5 % over all
   filters and parts (Benjamini and Hochberg 1995).
3. On the other half: all hidden places, parts and controls, are shown again. "The filter goes off" says "its part is
   hidden"; whether at least half of the part is, the masks know. That makes precision and recall, beside the precision
   of chance: the share of places that hide the part.

Shapes: N images, P parts, Q = 2 P hidden places, F filters of all controlled layers, H x W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurochains.decoupling.decoupled import Decoupled
from neurochains.decoupling.hiding import black, hidden_places, hide, read_parts
from neurochains.errors import DataError, SettingsError

__all__ = ["Concepts", "FilterConcept", "find_concepts"]

Masks = Tensor | NDArray[np.bool_] | NDArray[np.integer]
_FALSE = 0.05


@dataclass(frozen=True, slots=True)
class FilterConcept:
    """The part that one filter answers to.

    Attributes:
        layer, filter: which.
        part: that it tells best, by F1 on the first half of the images.
        parts: all that it answers to.
        off: how often hiding the part switches it off, where it was on.
        control: how often hiding an equal place elsewhere does.
        precision, recall: on the other half of the images; NaN where the filter is never on or never goes off there.
        chance: the precision of chance.
    """

    layer: str
    filter: int
    part: str
    parts: tuple[str, ...]
    off: float
    control: float
    precision: float
    recall: float
    chance: float


@dataclass(frozen=True, slots=True, eq=False)
class Concepts:
    """What filters answer to.

    Attributes:
        parts: their names.
        filters: by layer, the number of its filters; their order is that of F.
        off: ``(P, F)``, the share of images with the part, and the filter on, for which hiding it switches it off.
        control: ``(P, F)``, the same for the equal place elsewhere.
        found: the filters that answer to a part, by layer.
        images: N.
    """

    parts: tuple[str, ...]
    filters: dict[str, int]
    off: Tensor
    control: Tensor
    found: tuple[FilterConcept, ...]
    images: int

    def of_part(self, part: str) -> list[FilterConcept]:
        """Return the filters that tell one part best, those of the highest F1 first."""
        return sorted((row for row in self.found if row.part == part), key=lambda row: -_f1(row.precision, row.recall))

    def summary(self) -> list[dict[str, Any]]:
        """Return for each part the number of its filters and the median of their precision, recall and chance."""
        rows = []
        for part in self.parts:
            mine = self.of_part(part)
            row: dict[str, Any] = {"part": part, "filters": len(mine)}
            for name in ("precision", "recall", "chance"):
                values = [value for value in (getattr(one, name) for one in mine) if not math.isnan(value)]
                row[name] = float(np.median(values)) if values else math.nan
            rows.append(row)
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return the filters found and the summary as JSON values."""
        found = [asdict(row) for row in self.found]
        return {"images": self.images, "parts": list(self.parts), "summary": self.summary(), "found": found}


def find_concepts(
    decoupled: Decoupled,
    images: Tensor,
    parts: Mapping[str, Masks],
    *,
    fill: float | Sequence[float] | None = None,
    false_discoveries: float = _FALSE,
    seed: int = 0,
    batch: int = 64,
) -> Concepts:
    """Return which filters switch off for which part of the images.

    Args:
        decoupled: the network.
        images: ``(N, C, H, W)`` as the network takes them, some dozens at least.
        parts: by name, masks ``(N, H, W)``, boxes ``(N, 4)`` or one box for all ``(4,)``: top, left, bottom, right in
            pixels, the last two not included. An image may lack a part.
        fill: what hides, one number or one for each channel, as the network takes them; by default black, or, where it
            is not known how images are prepared, the smallest value of each channel.
        false_discoveries: the share of false ones among the filters found that is allowed.
        seed: of the halves and of the places elsewhere.
        batch: how many images are computed at once.

    Raises:
        DataError: there are fewer than four images, no part, or masks of another shape.
        SettingsError: the share is not between 0 and 1, or `fill` does not fit.
    """
    if not 0 < false_discoveries < 1:
        raise SettingsError(f"false_discoveries is a share between 0 and 1; got {false_discoveries}.")
    masks_PNHW = read_parts(parts, images)
    if len(images) < 4:
        raise DataError(f"Wanted at least 4 images, half to find on and half to check on; got {len(images)}.")
    places_QNHW = torch.cat([masks_PNHW, hidden_places(masks_PNHW, seed=seed)])
    colour = black(images, decoupled, fill)
    on_NF = _path(decoupled, images, batch)
    shown = (_path(decoupled, hide(images, place_NHW, colour), batch) for place_NHW in places_QNHW)
    off_QNF = torch.stack([on_NF & ~path_NF for path_NF in shown])
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    first, second = (_Half(on_NF[half], off_QNF[:, half], masks_PNHW[:, half], places_QNHW[:, half]) for half in halves)
    found = _found(tuple(parts), decoupled.filters, first, second, false_discoveries)
    return Concepts(tuple(parts), decoupled.filters, first.off(), first.control(), found, len(images))


@dataclass(frozen=True, slots=True, eq=False)
class _Half:
    """Half of the images: `on` (N, F), `switched` off (Q, N, F), `masks` (P, N, H, W), `places` (Q, N, H, W)."""

    on: Tensor
    switched: Tensor
    masks: Tensor
    places: Tensor

    def eligible(self) -> Tensor:
        """Return ``(P, F)``: the images that have the part and that the filter was on for."""
        return self._visible() @ self.on.double()

    def off(self) -> Tensor:
        """Return ``(P, F)``: the share of these for which hiding the part switches the filter off."""
        return self._sum(self.switched[: len(self.masks)]) / self.eligible()

    def control(self) -> Tensor:
        """Return ``(P, F)``: the same for the place elsewhere."""
        return self._sum(self.switched[len(self.masks) :]) / self.eligible()

    def p_values(self) -> Tensor:
        """Return ``(P, F)``: of the sign test that the part switches off more often than the place elsewhere."""
        part, other = self.switched.chunk(2)
        more, fewer = self._sum(part & ~other), self._sum(other & ~part)
        pairs = zip(more.flatten().tolist(), fewer.flatten().tolist(), strict=True)
        return torch.tensor([_sign_test(int(a), int(b)) for a, b in pairs]).view(more.shape)

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return precision, recall and the precision of chance of each filter for each part, ``(P, F)`` each."""
        truth_QPN = self._truth() * self._visible()
        hits = torch.einsum("qpn,qnf->pf", truth_QPN, self.switched.double())
        said = torch.einsum("pn,qnf->pf", self._visible(), self.switched.double())
        hidden = torch.einsum("qpn,nf->pf", truth_QPN, self.on.double())
        return hits / said, hits / hidden, hidden / (len(self.places) * self.eligible())

    def _visible(self) -> Tensor:
        return self.masks.flatten(2).any(2).double()

    def _sum(self, off_PNF: Tensor) -> Tensor:
        return torch.einsum("pn,pnf->pf", self._visible(), off_PNF.double())

    def _truth(self) -> Tensor:
        """Return ``(Q, P, N)``: 1 where a place hides at least half of a part."""
        masks_PNL, places_QNL = self.masks.flatten(2).float(), self.places.flatten(2).float()
        covered_QPN = torch.einsum("qnl,pnl->qpn", places_QNL, masks_PNL)
        return (2 * covered_QPN >= masks_PNL.sum(2)).double()


def _path(decoupled: Decoupled, images: Tensor, batch: int) -> Tensor:
    return torch.cat(list(decoupled.codes(images, batch=batch).values()), 1)


def _found(
    parts: tuple[str, ...], filters: Mapping[str, int], first: _Half, second: _Half, rate: float
) -> tuple[FilterConcept, ...]:
    """Return the filters that answer to a part, with what the second half of the images says of them."""
    answers_PF = _discoveries(first.p_values(), rate)
    off, control = first.off(), first.control()
    precision, recall, _ = first.scores()
    f1 = (2 * precision * recall / (precision + recall)).nan_to_num(0).masked_fill(~answers_PF, -1)
    checked = second.scores()
    names = [(layer, index) for layer, count in filters.items() for index in range(count)]
    found = []
    for place in answers_PF.any(0).nonzero().flatten().tolist():
        best = int(f1[:, place].argmax())
        numbers = [float(table[best, place]) for table in (off, control, *checked)]
        all_parts = tuple(part for part, yes in zip(parts, answers_PF[:, place].tolist(), strict=True) if yes)
        found.append(FilterConcept(*names[place], parts[best], all_parts, *numbers))  # pyright: ignore[reportCallIssue]
    return tuple(found)


def _discoveries(p_values: Tensor, rate: float) -> Tensor:
    """Return which p-values are discoveries at a false discovery rate."""
    ordered = p_values.flatten().sort().values
    passed = (ordered <= rate * torch.arange(1, len(ordered) + 1) / len(ordered)).nonzero()
    limit = ordered[passed[-1, 0]] if len(passed) else torch.tensor(-1.0)
    return p_values <= limit


def _sign_test(more: int, fewer: int) -> float:
    """Return the chance that, of ``more + fewer`` coins, at least ``more`` show heads."""
    total = more + fewer
    return sum(math.comb(total, heads) for heads in range(more, total + 1)) / 2**total


def _f1(precision: float, recall: float) -> float:
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0  # NaN is not > 0
