from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from neurochains.decoupling import clusterability, hopkins, two_groups
from neurochains.errors import DataError, SettingsError


def coins(count: int, bits: int, seed: int = 0) -> Tensor:
    """Bits without groups, each with a frequency of its own."""
    dice = torch.Generator().manual_seed(seed)
    return torch.rand(count, bits, generator=dice) < torch.rand(bits, generator=dice)


def grouped(count: int, bits: int, flips: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two prototypes in turn, with some bits flipped, and which of them each is."""
    dice = torch.Generator().manual_seed(seed)
    groups = torch.arange(count) % 2
    codes = (torch.rand(2, bits, generator=dice) < 0.5)[groups] ^ (torch.rand(count, bits, generator=dice) < flips)
    return codes, groups


def literal(codes: Tensor, draws: int) -> float:
    """The statistic by its definition, one point at a time."""
    dice = torch.Generator().manual_seed(7)
    rows = codes.int().tolist()
    share = codes.double().mean(0)

    def far(one: list[int], other: list[int]) -> int:
        return sum(a != b for a, b in zip(one, other, strict=True))

    found = []
    for _ in range(draws):
        sample = torch.randperm(len(rows), generator=dice)[: max(10, round(len(rows) / 10))].tolist()
        u = w = 0
        for place in sample:
            null = (torch.rand(codes.shape[1], generator=dice) < share).int().tolist()
            u += min(far(null, row) for row in rows)
            w += min(far(rows[place], row) for number, row in enumerate(rows) if number != place)
        found.append(u / (u + w) if u + w else 0.5)
    return sum(found) / draws


@pytest.mark.parametrize("flips", [0.05, 0.5])
def test_the_statistic_is_that_of_the_definition(flips):
    codes, _ = grouped(60, 24, flips)
    assert hopkins(codes, draws=60) == pytest.approx(literal(codes, 60), abs=0.02)


@pytest.mark.parametrize("bits", [16, 64, 512])
def test_bits_without_groups_are_at_one_half(bits):
    assert hopkins(torch.rand(200, bits, generator=torch.Generator().manual_seed(0)) < 0.5) == pytest.approx(
        0.5, abs=0.02
    )


def test_more_flips_hide_the_groups():
    found = [hopkins(grouped(200, 64, flips)[0]) for flips in (0.05, 0.1, 0.2, 0.3)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.75
    assert found[-1] < 0.55


def test_codes_that_are_all_alike_are_no_groups():
    same = torch.ones(30, 8, dtype=torch.bool)
    assert hopkins(same) == 0.5
    assert clusterability(same).p == 1.0
    assert not clusterability(same).holds()


def test_groups_are_found_and_noise_is_not():
    codes, groups = grouped(120, 32, 0.1)
    found = clusterability(codes)
    assert found.holds()
    assert found.p == 1 / 200
    assert bool((two_groups(codes) == groups).all())
    assert not clusterability(coins(120, 32)).holds()


def test_false_alarms_are_as_rare_as_promised():
    alarms = sum(
        clusterability(coins(60, 12, seed), alpha=0.1, sets=19, draws=4, seed=seed).p < 0.1 for seed in range(100)
    )
    limit = 0.1 * 100 + 3 * math.sqrt(100 * 0.1 * 0.9)
    assert alarms <= limit


def test_the_same_seed_gives_the_same_numbers():
    codes = coins(50, 10)
    assert hopkins(codes, seed=3) == hopkins(codes, seed=3) != hopkins(codes, seed=4)


def test_bad_input():
    with pytest.raises(DataError, match=r"at least two codes \(N, C\); got \(1, 4\)"):
        hopkins(torch.ones(1, 4, dtype=torch.bool))
    with pytest.raises(DataError, match="all alike"):
        two_groups(torch.ones(5, 4, dtype=torch.bool))
    with pytest.raises(SettingsError, match=r"with sets=50 it never comes below alpha=0\.01"):
        clusterability(coins(20, 4), sets=50)
    with pytest.raises(SettingsError, match="at least one draw; got 0"):
        hopkins(coins(20, 4), draws=0)
