"""The capacity that no metric tells: from what running agents, whose size is known, fill of the cache."""

from __future__ import annotations

import math
import random

import pytest
from controller_views import CAPACITY, View, weighed

from concur_agents.control.capacity import LearnedCapacity


def learned(*looks):
    """What was learned from looks of (pool, usage)."""
    capacity = LearnedCapacity()
    for pool, usage in looks:
        capacity.see(pool, View(capacity_tokens=None, usage=usage))
    return capacity.tokens


def test_running_agents_hold_their_share_of_the_working_set_and_that_fills_the_usage():
    """Two of four agents run: 50,000 of 100,000 tokens fill half of the cache."""
    look = (weighed(working_set_tokens=100_000.0), 0.5)

    assert learned(look) is None
    assert learned(look, look, look) == pytest.approx(CAPACITY)


def test_it_takes_more_looks_at_an_emptier_cache():
    look = (weighed(working_set_tokens=4_000.0), 0.02)

    assert learned(*40 * [look]) is None
    assert learned(*90 * [look]) == pytest.approx(CAPACITY)


def test_looks_that_scatter_are_averaged():
    rng = random.Random(0)
    looks = [
        (weighed(running=running, working_set_tokens=60_000.0), 0.15 * running * rng.uniform(0.7, 1.3))
        for running in rng.choices([1, 2, 3, 4], k=200)
    ]

    assert learned(*looks) == pytest.approx(CAPACITY, rel=0.1)


@pytest.mark.parametrize(
    ("pool", "usage"),
    [
        (weighed(running=0), 0.5),
        (weighed(active=0, running=0, weighed=0), 0.5),
        (weighed(weighed=3), 0.5),
        (weighed(), 0.0),
        (weighed(), -0.1),
        (weighed(), None),
        (weighed(), math.nan),
    ],
    ids=["nobody runs", "nobody is active", "one has told nothing", "empty", "nonsense", "untold", "nan"],
)
def test_a_look_that_says_nothing_teaches_nothing(pool, usage):
    good = (weighed(working_set_tokens=100_000.0), 0.5)

    assert learned(*9 * [(pool, usage)]) is None
    assert learned(*3 * [good], *9 * [(pool, usage)]) == learned(*3 * [good])


def test_turns_of_agents_that_have_lent_their_place_are_no_more_than_all():
    assert learned(*3 * [(weighed(running=9, working_set_tokens=50_000.0), 0.5)]) == pytest.approx(CAPACITY)


def test_what_others_fill_makes_the_cache_as_small_as_it_is_for_us():
    ours, others = 0.25, 0.25

    assert learned(*9 * [(weighed(working_set_tokens=50_000.0), ours + others)]) == pytest.approx(CAPACITY / 2)


def test_a_server_that_came_back_with_half_the_cache_is_learned_anew():
    whole, half = (weighed(working_set_tokens=80_000.0), 0.4), (weighed(working_set_tokens=80_000.0), 0.8)

    assert learned(*100 * [whole], *400 * [half]) == pytest.approx(CAPACITY / 2, rel=0.05)


def test_agents_that_weigh_nothing_make_no_capacity():
    assert learned(*9 * [(weighed(working_set_tokens=0.0), 0.5)]) is None
