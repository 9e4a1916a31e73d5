"""The paper's law: grow by 2 under 20 % usage, halve over 50 % usage with a hit rate under 20 %."""

from __future__ import annotations

import math
import re

import pytest

from concur_agents.control import Aimd, Controller, PoolView

THRASH = (0.62, 0.11)
ROOM = (0.10, 0.90)
BETWEEN = (0.40, 0.90)


def binding(window: int) -> PoolView:
    """A pool that fills the window and has more who wait."""
    return PoolView(active=window, running=window, queued=100)


def windows(controller, engine, times, pool=None):
    """What it answers at each time, with the pool filling the window of the answer before, or as given."""
    answers, window = [], controller.decide(pool or PoolView(), engine, times[0]).agents
    for now in times[1:]:
        window = controller.decide(pool or binding(window), engine, now).agents
        answers.append(window)
    return answers


def test_the_first_answer_is_the_first_window_whatever_the_engine_says(says):
    for engine in (None, says(THRASH), says(ROOM)):
        budget = Aimd().decide(binding(50), engine, 1000.0)
        assert budget.agents == 8
        assert budget.tokens is None
        assert budget.reason == "first window 8"


def test_it_grows_by_two_every_five_seconds_while_usage_is_low(says):
    assert windows(Aimd(), says(ROOM), [0, 5, 10, 15]) == [10, 12, 14]


def test_it_halves_when_usage_is_high_and_the_cache_is_missed(says):
    assert windows(Aimd(first_window=16), says(THRASH), [0, 5, 10]) == [8, 4]


def test_it_halves_an_odd_window_downwards(says):
    assert windows(Aimd(first_window=9), says(THRASH), [0, 5]) == [4]


def test_it_never_falls_under_one(says):
    assert windows(Aimd(first_window=3), says(THRASH), [0, 5, 10, 15]) == [1, 1, 1]


@pytest.mark.parametrize(
    "signals",
    [
        (0.40, 0.05),  # missed, but the cache is not full
        (0.90, 0.90),  # full, but well used
        (0.20, 0.05),  # neither under 0.2 …
        (0.50, 0.05),  # … nor over 0.5
        (0.90, 0.20),  # … nor a hit rate under 0.2
        (0.90, None),  # nobody looked anything up: no evidence, not 0 %
        (None, 0.05),
        (None, None),
        (math.nan, 0.05),
        (0.90, math.nan),
    ],
)
def test_otherwise_it_holds(says, signals):
    assert windows(Aimd(), says(signals), [0, 5, 10, 15]) == [8, 8, 8]


def test_low_usage_grows_it_without_any_hit_rate(says):
    assert windows(Aimd(), says((0.1, None)), [0, 5]) == [10]


def test_between_two_looks_it_holds_whatever_happens(says):
    controller = Aimd(first_window=16)
    controller.decide(binding(16), says(ROOM), 100.0)

    assert controller.decide(binding(16), says(THRASH), 104.9).agents == 16
    assert controller.decide(binding(16), says(THRASH), 105.0).agents == 8
    assert controller.decide(binding(8), says(THRASH), 109.9).agents == 8
    assert controller.decide(binding(8), says(ROOM), 109.95).agents == 8


def test_an_engine_that_says_nothing_moves_nothing(says):
    assert windows(Aimd(), None, [0, 5, 10]) == [8, 8]
    assert windows(Aimd(), says(), [0, 5, 10]) == [8, 8]


@pytest.mark.parametrize(
    "pool",
    [
        PoolView(active=8, queued=0),  # nobody waits
        PoolView(active=7, queued=5),  # places are free
        PoolView(),  # nobody is there
    ],
)
def test_an_idle_gate_does_not_let_the_window_drift(says, pool):
    assert windows(Aimd(), says((0.0, None)), range(0, 10_000, 5), pool)[-1] == 8


def test_paused_agents_wait_too(says):
    assert windows(Aimd(), says(ROOM), [0, 5], PoolView(active=8, paused=1)) == [10]


def test_a_window_that_shrank_under_the_active_ones_may_grow_again(says):
    assert windows(Aimd(), says(ROOM), [0, 5], PoolView(active=12, queued=1)) == [10]


def test_of_several_engines_the_worst_brakes(says):
    assert windows(Aimd(), says(ROOM, THRASH, BETWEEN), [0, 5]) == [4]


def test_usage_of_one_engine_and_misses_of_another_are_no_thrash(says):
    assert windows(Aimd(), says((0.9, 0.9), (0.1, 0.05)), [0, 5]) == [8]


def test_of_several_engines_all_must_have_room_to_grow(says):
    assert windows(Aimd(), says(ROOM, BETWEEN), [0, 5]) == [8]
    assert windows(Aimd(), says(ROOM, (None, None)), [0, 5]) == [8]
    assert windows(Aimd(), says(ROOM, ROOM), [0, 5]) == [10]


def test_it_does_not_pass_its_ceiling(says):
    assert windows(Aimd(max_window=11), says(ROOM), [0, 5, 10, 15]) == [10, 11, 11]


def test_the_ceiling_holds_for_the_first_window_too():
    assert Aimd(max_window=4).decide(PoolView(), None, 0.0).agents == 4


def test_the_reason_tells_the_numbers(says):
    def reason(engine, pool=None):
        controller = Aimd(first_window=16)
        controller.decide(PoolView(), None, 0.0)
        return controller.decide(pool or binding(16), engine, 5.0).reason

    assert reason(says(ROOM, THRASH)) == "usage 0.62 > 0.50 and hit rate 0.11 < 0.20: window 16 → 8"
    assert reason(says(ROOM)) == "usage 0.10 < 0.20: window 16 → 18"
    assert reason(says((0.4, None))) == "usage 0.40 and hit rate unknown ask for no change: window 16 held"
    assert reason(None) == "no engine has said anything: window 16 held"
    assert reason(says(ROOM), PoolView(active=3)) == (
        "usage is low, but 3 active and 0 waiting do not fill the window: window 16 held"
    )


def test_it_says_what_it_is():
    assert isinstance(Aimd(), Controller)
    assert Aimd().name == "aimd"
    assert Aimd().needs_metrics is True
    assert "high_usage=0.5" in repr(Aimd())
    assert ", _" not in repr(Aimd())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"high_usage": 1.5}, "high_usage=1.5: give a number, from 0 to 1"),
        ({"low_usage": 0.6}, "low_usage=0.6: give a number, from 0 to 0.5"),
        ({"low_usage": math.nan}, "low_usage=nan: give a number, from 0 to 0.5"),
        ({"low_hit_rate": -0.1}, "low_hit_rate=-0.1: give a number, from 0 to 1"),
        ({"decrease": "half"}, "decrease='half': give a number, from 0 to 1"),
        ({"interval_s": -1}, "interval_s=-1: give a number, 0 or more"),
        ({"interval_s": math.inf}, "interval_s=inf: give a number, 0 or more"),
        ({"increase": 0}, "increase=0: give a whole number, 1 or more"),
        ({"increase": 1.5}, "increase=1.5: give a whole number, 1 or more"),
        ({"first_window": 0}, "first_window=0: give a whole number, 1 or more"),
        ({"max_window": 0}, "max_window=0: give a whole number, 1 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Aimd(**settings)
