"""The working-set controller: a share of the cache, cut when it loses, leased through tool waits."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concur_agents.control import Budget, PoolView, WorkingSet
from concur_agents.control.working_set import CUT, LEASE_READS, LOWEST_SHARE, PATIENCE_S, SHARE

CAPACITY = 100_000.0


@dataclass(frozen=True)
class View:
    """What a server said."""

    capacity_tokens: float | None = CAPACITY
    usage: float | None = 0.5
    hit_rate: float | None = 0.9
    window_s: float = 5.0
    computed_prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    preemptions: float = 0.0
    engines: tuple = ()


def weighed(**changes):
    return PoolView(**{"active": 4, "running": 2, "weighed": 4, "working_set_tokens": 50_000.0} | changes)


def share(budget):
    return budget.tokens / CAPACITY


def play(pools, engine=None):
    """The budgets of one controller, a second apart."""
    controller = WorkingSet()
    return [controller.decide(pool, engine or View(), float(now)) for now, pool in enumerate(pools)]


def test_a_share_of_the_cache_may_be_active_with_room_to_grow_for_who_enters():
    (budget,) = play([weighed()])

    assert share(budget) == pytest.approx(SHARE)
    assert 0 < budget.pause_turns < budget.admit_turns
    assert "0.85 of a cache of 100,000" in budget.reason


def test_agents_that_lose_what_they_had_cost_a_cut_for_each_verdict():
    lost = [weighed(turns=100 * n, reusable_tokens=60_000 * n, lost_tokens=20_000 * n) for n in range(4)]

    shares = [share(budget) for budget in play(lost)]

    assert shares == pytest.approx([SHARE, SHARE * CUT, SHARE * CUT**2, SHARE * CUT**3])


def test_after_a_cut_nothing_is_judged_until_each_agent_has_had_two_turns():
    lost = [weighed(turns=n, reusable_tokens=60_000 * n, lost_tokens=20_000 * n) for n in range(12)]

    shares = [share(budget) for budget in play(lost)]

    assert shares == pytest.approx([SHARE] + 8 * [SHARE * CUT] + 3 * [SHARE * CUT**2])


def test_a_few_turns_are_no_evidence():
    few = [weighed(reusable_tokens=1_000 * n, lost_tokens=1_000 * n) for n in range(40)]

    assert {share(budget) for budget in play(few)} == {SHARE}


def test_what_a_resumed_agent_reads_again_is_no_loss():
    """It is in `recomputed_tokens`, not in `lost_tokens`: it was given up on purpose."""
    resumed = [weighed(reusable_tokens=60_000 * n, recomputed_tokens=30_000 * n) for n in range(9)]

    assert {share(budget) for budget in play(resumed)} == {SHARE}


def test_a_share_that_was_cut_grows_back_and_not_beyond():
    pools = [weighed(turns=100 * n, reusable_tokens=60_000 * n, lost_tokens=min(n, 3) * 20_000) for n in range(60)]

    shares = [share(budget) for budget in play(pools)]

    assert min(shares) == pytest.approx(SHARE * CUT**3)
    assert shares[-1] == pytest.approx(SHARE)
    assert shares[3:] == sorted(shares[3:])


def test_a_middling_loss_moves_nothing():
    pools = [weighed(reusable_tokens=60_000 * n, lost_tokens=4_200 * n) for n in range(20)]

    assert {share(budget) for budget in play(pools)} == {SHARE}


def test_the_lease_is_the_time_to_read_the_running_contexts_anew():
    (budget,) = play([weighed()], View(usage=0.4, window_s=5.0, computed_prompt_tokens=50_000.0))

    assert budget.tool_lease_s == pytest.approx(LEASE_READS * 0.4 * CAPACITY / 10_000)


def test_the_fastest_prefill_of_late_counts_and_is_forgotten_slowly():
    controller = WorkingSet()
    controller.decide(weighed(), View(computed_prompt_tokens=50_000.0), 0.0)

    soon = controller.decide(weighed(), View(computed_prompt_tokens=500.0), 1.0).tool_lease_s
    late = controller.decide(weighed(), View(computed_prompt_tokens=500.0), 601.0).tool_lease_s

    assert soon == pytest.approx(LEASE_READS * 0.5 * CAPACITY / 10_000, rel=0.01)
    assert late == pytest.approx(2 * soon, rel=0.01)


def test_before_anything_was_read_nothing_lapses():
    assert play([weighed()])[0].tool_lease_s is None
    assert play([weighed()], View(usage=None, computed_prompt_tokens=50_000.0))[0].tool_lease_s is None


@pytest.mark.parametrize("engine", [None, View(capacity_tokens=None), View(capacity_tokens=0.0)])
def test_without_a_capacity_it_counts_agents(engine):
    budget = WorkingSet().decide(weighed(), engine, 0.0)

    assert budget.tokens is None
    assert budget.agents is not None


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


numbers = st.one_of(st.none(), st.floats(0, 1e9), st.sampled_from([math.nan, math.inf, -1.0]))


@given(
    st.lists(
        st.tuples(
            st.builds(
                View, capacity_tokens=numbers, usage=numbers, hit_rate=numbers, computed_prompt_tokens=st.floats(0, 1e9)
            ),
            st.integers(0, 10**7),
            st.integers(0, 10**7),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_whatever_the_server_says_somebody_may_run_and_the_same_calls_give_the_same_answers(looks):
    def budgets():
        controller, reusable, lost = WorkingSet(), 0, 0
        for now, (engine, more, gone, tells) in enumerate(looks):
            reusable += more
            lost += min(more, gone)
            pool = weighed(reusable_tokens=reusable, lost_tokens=lost, weighed=4 if tells else 0)
            yield controller.decide(pool, engine, 10.0 * now)

    made = list(budgets())

    assert made == list(budgets())
    assert all(isinstance(budget, Budget) for budget in made)
    for budget, (engine, *_) in zip(made, looks, strict=True):
        if budget.tokens is not None:
            assert LOWEST_SHARE <= budget.tokens / engine.capacity_tokens <= SHARE + 1e-9
        if budget.tool_lease_s is not None:
            assert 0 <= budget.tool_lease_s < math.inf
