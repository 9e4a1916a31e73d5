"""The working-set controller: its parts together, and what it does when it is told less."""

from __future__ import annotations

import math

import pytest
from controller_views import CAPACITY, View, weighed
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.control import Budget, PoolView, WorkingSet
from concur_agents.control.horizon import LONGEST_HORIZON_TURNS
from concur_agents.control.share import CUT_PER_LOSS, LOWEST_SHARE, SHARE
from concur_agents.control.working_set import ADMIT_TURNS, PATIENCE_S, PAUSE_TURNS

GROWING = {"growth_tokens": 4_000.0}


def play(pools, engine=None):
    """The budgets of one controller, a second apart."""
    controller = WorkingSet()
    return [controller.decide(pool, engine or View(), float(now)) for now, pool in enumerate(pools)]


def test_a_share_of_the_cache_may_be_active_and_the_next_turn_of_all_must_fit():
    (budget,) = play([weighed(**GROWING)])

    assert budget.tokens == pytest.approx(SHARE * CAPACITY)
    assert budget.pause_turns == PAUSE_TURNS < ADMIT_TURNS == budget.admit_turns
    assert budget.agents is None
    assert f"{SHARE:.2f} of a cache of 100,000" in budget.reason


def test_before_the_server_has_shown_its_speed_it_looks_far_ahead():
    (budget,) = play([weighed(turns=40, **GROWING)])

    assert budget.ahead_turns == LONGEST_HORIZON_TURNS


def test_a_loss_cuts_the_budget_and_the_reason_tells_of_it():
    *_, budget = play([weighed(turns=n, reusable_tokens=60_000 * n, lost_tokens=18_000 * n) for n in range(2)])

    assert budget.tokens == pytest.approx(SHARE * (1 - CUT_PER_LOSS * 0.3) * CAPACITY)
    assert "active agents lost 30% of theirs" in budget.reason


def test_a_place_is_leased_for_as_long_as_the_server_would_read_what_runs():
    controller = WorkingSet()
    controller.decide(weighed(), View(usage=0.4, window_s=5.0, computed_prompt_tokens=50_000.0), 0.0)

    budget = [controller.decide(weighed(), View(usage=0.4, window_s=5.0), 0.5 * step) for step in range(1, 60)][-1]

    assert budget.tool_lease_s == pytest.approx(0.4 * CAPACITY / 10_000, rel=0.05)


def test_it_is_leased_for_longer_where_the_server_reads_anyhow():
    writing = View(usage=0.4, window_s=5.0, computed_prompt_tokens=25_000.0)
    controller = WorkingSet()
    controller.decide(weighed(), View(usage=0.4, window_s=5.0, computed_prompt_tokens=50_000.0), 0.0)

    budget = [controller.decide(weighed(), writing, 0.5 * step) for step in range(1, 60)][-1]

    assert budget.tool_lease_s == pytest.approx(0.4 * CAPACITY / 10_000 / 0.5, rel=0.1)


def test_where_a_pause_costs_little_who_enters_need_not_leave_room_for_long():
    """2.5 turns write what one reading costs."""
    controller = WorkingSet()
    controller.decide(weighed(), View(window_s=5.0, computed_prompt_tokens=50_000.0), 0.0)
    young = weighed(turns=10, output_tokens=5_000, **GROWING)

    writes = View(window_s=5.0, generation_tokens=5_000.0)
    budget = [controller.decide(young, writes, 0.5 * step) for step in range(1, 60)][-1]

    assert budget.ahead_turns == pytest.approx(2.5, rel=0.1)


def test_before_anything_was_read_nothing_lapses():
    assert play([weighed()])[0].tool_lease_s is None


# ---------------------------------------------------------------------- told less


@pytest.mark.parametrize("engine", [None, View(capacity_tokens=None), View(capacity_tokens=0.0)])
def test_without_a_capacity_it_counts_agents(engine):
    budget = WorkingSet().decide(weighed(), engine, 0.0)

    assert budget.tokens is None
    assert budget.agents is not None


def test_a_capacity_that_nobody_tells_is_learned_and_then_agents_are_weighed():
    budgets = play(5 * [weighed(working_set_tokens=100_000.0)], View(capacity_tokens=None, usage=0.5))

    assert budgets[0].tokens is None
    assert budgets[-1].tokens == pytest.approx(SHARE * CAPACITY)
    assert "of a cache of about 100,000" in budgets[-1].reason


def test_a_capacity_that_is_told_is_believed_whatever_was_learned():
    controller = WorkingSet()
    for now in range(5):
        controller.decide(weighed(working_set_tokens=100_000.0), View(capacity_tokens=None, usage=0.5), float(now))

    budget = controller.decide(weighed(), View(capacity_tokens=400_000.0), 5.0)

    assert budget.tokens == pytest.approx(SHARE * 400_000)


def test_if_nobody_tells_its_tokens_it_counts_agents_after_a_while_and_weighs_them_when_they_do():
    silent = PoolView(active=4)
    controller = WorkingSet()

    budgets = {now: controller.decide(silent, View(), now) for now in (0.0, PATIENCE_S - 1, PATIENCE_S + 1)}
    told = controller.decide(weighed(), View(), PATIENCE_S + 2)

    assert budgets[0.0].tokens is not None
    assert budgets[PATIENCE_S - 1].tokens is not None
    assert budgets[PATIENCE_S + 1].tokens is None
    assert told.tokens is not None


def test_nobody_active_is_not_silence():
    controller = WorkingSet()

    assert all(controller.decide(PoolView(), View(), 100.0 * n).tokens is not None for n in range(9))


# ---------------------------------------------------------------------- whatever is said

numbers = st.one_of(st.none(), st.floats(0, 1e9), st.sampled_from([math.nan, math.inf, -1.0, 5e-324]))
amounts = st.one_of(st.sampled_from([0, 1, 10**5]), st.integers(0, 10**7))
servers = st.builds(
    View, capacity_tokens=numbers, usage=numbers, hit_rate=numbers, computed_prompt_tokens=st.floats(0, 1e9)
)
TOTALS = ("turns", "prompt_tokens", "kept_tokens", "reusable_tokens", "refusals")
looks = st.tuples(servers, st.fixed_dictionaries(dict.fromkeys(TOTALS, amounts)), amounts, amounts, st.booleans())


@given(st.lists(looks, max_size=12))
def test_whatever_the_server_says_somebody_may_run_and_the_same_calls_give_the_same_answers(story):
    def budgets():
        controller, totals = WorkingSet(), dict.fromkeys((*TOTALS, "lost_tokens"), 0)
        for now, (engine, more, lost, growth, tells) in enumerate(story):
            totals = {name: totals[name] + more.get(name, min(lost, more["reusable_tokens"])) for name in totals}
            pool = weighed(**totals, growth_tokens=float(growth), weighed=4 if tells else 0)
            yield controller.decide(pool, engine, 10.0 * now)

    made = list(budgets())

    assert made == list(budgets())
    assert all(isinstance(budget, Budget) for budget in made)
    for budget, (engine, *_) in zip(made, story, strict=True):
        if budget.tokens is not None and engine.capacity_tokens and math.isfinite(engine.capacity_tokens):
            assert engine.capacity_tokens < 1 or LOWEST_SHARE <= budget.tokens / engine.capacity_tokens <= SHARE + 1e-9
        if budget.tokens is not None:
            assert budget.admit_turns == ADMIT_TURNS
            assert 0 <= budget.ahead_turns <= LONGEST_HORIZON_TURNS
        if budget.tool_lease_s is not None:
            assert 0 <= budget.tool_lease_s < math.inf
