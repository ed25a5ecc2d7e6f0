"""Whether binary codes fall into groups: a Hopkins statistic for bits, and its test against bits without groups.

1. Null points: each bit is drawn on its own, on as often as it is among the codes.
2. Of the codes a tenth is drawn, m of them, at least 10. ``u`` is the Hamming distance of a null point to the nearest
   code, ``w`` that of a drawn code to the nearest other one; m of each.
3. ``H = sum u / (sum u + sum w)``, .5 if both sums are 0; the mean over 20 draws. It is .5 without groups.
4. The test: whole sets of null points are measured alike, and p is the share of sets that reach H. It stops as soon as
   p can no more be significant (Besag and Clifford 1991).

Hopkins and Skellam's (1954) statistic has distances to the power of their dimension, which for bits says 0 or
overflows, and a box as its null, for which even coins seem grouped; hence this form.

Shapes: N codes, C bits, D draws, m points of a draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neurochains.decoupling.paths import hamming
from neurochains.errors import DataError, SettingsError

__all__ = ["Clusterability", "clusterability", "hopkins", "two_groups"]

LEAST, ALPHA = 0.55, 0.01
_DRAWS, _SETS = 20, 199
_SHARE, _FEWEST, _MOST = 0.1, 10, 500


@dataclass(frozen=True, slots=True)
class Clusterability:
    """The outcome of the test.

    Attributes:
        statistic: H, in [0, 1]; .5 without groups.
        p: the share of sets without groups that reach it.
        sets: how many such sets were drawn.
    """

    statistic: float
    p: float
    sets: int

    def holds(self, *, least: float = LEAST, alpha: float = ALPHA) -> bool:
        """Return whether the codes fall into groups: ``p < alpha`` and ``H >= least``."""
        return self.p < alpha and self.statistic >= least


def hopkins(codes: Tensor, *, draws: int = _DRAWS, seed: int = 0) -> float:
    """Return the statistic H of binary codes ``(N, C)``: .5 without groups, towards 1 with them.

    Bits that are alike in all codes do not matter. Of more than 500 codes, 500 are drawn.

    Raises:
        DataError: there are fewer than two codes.
        SettingsError: there is no draw.
    """
    _check(codes, draws)
    generator = torch.Generator().manual_seed(seed)
    return _statistic(_drawn(codes, generator), draws, generator)


def clusterability(
    codes: Tensor, *, alpha: float = ALPHA, draws: int = _DRAWS, sets: int = _SETS, seed: int = 0
) -> Clusterability:
    """Return whether codes ``(N, C)`` fall into groups more than bits that are drawn one by one; see the module.

    Args:
        codes: binary.
        alpha: the level at which p shall be told exactly; beyond it, the test stops early.
        draws: over which H is the mean.
        sets: of null points, at most; p is at least ``1 / (sets + 1)``.
        seed: of all draws.

    Raises:
        DataError: there are fewer than two codes.
        SettingsError: there is no draw, or so few sets that p cannot come below `alpha`.
    """
    _check(codes, draws)
    if not 0 < alpha < 1 or 1 / (sets + 1) >= alpha:
        raise SettingsError(
            f"p is at least 1 / (sets + 1), so with sets={sets} it never comes below alpha={alpha}; "
            "take more sets, or a larger alpha below 1."
        )
    generator = torch.Generator().manual_seed(seed)
    points = _drawn(codes, generator)
    found = _statistic(points, draws, generator)
    if points.shape[1] == 0:
        return Clusterability(found, 1.0, 0)
    reached = 0
    for number in range(1, sets + 1):
        null = _null(points, len(points), generator)
        reached += _statistic(null[:, _varies(null)], draws, generator) >= found
        if (reached + 1) / (sets + 1) >= alpha:
            return Clusterability(found, (reached + 1) / (number + 1), number)
    return Clusterability(found, (reached + 1) / (sets + 1), sets)


def two_groups(codes: Tensor, *, seed: int = 0) -> Tensor:
    """Return the group 0 or 1 of each code ``(N,)``, by k-means on the bits; group 0 holds the first code.

    Raises:
        DataError: fewer than two codes differ.
        SettingsError: scikit-learn is not installed.
    """
    varying = codes[:, _varies(codes)]
    if len(codes) < 2 or not varying.shape[1]:
        raise DataError(f"Wanted at least two codes that differ; got {tuple(codes.shape)}, all alike.")
    try:
        from sklearn.cluster import KMeans  # an optional library, and a slow one to import
    except ImportError as error:
        raise SettingsError(
            "Groups need scikit-learn, which is not installed. Install it with: pip install 'neurochains[decouple]'"
        ) from error
    means = KMeans(2, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType] - its default is a word
    found = means.fit(varying.double().numpy()).labels_
    groups = torch.from_numpy(found).long()
    return groups ^ groups[0]


def _check(codes: Tensor, draws: int) -> None:
    if codes.ndim != 2 or len(codes) < 2:
        raise DataError(f"Wanted at least two codes (N, C); got {tuple(codes.shape)}.")
    if draws < 1:
        raise SettingsError(f"Wanted at least one draw; got {draws}.")


def _drawn(codes: Tensor, generator: torch.Generator) -> Tensor:
    """Return at most 500 of the codes, without the bits that are alike in all of these."""
    chosen = torch.randperm(len(codes), generator=generator)[:_MOST]
    points = codes[chosen.sort().values].bool()
    return points[:, _varies(points)]


def _varies(codes: Tensor) -> Tensor:
    return (codes != codes[:1]).any(0)


def _null(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return ``(count, C)``: each bit on as often as among the points."""
    return torch.rand(count, points.shape[1], generator=generator) < points.float().mean(0)


def _statistic(points_NC: Tensor, draws: int, generator: torch.Generator) -> float:
    count = len(points_NC)
    sample = min(count, max(_FEWEST, round(_SHARE * count)))
    places_Dm = torch.stack([torch.randperm(count, generator=generator)[:sample] for _ in range(draws)])
    to_codes_NN = hamming(points_NC, points_NC).fill_diagonal_(torch.inf)
    within_Dm = to_codes_NN.min(1).values[places_Dm]
    null = _null(points_NC, draws * sample, generator)
    across_Dm = hamming(null, points_NC).min(1).values.view(draws, sample)
    total_D = across_Dm.sum(1) + within_Dm.sum(1)
    return float(torch.where(total_D > 0, across_Dm.sum(1) / total_D, 0.5).mean())
