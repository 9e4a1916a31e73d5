"""Many steps planned together are the same steps one at a time, and asking changes nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.loads import Load, play, repeat

from concur_agents.simulation import SchedulerLimits

loads = st.builds(
    Load,
    seed=st.integers(0, 10**6),
    blocks=st.integers(30, 200),
    agents=st.integers(1, 12),
    longest_output=st.just(100),
    limits=st.builds(
        SchedulerLimits,
        max_num_batched_tokens=st.sampled_from([13, 64]),
        max_num_seqs=st.sampled_from([2, 8]),
        async_scheduling=st.booleans(),
    ),
    abort_share=st.sampled_from([0.0, 0.2]),
)


@given(loads)
@settings(max_examples=150, deadline=None)
def test_planning_ahead_gives_the_results_of_single_steps_to_the_last_digit(load):
    ahead, single = play(load), play(load, single=True)
    assert ahead.events == single.events
    assert ahead.engine.counters == single.engine.counters
    assert ahead.engine.evicted_blocks == single.engine.evicted_blocks
    assert ahead.engine.steps == single.engine.steps


@given(loads, st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_asking_at_other_times_changes_nothing(load, seed):
    played = play(load)
    end = max([time for time, _, _ in played.events], default=0.0)
    draw = random.Random(seed)
    times = [*sorted(draw.uniform(0, end) for _ in range(50)), end + 100]
    (*_, engine) = repeat(load, played, times)
    assert engine.counters == played.engine.counters
    assert engine.evicted_blocks == played.engine.evicted_blocks


@given(loads)
@settings(max_examples=50, deadline=None)
def test_no_event_comes_before_the_time_announced(load):
    announced = [0.0]

    def look(engine, now):
        announced.append(engine.next_event() or now)

    played = play(load, look=look)
    for event in played.events:
        assert event[0] in announced  # the driver only ever advances to times announced, or to its own


@pytest.mark.parametrize("seed", range(3))
def test_the_same_load_gives_the_same_events(seed):
    load = Load(seed, agents=10, limits=SchedulerLimits(max_num_seqs=8))
    assert play(load).events == play(load).events
