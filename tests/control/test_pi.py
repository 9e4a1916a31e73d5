"""The proportional-integral regulator, decision by decision; the closed loop is in test_pi_closed_loop."""

from __future__ import annotations

import math
import re

import pytest

from concur_agents.control import Controller, Pi, PoolView

CAPACITY = 100_000.0


def filled(load: float, *, active: int = 8, queued: int = 100) -> PoolView:
    """A pool of agents that report tokens, whose working set is this share of the capacity."""
    return PoolView(
        active=active,
        running=active,
        queued=queued,
        weighed=active,
        turns=active,
        working_set_tokens=load * CAPACITY,
    )


def silent(*, active: int = 8, running: int = 8, turns: int = 0) -> PoolView:
    """A pool of agents that report no tokens."""
    return PoolView(active=active, running=running, queued=100, turns=turns)


def after(controller, pool, engine, *, seconds, start=0.0):
    """The budget after so many seconds of polls, one a second, that all say the same."""
    budget = controller.decide(pool, engine, start)
    for second in range(1, seconds + 1):
        budget = controller.decide(pool, engine, start + second)
    return budget


@pytest.mark.parametrize("load", [0.0, 0.3, 0.7, 1.0, 5.0])
def test_the_first_answer_is_the_first_window_whatever_the_pressure(says, load):
    budget = Pi().decide(filled(load), says((0.5, 0.9), capacity_tokens=CAPACITY), 1000.0)

    assert budget.agents == 8
    assert budget.tokens is None


def test_under_the_set_point_the_window_grows_and_over_it_it_shrinks(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)

    assert after(Pi(), filled(0.3), engine, seconds=30).agents > 8
    assert after(Pi(), filled(1.0), engine, seconds=30).agents < 8


def test_at_the_set_point_it_stays(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)

    assert after(Pi(), filled(0.70), engine, seconds=3600).agents == 8


@pytest.mark.parametrize("load", [0.67, 0.73])
def test_within_half_an_agent_of_the_set_point_it_stays(says, load):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)

    assert after(Pi(), filled(load), engine, seconds=3600).agents == 8


def test_a_jump_of_the_pressure_is_answered_at_once(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)
    controller = Pi(first_window=100)
    controller.decide(filled(0.7, active=100), engine, 0.0)

    budget = controller.decide(filled(0.95, active=100), engine, 1.0)

    assert budget.agents == pytest.approx(100 * math.exp(-0.5 * 0.20 * (1 + 1 / 20)), abs=1)


def test_no_single_look_halves_the_window_more_than_once(says):
    engine = says((0.5, 0.0), capacity_tokens=CAPACITY)
    controller = Pi(first_window=1000)
    controller.decide(filled(0.7, active=1000), says((0.5, 1.0), capacity_tokens=CAPACITY), 0.0)

    assert controller.decide(filled(1e9, active=1000), engine, 1.0).agents >= 500


def test_a_low_hit_rate_raises_the_pressure(says):
    fine = says((0.5, 0.86), capacity_tokens=CAPACITY)
    missed = says((0.5, 0.45), capacity_tokens=CAPACITY)

    assert after(Pi(), filled(0.65), fine, seconds=60).agents == 8
    budget = after(Pi(), filled(0.65), missed, seconds=60)
    assert budget.agents < 8
    assert "+0.30 for hit rate 0.45" in budget.reason


def test_no_look_ups_are_no_evidence_and_raise_nothing(says):
    engine = says((0.5, None), capacity_tokens=CAPACITY)

    assert after(Pi(), filled(0.65), engine, seconds=600).agents == 8


def test_honest_misses_in_an_empty_cache_do_not_shrink_the_window(says):
    engine = says((0.02, 0.0), capacity_tokens=CAPACITY)

    assert after(Pi(), filled(0.02), engine, seconds=600).agents == 8


def test_misses_at_the_usage_where_a_vllm_was_seen_to_thrash_do(says):
    assert after(Pi(first_window=64), silent(active=64), says((0.27, 0.0)), seconds=60).agents < 64


def test_without_reported_tokens_or_without_capacity_the_usage_tells_the_pressure(says):
    for pool, capacity in ((silent(), CAPACITY), (filled(0.1), None), (filled(0.1), 0.0), (filled(0.1), math.nan)):
        budget = after(Pi(), pool, says((0.95, 0.9), capacity_tokens=capacity), seconds=60)
        assert budget.agents < 8
        assert "usage 0.95" in budget.reason


def test_with_reported_tokens_the_usage_is_not_asked(says):
    budget = after(Pi(), filled(0.70), says((0.01, 0.9), capacity_tokens=CAPACITY), seconds=600)

    assert budget.agents == 8
    assert "working set 70,000 of 100,000 tokens" in budget.reason


def test_of_several_engines_the_worst_counts(says):
    assert after(Pi(), silent(), says((0.1, 0.9), (0.95, 0.9)), seconds=60).agents < 8
    one_thrashes = says((0.1, 0.9), (0.1, 0.3), capacity_tokens=CAPACITY)
    assert after(Pi(), filled(0.6), one_thrashes, seconds=60).agents < 8


@pytest.mark.parametrize("signals", [(), ((None, None),), ((None, 0.1),), ((math.nan, math.nan),)])
def test_with_nothing_that_tells_the_pressure_it_holds(says, signals):
    controller = Pi()
    window = after(controller, filled(0.3), says((0.5, 0.9), capacity_tokens=CAPACITY), seconds=60).agents

    budget = after(controller, silent(), says(*signals), seconds=600, start=61.0)

    assert budget.agents == window
    assert budget.reason == f"nothing tells the pressure: window {window} held"


def test_without_an_engine_it_holds():
    assert after(Pi(), filled(0.0), None, seconds=600).agents == 8


def test_a_stale_gauge_is_ignored_while_nothing_of_ours_is_in_flight(says):
    stale = says((0.99, None))

    assert after(Pi(), silent(active=0, running=0), stale, seconds=600).agents == 8
    assert after(Pi(), silent(active=8, running=0, turns=40), stale, seconds=600).agents == 8


def test_agents_that_never_say_when_a_turn_runs_may_have_one_in_flight(says):
    assert after(Pi(), silent(active=8, running=0, turns=0), says((0.99, None)), seconds=60).agents < 8


@pytest.mark.parametrize(("active", "queued"), [(8, 0), (7, 100), (1, 0)])
def test_growth_does_not_wind_up_while_the_window_does_not_bind(says, active, queued):
    engine = says((0.1, 0.9), capacity_tokens=CAPACITY)

    assert after(Pi(), filled(0.1, active=active, queued=queued), engine, seconds=3600).agents == 8


def test_a_cut_does_not_wind_up_while_the_last_one_is_not_carried_out(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)
    controller = Pi(first_window=100)
    soon = after(controller, filled(0.9, active=100), engine, seconds=60).agents
    late = after(controller, filled(0.9, active=100), engine, seconds=3600, start=61.0).agents

    assert soon < 100
    assert late == soon


def test_a_window_far_above_the_active_agents_comes_down_to_them_before_it_brakes(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)
    controller = Pi(first_window=1000)
    controller.decide(filled(0.7, active=1000), engine, 0.0)

    assert controller.decide(filled(1.2, active=20, queued=0), engine, 1.0).agents <= 20


def test_an_hour_without_a_look_counts_as_one_step(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)

    def window_after_gap(gap_s):
        controller = Pi(first_window=1000)
        controller.decide(filled(0.3, active=1000), engine, 0.0)
        return controller.decide(filled(0.3, active=1000), engine, gap_s).agents

    assert window_after_gap(3600.0) == window_after_gap(5.0) > 1000


def test_a_clock_that_stands_still_integrates_nothing(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)
    controller = Pi()

    assert {controller.decide(filled(0.0), engine, 7.0).agents for _ in range(1000)} == {8}


def test_it_stays_between_one_and_its_maximum(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)
    controller = Pi(max_agents=20)

    def follows(load, start):
        window = 8
        for second in range(600):
            window = controller.decide(filled(load, active=window), engine, start + second).agents
            assert 1 <= window <= 20
        return window

    assert follows(0.1, 0.0) == 20
    assert follows(2.0, 600.0) == 1
    assert Pi(max_agents=4).decide(filled(0.1), engine, 0.0).agents == 4


def test_noise_at_the_maximum_does_not_wear_the_window_away_from_it(says):
    engine = says((0.5, 0.9), capacity_tokens=CAPACITY)
    controller, window, windows = Pi(max_agents=20), 8, []
    for second in range(600):
        load = 0.1 if second > 300 and second % 2 else 0.4
        window = controller.decide(filled(load, active=window), engine, float(second)).agents
        windows.append(window)

    assert set(windows[300:]) == {20}


def test_noise_at_the_floor_does_not_lift_the_window_off_it(says):
    controller, window, windows = Pi(gain=1.0, hit_gain=10.0), 8, []
    for second in range(600):
        hit_rate = 0.60 if second > 300 and second % 2 else 0.78
        engine = says((0.5, hit_rate), capacity_tokens=CAPACITY)
        window = controller.decide(filled(0.35, active=window), engine, float(second)).agents
        windows.append(window)

    assert set(windows[300:]) == {1}


def test_the_reason_tells_the_numbers(says):
    engine = says((0.5, 0.69), capacity_tokens=CAPACITY)
    controller = Pi(first_window=9)
    controller.decide(filled(0.70, active=9), engine, 0.0)

    assert controller.decide(filled(1.0, active=9), engine, 1.0).reason == (
        "pressure 1.12 (working set 100,000 of 100,000 tokens, +0.12 for hit rate 0.69) "
        "over set point 0.70: window 9 → 8"
    )


def test_it_says_what_it_is():
    assert isinstance(Pi(), Controller)
    assert Pi().name == "pi"
    assert Pi().needs_metrics is True
    assert "set_point=0.7" in repr(Pi())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"set_point": 0}, "set_point=0: give a number, from 0.01 to 1"),
        ({"set_point": 70}, "set_point=70: give a number, from 0.01 to 1"),
        ({"gain": 2.0}, "gain=2.0: give a number, from 0 to 1"),
        ({"integral_s": 0}, "integral_s=0: give a number, 0.1 or more"),
        ({"hit_target": 85}, "hit_target=85: give a number, from 0 to 1"),
        ({"hit_gain": -1}, "hit_gain=-1: give a number, 0 or more"),
        ({"first_window": 0}, "first_window=0: give a whole number, 1 or more"),
        ({"max_agents": 0}, "max_agents=0: give a whole number, 1 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Pi(**settings)
