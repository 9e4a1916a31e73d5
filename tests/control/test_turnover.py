"""The look ahead: what is learned of ends, and the growth that has to stay free because of it."""

from __future__ import annotations

import pytest
from controller_views import weighed
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.control.pace import Pace
from concur_agents.control.turnover import LONGEST_HORIZON_TURNS, MEMORY_TURNS, MOST_ENDING, Turnover, horizon_turns

HORIZON = 12.0


def seen(*looks):
    """A turnover after looks of (turns, their footprints, what ended), each since the beginning."""
    turnover = Turnover()
    for turns, turn_tokens, ended_tokens in looks:
        turnover.see(weighed(turns=turns, turn_tokens=turn_tokens, ended_tokens=ended_tokens))
    return turnover


def highest(footprints, growth, ending):
    """The working set at its highest within the horizon, by trying every hundredth of a turn."""
    steps = range(int(100 * HORIZON) + 1)
    return max((footprints + step / 100 * growth) * (1 - ending) ** (step / 100) for step in steps)


def test_while_nobody_has_ended_the_growth_of_the_whole_horizon_is_kept_free():
    assert seen().reserve_turns(50_000, 1_000, HORIZON) == HORIZON
    assert seen((40, 40_000.0, 0.0)).reserve_turns(50_000, 1_000, HORIZON) == HORIZON


def test_where_nothing_is_known_to_grow_the_horizon_stays_for_who_will():
    assert seen((40, 40_000.0, 4_000.0)).reserve_turns(50_000, 0, HORIZON) == HORIZON


def test_the_share_that_ends_with_a_turn_is_what_ended_over_what_took_turns():
    assert seen((40, 40_000.0, 4_000.0)).ending == pytest.approx(0.1)
    assert seen((40, 40_000.0, 0.0), (80, 80_000.0, 8_000.0)).ending == pytest.approx(0.1, rel=0.05)


@pytest.mark.parametrize(("footprints", "growth"), [(0, 1_000), (1_000, 1_000), (5_000, 1_000), (9_000, 1_000)])
@pytest.mark.parametrize("ended", [10.0, 4_000.0, 12_000.0, 30_000.0])
def test_the_reserve_is_for_the_working_set_at_its_highest(footprints, growth, ended):
    turnover = seen((40, 40_000.0, ended))

    reserve = turnover.reserve_turns(footprints, growth, HORIZON)

    assert footprints + reserve * growth == pytest.approx(highest(footprints, growth, turnover.ending), rel=1e-3)


def test_where_more_ends_than_grows_nothing_has_to_stay_free():
    """A tenth of 50,000 ends in a turn in which 4,000 are grown."""
    assert seen((40, 40_000.0, 4_000.0)).reserve_turns(50_000, 4_000, HORIZON) == 0


@given(st.floats(0, 1e6), st.floats(1, 1e6), st.floats(0, 1e6), st.floats(0, 1e6))
def test_the_more_ends_the_less_has_to_stay_free(footprints, growth, some, more):
    less, most = (seen((40, 40_000.0, ended)) for ended in (some, some + more))

    reserve = less.reserve_turns(footprints, growth, HORIZON)
    assert 0 <= most.reserve_turns(footprints, growth, HORIZON) <= reserve + 1e-6
    assert reserve <= HORIZON + 1e-6


def test_not_all_of_the_working_set_is_expected_to_end_however_short_agents_live():
    assert seen((40, 40_000.0, 500_000.0)).ending == MOST_ENDING
    assert seen((40, 40_000.0, 500_000.0)).reserve_turns(100, 1_000, HORIZON) >= 0


@pytest.mark.parametrize(
    ("pace", "turns"),
    [
        (
            Pace(reads=10_000.0, writes=1_000.0, reading=0.0),
            2.5,
        ),  # 2 s of reading cost 1,000 tokens/s, a turn writes 500
        (Pace(reads=10_000.0, writes=1_000.0, reading=0.5), 5.0),  # half of what it writes others would have
        (Pace(reads=10_000.0, writes=1_000.0, reading=1.0), LONGEST_HORIZON_TURNS),
        (Pace(), LONGEST_HORIZON_TURNS),
    ],
)
def test_the_horizon_is_how_long_an_agent_has_to_run_to_be_worth_a_reading(pace, turns):
    pool = weighed(turns=10, output_tokens=5_000, active=4, working_set_tokens=50_000.0)

    assert horizon_turns(pool, pace) == pytest.approx(turns)


def test_while_nobody_has_written_anything_the_horizon_is_the_longest():
    assert horizon_turns(weighed(), Pace(reads=1.0, writes=1.0, reading=0.0)) == LONGEST_HORIZON_TURNS


def test_a_shorter_horizon_keeps_less_free():
    assert seen().reserve_turns(50_000, 1_000, 3.0) == 3.0


def test_looking_twice_at_the_same_teaches_nothing():
    once, twice = seen((40, 40_000.0, 4_000.0)), seen(*2 * [(40, 40_000.0, 4_000.0)])

    assert once.ending == twice.ending


def test_a_regime_that_is_over_is_forgotten():
    turnover = seen((MEMORY_TURNS, 1e6, 0.0))

    for n in range(1, 5 * MEMORY_TURNS):
        turnover.see(weighed(turns=MEMORY_TURNS + n, turn_tokens=1e6 + 1_000.0 * n, ended_tokens=200.0 * n))

    assert turnover.ending == pytest.approx(0.2, rel=0.05)


def test_agents_that_never_end_make_one_that_once_did_a_thing_of_the_past():
    """The share that ends gets so small that one less it is one."""
    turnover = seen((1, 1_000.0, 1_000.0))

    for n in range(2, 30_000):
        turnover.see(weighed(turns=n, turn_tokens=1_000.0 * n, ended_tokens=1_000.0))

    assert 0 < turnover.ending < 1e-17
    assert turnover.reserve_turns(50_000, 1_000, HORIZON) == pytest.approx(HORIZON)
