"""Percentiles: buckets narrow enough, histograms in little memory, nothing lost when joined."""

import random
from array import array

import pytest

from sparts.percentiles import (
    BUDGET,
    LARGEST,
    SMALLEST,
    Counts,
    Percentiles,
    Tier,
    bucket_of,
    middle_of,
    pack,
    unpack,
)


def add(percentiles: Percentiles, *values: float) -> None:
    """Counts *values* in the tick under way."""
    percentiles.add(array("d", values), min(values), max(values))


def test_a_bucket_speaks_for_its_values_within_two_percent() -> None:
    """The middle of a value's bucket is within 1.5 % of the value, over the whole range."""
    chance = random.Random(1)
    for _ in range(20_000):
        value = chance.choice((1, -1)) * 10 ** chance.uniform(-9, 15)
        assert value == pytest.approx(middle_of(bucket_of(value)), rel=0.015)


def test_buckets_ascend_with_their_values() -> None:
    """A larger value never has a lower bucket, through zero and beyond both ends of the range."""
    sizes = [10**exponent for exponent in range(-12, 20)]
    values = sorted([*sizes, *(-size for size in sizes), 0.0])
    buckets = [bucket_of(value) for value in values]
    assert sorted(buckets) == buckets
    assert 0 == bucket_of(0.0) == bucket_of(SMALLEST / 2) == bucket_of(-SMALLEST / 2)
    assert bucket_of(LARGEST) == bucket_of(LARGEST * 1000)


@pytest.mark.parametrize("largest", [1, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32, 2**63])
@pytest.mark.parametrize("filled", [0.0, 0.1, 1.0])
def test_packing_gives_back_what_it_was_given(largest: int, filled: float) -> None:
    """Counts of any size, few or many of them, come out of a span as they went in."""
    chance = random.Random(2)
    counts = [chance.randint(1, largest) * (chance.random() < filled) for _ in range(300)]
    counts[17] = largest
    first, unpacked = unpack(pack(-150, counts))
    assert (-150, counts) == (first, list(unpacked))


def test_counts_outgrow_32_bits() -> None:
    """A bucket of more than four thousand million values is still counted exactly."""
    histogram = Counts()
    for _ in range(3):
        histogram.add(5, [2**31, 1])
    assert [3 * 2**31, 3] == list(histogram.row)


def test_nothing_to_tell() -> None:
    """Without any value, and after all have left, a percentile is None."""
    percentiles = Percentiles([5])
    assert percentiles.read(5, 500) is None
    add(percentiles, 1.0)
    percentiles.close(0)
    percentiles.expire(4)
    assert 1.0 == pytest.approx(percentiles.read(5, 500) or 0, rel=0.02)
    percentiles.expire(5)
    assert percentiles.read(5, 500) is None


def test_nearest_rank() -> None:
    """Of n values, it is that at rank ceil(n * p), to the very rank."""
    percentiles = Percentiles([5])
    add(percentiles, *(float(2**n) for n in range(20)))
    for permille, rank in [(1, 1), (50, 1), (51, 2), (500, 10), (501, 11), (950, 19), (999, 20)]:
        found = percentiles.read(5, permille)
        assert 2 ** (rank - 1) == pytest.approx(found or 0, rel=0.02), permille


def test_ages_are_apart() -> None:
    """Each age has the values of its own last ticks."""
    percentiles = Percentiles([2, 4])
    for tick in range(10):
        percentiles.expire(tick)
        add(percentiles, 10.0**tick)
        for age in (2, 4):
            oldest = max(0, tick - age + 1)
            assert 10.0**oldest == pytest.approx(percentiles.read(age, 1) or 0, rel=0.02)
            assert 10.0**tick == pytest.approx(percentiles.read(age, 999) or 0, rel=0.02)
        percentiles.close(tick)


def test_past_the_budget_ticks_are_joined_and_nothing_is_lost() -> None:
    """However diverse the values, memory is bounded, every value counts, and leaves in the end."""
    chance = random.Random(3)
    tier = Tier(age=600, budget=BUDGET)
    inside = 0
    for tick in range(2_000):
        inside -= sum(sum(unpack(span)[1]) for _, span in tier.leave(tick))
        counts = [chance.randint(0, 3) for _ in range(900)]
        inside += sum(counts)
        tier.append(tick, pack(-400, counts))
        assert inside == sum(tier.total.row)
        assert len(tier.data) + 6 * len(tier.ends) + 4 * len(tier.total.row) <= BUDGET
    assert len(tier.ends) > 20
    longest = max(b - a for a, b in zip(tier.ends, tier.ends[1:], strict=False))
    assert longest <= 64
    list(tier.leave(2_000 + 600))
    assert 0 == len(tier.total.row) == len(tier.ends) == len(tier.data)


def test_below_the_budget_every_tick_stands_alone() -> None:
    """Where few buckets are hit, each tick leaves at its very age."""
    tier = Tier(age=600, budget=BUDGET)
    for tick in range(2_000):
        left = [end for end, _ in tier.leave(tick)]
        assert ([tick - 600] if tick >= 600 else []) == left
        tier.append(tick, pack(tick % 50, [1, 0, 0, 2]))
