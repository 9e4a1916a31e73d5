"""What the engine costs, counted in calls of Python functions: clocks differ from machine to machine, calls do not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from concur_agents.simulation import Engine, LinearStepTime, Prompt, SchedulerLimits

if TYPE_CHECKING:
    from collections.abc import Callable


def calls_in(work: Callable[[], object]) -> int:
    """Calls of Python functions and built-ins while `work` runs."""
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(before)
    return calls


def decoding_engine(requests: int) -> Engine:
    limits = SchedulerLimits(max_num_batched_tokens=65_536, max_num_seqs=2000)
    engine = Engine(200_000, LinearStepTime(step=1.0), limits=limits)
    for name in range(requests):
        engine.submit(0.0, Prompt([(name, 40 + name % 16)]), 1000)
    engine.advance(10.0)
    return engine


def test_a_decoding_step_costs_the_same_for_ten_requests_as_for_a_thousand():
    few, many = decoding_engine(10), decoding_engine(1000)
    cost = calls_in(lambda: few.advance(500.0))
    assert calls_in(lambda: many.advance(500.0)) == cost
    assert many.counters.num_requests_running == 1000


def cost_of_turns(context: int, others: int) -> int:
    """Calls for the 21st turn of an agent, among idle agents with contexts of their own."""
    engine = Engine(400_000, LinearStepTime(step=1.0), max_model_len=400_000)
    now = 0.0
    for name in range(others):
        engine.submit(now, Prompt([("system", 1000), (name, 2000)]), 10)
        now += 100.0
    prompt = Prompt([("system", 1000), ("task", context)])
    for turn in range(20):
        engine.submit(now, prompt, 10, output_id=turn)
        prompt = prompt.then((turn, 4), (("tool", turn), 300))
        engine.advance(now := now + 1000.0)
    return calls_in(lambda: (engine.submit(now, prompt, 10, output_id="last"), engine.advance(now + 1000.0)))


@pytest.mark.parametrize(("context", "others"), [(1000 + 16 * 4000, 0), (1000, 500)])
def test_a_turn_costs_the_same_whatever_its_context_and_however_many_others_are_idle(context, others):
    # Both contexts end at the same place in a block, so that the same cuts are needed.
    assert cost_of_turns(context, others) == pytest.approx(cost_of_turns(1000, 0), abs=5)
