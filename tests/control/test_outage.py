"""While the metrics are gone the budget freezes, then token counts carry on, then the floor; never more."""

from __future__ import annotations

import math
import re

import pytest

from concur_agents.control import Budget, Fallback, PoolView, frozen

WINDOW = Budget(agents=20, reason="usage 0.10 < 0.20: window 18 → 20")
WEIGHED = PoolView(active=5, weighed=5, prompt_tokens=9_000, working_set_tokens=9_500.0)
UNWEIGHED = PoolView(active=5)


def limits(budget: Budget) -> tuple[int | None, float | None]:
    return budget.agents, budget.tokens


def test_the_budget_freezes_at_once_and_says_why():
    fallback = Fallback()
    fallback.failed(100.0)

    budget = fallback.decide(WEIGHED, WINDOW, 16_384.0, 112.0, "metrics gone")

    assert limits(budget) == limits(WINDOW)
    assert budget.reason == "metrics gone for 12 s: budget frozen"


def test_a_frozen_budget_keeps_its_reserves():
    before = Budget(tokens=1000.0, pause_turns=1.5, admit_turns=4.0)

    budget = Fallback().decide(WEIGHED, before, None, 0.0, "metrics gone")

    assert (budget.tokens, budget.pause_turns, budget.admit_turns) == (1000.0, 1.5, 4.0)


def test_after_the_grace_token_counts_carry_on_under_the_last_known_capacity():
    fallback = Fallback(grace_s=30.0)
    fallback.failed(0.0)

    assert fallback.decide(WEIGHED, WINDOW, 16_384.0, 29.9, "metrics gone").tokens is None
    budget = fallback.decide(WEIGHED, WINDOW, 16_384.0, 30.0, "metrics gone")

    assert budget.agents == 20
    assert budget.tokens == pytest.approx(0.9 * 16_384)
    assert (budget.pause_turns, budget.admit_turns) == (1.0, 3.0)
    assert budget.reason == ("metrics gone for 30 s: on by token counts, 14,746 of the 16,384 tokens last known")


def test_token_counts_carry_on_without_a_limit_of_agents_if_there_was_none():
    budget = Fallback(grace_s=0).decide(WEIGHED, Budget(tokens=5e6), 1000.0, 0.0, "metrics gone")

    assert limits(budget) == (None, 900.0)


def test_agents_of_one_turn_report_tokens_too():
    one_turn_each = PoolView(active=5, weighed=0, prompt_tokens=9_000)

    assert Fallback(grace_s=0).decide(one_turn_each, WINDOW, 1000.0, 0.0, "metrics gone").tokens == 900.0


@pytest.mark.parametrize(
    ("pool", "capacity", "missing"),
    [
        (UNWEIGHED, 16_384.0, "no agent reports tokens"),
        (UNWEIGHED, None, "no agent reports tokens"),
        (WEIGHED, None, "its capacity is not known"),
        (WEIGHED, 0.0, "its capacity is not known"),
        (WEIGHED, math.nan, "its capacity is not known"),
    ],
)
def test_without_token_counts_or_capacity_it_falls_to_the_floor(pool, capacity, missing):
    fallback = Fallback(grace_s=30.0, floor_agents=4)
    fallback.failed(0.0)

    budget = fallback.decide(pool, WINDOW, capacity, 45.0, "metrics gone")

    assert limits(budget) == (4, None)
    assert budget.reason == f"metrics gone for 45 s and {missing}: 4 agents at most"


@pytest.mark.parametrize("now", [0.0, 29.0, 30.0, 1e6])
@pytest.mark.parametrize("pool", [WEIGHED, UNWEIGHED])
@pytest.mark.parametrize("before", [Budget(agents=2), Budget(agents=2, tokens=10.0), Budget(tokens=10.0)])
def test_what_held_when_the_outage_began_is_never_exceeded(now, pool, before):
    fallback = Fallback()
    fallback.failed(0.0)

    budget = fallback.decide(pool, before, 16_384.0, now, "metrics gone")

    if before.agents is not None:
        assert budget.agents is not None
        assert budget.agents <= before.agents
    if before.tokens is not None:
        assert budget.tokens is not None
        assert budget.tokens <= before.tokens


def test_fed_with_its_own_answers_it_neither_grows_nor_sinks_and_leaves_the_floor_when_tokens_come():
    fallback = Fallback(grace_s=10.0, floor_agents=4)
    fallback.failed(0.0)
    budget = WINDOW
    seen = []
    for now in range(0, 60, 5):
        budget = fallback.decide(WEIGHED if now >= 30 else UNWEIGHED, budget, 1000.0, float(now), "metrics gone")
        seen.append(limits(budget))

    assert seen == [(20, None)] * 2 + [(4, None)] * 4 + [(20, 900.0)] * 6


def test_only_the_first_failure_of_a_row_starts_the_clock():
    fallback = Fallback(grace_s=30.0)
    for second in range(41):
        fallback.failed(float(second))

    assert fallback.decide(UNWEIGHED, WINDOW, None, 40.0, "metrics gone").agents == 8


def test_a_good_poll_ends_it_and_the_next_outage_has_a_grace_and_a_ceiling_of_its_own():
    fallback = Fallback(grace_s=30.0)
    fallback.failed(0.0)
    fallback.decide(UNWEIGHED, WINDOW, None, 40.0, "metrics gone")
    assert fallback.failing

    fallback.ok(41.0)
    assert not fallback.failing

    fallback.failed(50.0)
    budget = fallback.decide(UNWEIGHED, Budget(agents=64), None, 51.0, "metrics gone")
    assert limits(budget) == (64, None)
    assert budget.reason == "metrics gone for 1 s: budget frozen"


def test_asked_before_it_was_told_of_a_failure_it_takes_that_as_the_first():
    fallback = Fallback()

    assert fallback.decide(UNWEIGHED, WINDOW, None, 7.0, "metrics gone").reason == (
        "metrics gone for 0 s: budget frozen"
    )
    assert fallback.failing


def test_a_server_that_sleeps_freezes_the_budget_for_as_long_as_it_likes():
    budget = frozen(WINDOW, "the server sleeps")

    assert limits(budget) == limits(WINDOW)
    assert budget.reason == "the server sleeps: budget frozen"
    assert frozen(budget, "the server sleeps") == budget


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"grace_s": -1.0}, "grace_s=-1.0: give a number, 0 or more"),
        ({"grace_s": True}, "grace_s=True: give a number, 0 or more"),
        ({"floor_agents": 0}, "floor_agents=0: give a whole number, 1 or more"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Fallback(**settings)
