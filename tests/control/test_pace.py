"""What the server can do, from what it has done."""

from __future__ import annotations

import pytest
from controller_views import View

from concur_agents.control.pace import HALF_LIFE_S, LEAST_SPARE, READING_MEMORY_S, WINDOW_S, Pace

READS = View(window_s=5.0, computed_prompt_tokens=50_000.0)
"""10,000 tokens a second, and writes nothing."""
WRITES = View(window_s=5.0, computed_prompt_tokens=0.0, generation_tokens=5_000.0)
"""1,000 tokens a second, and reads nothing."""


def after(*looks):
    pace = Pace()
    for now, view in looks:
        pace.see(view, now)
    return pace


def test_before_anything_is_known_it_is_taken_to_be_busy_reading():
    assert (after().reads, after().writes, after().spare) == (0.0, 0.0, LEAST_SPARE)


def test_the_highest_rates_of_late_count_and_are_forgotten_slowly():
    soon = after((0.0, READS), (1.0, WRITES))
    late = after((0.0, READS), (1.0, WRITES), (1.0 + HALF_LIFE_S, View()))

    assert soon.reads == pytest.approx(10_000, rel=0.01)
    assert soon.writes == pytest.approx(1_000)
    assert (late.reads, late.writes) == pytest.approx((soon.reads / 2, soon.writes / 2))


def test_a_window_of_a_single_step_tells_nothing():
    spike = View(window_s=0.9 * WINDOW_S, computed_prompt_tokens=50_000.0, generation_tokens=50_000.0)

    assert after((0.0, spike)) == Pace(_at=0.0)


def test_the_share_of_reading_is_that_of_what_it_could_read():
    half = View(window_s=5.0, computed_prompt_tokens=25_000.0)
    pace = after((0.0, READS), *((float(now), half) for now in range(1, 60)))

    assert pace.reading == pytest.approx(0.5, abs=0.05)
    assert pace.spare == pytest.approx(0.5, abs=0.05)


def test_a_batch_that_has_read_its_prompts_is_soon_known_to_write():
    pace = after((0.0, READS), (READING_MEMORY_S, WRITES), (2 * READING_MEMORY_S, WRITES))

    assert pace.spare > 0.8


def test_a_mean_over_time_does_not_depend_on_how_often_one_looks():
    often = after((0.0, READS), *((0.25 * step, WRITES) for step in range(1, 13)))
    seldom = after((0.0, READS), (3.0, WRITES))

    assert often.reading == pytest.approx(seldom.reading)
