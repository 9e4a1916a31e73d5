"""The lease of a tool wait: as long as reading what runs anew would take."""

from __future__ import annotations

import math

import pytest
from controller_views import CAPACITY, View

from concur_agents.control.lease import LONGEST_LEASE_S, USAGE_MEMORY_S, Lease
from concur_agents.control.pace import LEAST_SPARE, Pace

BUSY = View(usage=0.5)
"""Half full."""

WRITING = Pace(reads=10_000.0, reading=0.0)
"""A server that can read 10,000 tokens a second, and has nothing to read."""


def after(*looks):
    """A lease after looks of (when, view)."""
    lease = Lease()
    for now, view in looks:
        lease.see(view, now)
    return lease


def test_it_is_the_time_in_which_the_running_contexts_could_be_read_anew():
    assert after((0.0, BUSY)).seconds(CAPACITY, WRITING) == pytest.approx(0.5 * CAPACITY / 10_000)


def test_before_anything_was_read_or_the_usage_is_known_there_is_no_end_to_it():
    assert after().seconds(CAPACITY, WRITING) is None
    assert after((0.0, BUSY)).seconds(CAPACITY, Pace()) is None
    assert after((0.0, View(usage=None))).seconds(CAPACITY, WRITING) is None


def test_it_is_longer_the_less_would_be_gained_by_running_others_instead():
    lease = after((0.0, BUSY))

    assert lease.seconds(CAPACITY, Pace(reads=10_000.0, reading=0.5)) == pytest.approx(10.0)
    assert lease.seconds(CAPACITY, Pace(reads=10_000.0, reading=1.0)) == pytest.approx(5.0 / LEAST_SPARE)


def test_one_look_at_an_empty_engine_does_not_end_every_lease():
    """All of a few agents are often in their tools at once."""
    empty = View(usage=0.0)

    before = after((0.0, BUSY)).seconds(CAPACITY, WRITING)
    then = after((0.0, BUSY), (0.5, empty)).seconds(CAPACITY, WRITING)

    assert then > 0.9 * before


def test_an_engine_that_stays_empty_does():
    looks = [(float(now), View(usage=0.0)) for now in range(1, int(5 * USAGE_MEMORY_S))]

    assert after((0.0, BUSY), *looks).seconds(CAPACITY, WRITING) < 0.01 * after((0.0, BUSY)).seconds(CAPACITY, WRITING)


@pytest.mark.parametrize("every_s", [0.1, 1.0, 10.0])
def test_usage_is_a_mean_over_time_however_often_one_looks(every_s):
    looks = [(every_s * n, View(usage=0.1)) for n in range(1, round(10 / every_s) + 1)]

    usage = after((0.0, BUSY), *looks).seconds(CAPACITY, WRITING) / CAPACITY * 10_000

    assert usage == pytest.approx(0.1 + 0.4 * math.exp(-10 / USAGE_MEMORY_S), rel=0.02)


def test_a_look_that_does_not_tell_the_usage_leaves_the_mean_as_it_is():
    assert after((0.0, BUSY), (1.0, View(usage=None))).seconds(CAPACITY, WRITING) == pytest.approx(5.0, rel=0.01)
    assert after((0.0, BUSY), (1.0, View(usage=math.nan))).seconds(CAPACITY, WRITING) == pytest.approx(5.0, rel=0.01)


def test_it_has_an_upper_end_however_little_was_read():
    assert after((0.0, BUSY)).seconds(CAPACITY, Pace(reads=0.2)) == LONGEST_LEASE_S


def test_a_usage_below_nothing_is_nothing():
    assert after((0.0, View(usage=-1.0))).seconds(CAPACITY, WRITING) == 0
