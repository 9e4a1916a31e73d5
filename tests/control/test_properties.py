"""What holds for every controller, whatever it is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from concur_agents.control import Aimd, Budget, Controller, Fallback, Fixed, Pi, PoolView, Unlimited

# A slow machine is no failure: nothing here is about time on the wall.
at_any_speed = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])

NONSENSE = [None, math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e-300, 1e300]
numbers = st.one_of(st.sampled_from(NONSENSE), st.floats(0, 1), st.floats())
counts = st.one_of(st.integers(0, 12), st.integers(0, 10**9))
steps_s = st.one_of(st.just(0.0), st.floats(0, 10), st.floats(0, 1e9))


@dataclass(frozen=True)
class Said:
    """One engine, or a server: what a reader may make of a broken page."""

    usage: float | None
    hit_rate: float | None
    waiting: float | None = None
    capacity_tokens: float | None = None
    engines: tuple[Said, ...] = ()


one_engine = st.builds(Said, usage=numbers, hit_rate=numbers)
servers = st.none() | st.builds(
    Said,
    usage=numbers,
    hit_rate=numbers,
    capacity_tokens=numbers,
    engines=st.lists(one_engine, max_size=3).map(tuple),
)
pools = st.builds(
    PoolView,
    active=counts,
    running=counts,
    paused=counts,
    queued=counts,
    weighed=counts,
    working_set_tokens=st.one_of(st.just(0.0), st.floats(0, 1e6), st.floats()),
    turns=counts,
    prompt_tokens=counts,
)
stories = st.lists(st.tuples(pools, servers, steps_s), max_size=15)

CONTROLLERS = {
    "none": Unlimited,
    "fixed:16": lambda: Fixed(16),
    "aimd": Aimd,
    "aimd with a ceiling": lambda: Aimd(max_window=20),
    "aimd at every poll": lambda: Aimd(interval_s=0.0),
    "pi": Pi,
    "pi with a maximum": lambda: Pi(max_agents=20),
    "pi at its wildest": lambda: Pi(gain=1.0, integral_s=0.1, hit_gain=1e9, max_agents=20),
}


def budgets_of(controller: Controller, story) -> list[Budget]:
    now, budgets = 1000.0, []
    for pool, engine, step_s in story:
        now += step_s
        budgets.append(controller.decide(pool, engine, now))
    return budgets


@pytest.mark.parametrize("kind", CONTROLLERS)
@at_any_speed
@given(story=stories)
def test_whatever_is_said_somebody_may_run_and_a_reason_is_given(kind, story):
    for budget in budgets_of(CONTROLLERS[kind](), story):
        assert budget.agents is None or (type(budget.agents) is int and budget.agents >= 1)
        assert budget.tokens is None
        assert budget.reason


@pytest.mark.parametrize("kind", [kind for kind in CONTROLLERS if kind not in {"none", "aimd"}])
@at_any_speed
@given(story=stories)
def test_no_budget_passes_its_upper_limit(kind, story):
    limit = {"aimd at every poll": 8 + 2 * len(story), "pi": 4096, "fixed:16": 16}.get(kind, 20)

    assert all(budget.agents <= limit for budget in budgets_of(CONTROLLERS[kind](), story))


@pytest.mark.parametrize("kind", CONTROLLERS)
@at_any_speed
@given(story=stories)
def test_two_that_are_told_the_same_answer_the_same(kind, story):
    assert budgets_of(CONTROLLERS[kind](), story) == budgets_of(CONTROLLERS[kind](), story)


@pytest.mark.parametrize("kind", CONTROLLERS)
@at_any_speed
@given(story=stories, start=st.sampled_from([0.0, 4096.0]))
def test_only_differences_of_time_mean_something(kind, story, start):
    whole_seconds = [(pool, engine, float(int(min(step_s, 1e6)))) for pool, engine, step_s in story]
    moved = budgets_of(_Later(CONTROLLERS[kind](), start), whole_seconds)

    assert moved == budgets_of(CONTROLLERS[kind](), whole_seconds)


class _Later:
    """A controller on a clock that started earlier."""

    name = "later"
    needs_metrics = False

    def __init__(self, controller, start):
        self.controller, self.start = controller, start

    def decide(self, pool, engine, now):
        return self.controller.decide(pool, engine, now + self.start)


@at_any_speed
@given(
    before=st.builds(
        Budget,
        agents=st.none() | st.integers(1, 100),
        tokens=st.none() | st.floats(1, 1e6),
        pause_turns=st.floats(0, 2),
        admit_turns=st.floats(2, 5),
    ),
    story=st.lists(st.tuples(pools, numbers, steps_s), max_size=20),
)
def test_no_budget_of_an_outage_passes_the_one_before_it(before, story):
    fallback, now, budget = Fallback(), 0.0, before
    fallback.failed(now)
    for pool, capacity, step_s in story:
        now += step_s
        budget = fallback.decide(pool, budget, capacity, now, "metrics gone")
        assert before.agents is None or budget.agents <= before.agents
        assert before.tokens is None or budget.tokens <= before.tokens
        assert budget.pause_turns >= before.pause_turns
        assert budget.admit_turns >= before.admit_turns
