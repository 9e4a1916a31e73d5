from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from concur_agents.control import Budget, PoolView
from concur_agents.replay.kept import spread_by_size, telling
from concur_agents.replay.results import AgentResult
from concur_agents.stats import Decision


def agents(sizes):
    return [
        AgentResult(name=str(n), size_tokens=size, turns=1, output_tokens=1, wait_s=0.0, time_per_output_token_s=0.1)
        for n, size in enumerate(sizes)
    ]


def decisions(*budgets):
    """One after the other: a number is a limit of tokens, None no limit at all."""
    made = [Budget(tokens=tokens) for tokens in budgets]
    return [
        Decision(
            float(n), budget, made[n - 1] if n else None, enforced=True, pool=PoolView(), usage=None, hit_rate=None
        )
        for n, budget in enumerate(made)
    ]


def test_few_are_all_kept():
    few = agents([3, 1, 2])

    assert spread_by_size(few, 3) == tuple(few)
    assert telling(decisions(1.0, 2.0), 2) == tuple(decisions(1.0, 2.0))
    assert spread_by_size([], 2) == telling([], 2) == ()


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=300), st.integers(2, 40))
def test_of_many_agents_the_chosen_are_so_many_and_spread_from_the_smallest_to_the_largest(sizes, most):
    given_agents = agents(sizes)

    kept = spread_by_size(given_agents, most)

    assert len(kept) == min(most, len(sizes))
    assert [int(one.name) for one in kept] == sorted(int(one.name) for one in kept)
    chosen = sorted(one.size_tokens for one in kept)
    assert (chosen[0], chosen[-1]) == (min(sizes), max(sizes))


def test_the_chosen_agents_are_evenly_apart():
    kept = sorted(one.size_tokens for one in spread_by_size(agents(range(10_001)), 101))

    assert {later - earlier for earlier, later in pairwise(kept)} == {100}


def test_of_many_decisions_the_first_the_last_and_the_largest_changes_are_kept():
    made = decisions(100.0, 101.0, 50.0, 51.0, 52.0, 110.0, 111.0, 112.0)

    assert [one.time for one in telling(made, 4)] == [0.0, 2.0, 5.0, 7.0]


def test_a_limit_that_comes_or_goes_is_the_largest_change():
    made = decisions(100.0, 900.0, None, 100.0, 101.0)

    assert [one.time for one in telling(made, 4)] == [0.0, 2.0, 3.0, 4.0]


def test_changes_of_the_agents_count_like_those_of_the_tokens():
    budgets = [Budget(agents=8), Budget(agents=9), Budget(agents=4), Budget(agents=5)]
    made = [
        Decision(
            float(n), budget, budgets[n - 1] if n else None, enforced=True, pool=PoolView(), usage=None, hit_rate=None
        )
        for n, budget in enumerate(budgets)
    ]

    assert [one.time for one in telling(made, 3)] == [0.0, 2.0, 3.0]
