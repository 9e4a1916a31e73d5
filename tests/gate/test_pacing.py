"""Pacing with the real asyncio-throttle; it lives on the real clock, so its rate is read off and not waited for."""

from __future__ import annotations

import sys

import pytest

from concur_agents import ConcurGate, MissingExtra
from concur_agents.pacing import make_pacer
from concur_agents.simulation.virtual_time import run


@pytest.mark.parametrize("rate", [0.25, 1, 2.5, 40])
def test_no_more_turns_start_in_its_period_than_the_rate_allows(rate):
    pacer = make_pacer(rate)
    assert pacer.rate_limit >= 1
    assert pacer.rate_limit / pacer.period == pytest.approx(rate)


def test_each_turn_of_a_paced_gate_goes_through_it():
    gate = ConcurGate(controller="none", turns_per_second=1000)

    async def main():
        async with gate.agent() as agent:
            for _ in range(3):
                async with agent.turn():
                    pass

    run(main())
    assert len(gate.pacer._task_logs) == 3


def test_without_asyncio_throttle_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "asyncio_throttle.throttler", None)
    with pytest.raises(MissingExtra, match=r"concur-agents\[throttle\]"):
        ConcurGate(controller="none", turns_per_second=1)
