"""At any await, a cancelled agent gives back what it holds, exactly once."""

from __future__ import annotations

import asyncio

import detangle
import pytest
from admission.lives import UPS_AND_DOWNS, Suspensions, full_life, govern, watch, watched_gate
from admission.stage import Stage, ended, settle

AGENTS = {"a": 200, "b": 300, "c": 150}
SITES = [*AGENTS, *(f"{name}-parallel-{n}" for name in AGENTS for n in range(2))]


def three_lives(site):
    """Run three agents with a watch over every step; tell how each of them ended."""

    async def main():
        gate = watched_gate(tokens=500)
        detangle.invariant(watch(gate).check)
        lives = [
            asyncio.create_task(site(full_life(gate, name, size, site), name), name=name)
            for name, size in AGENTS.items()
        ]
        governor = asyncio.create_task(govern(gate, *UPS_AND_DOWNS))
        ends = await asyncio.gather(*lives, return_exceptions=True)
        await governor
        watch(gate).check_empty()
        assert gate.current() is None
        return ends

    return detangle.run(main)


def awaits_of(victim):
    suspensions = Suspensions()
    assert three_lives(suspensions) == [None] * 3
    return suspensions.counts[victim]


def test_the_three_lives_meet_every_kind_of_wait():
    """Else the test below would promise more than it tries: three calls are three awaits, the rest is the gate's."""
    assert max(awaits_of(site) for site in SITES if "parallel" in site) > 3
    assert all(awaits_of(name) >= 9 for name in AGENTS)


@pytest.mark.parametrize("woken", [False, True], ids=["as it begins to wait", "as it is woken"])
@pytest.mark.parametrize("victim", SITES)
def test_cancelled_at_each_await_it_gives_back_exactly_what_it_held(victim, woken):
    for number in range(1, awaits_of(victim) + 1):
        ends = three_lives(Suspensions(victim, number, woken=woken))

        others = [end for name, end in zip(AGENTS, ends, strict=True) if name != victim[0]]
        assert others == [None, None], f"cancelled at await {number}"


@pytest.mark.parametrize("ticks", range(4))
async def test_who_is_cancelled_while_being_admitted_passes_the_place_on(ticks):
    stage = Stage(agents=1)
    here = await stage.enter("here")
    _, victim = await stage.ask("victim")
    await stage.waits("next")

    stage.finish(here)
    for _ in range(ticks):
        await asyncio.sleep(0)
    victim.cancel()
    await settle()

    if victim.cancelled():
        assert stage.active() == ["next"]
    else:
        assert stage.active() == ["victim"]


@pytest.mark.parametrize("ticks", range(4))
async def test_who_is_cancelled_while_resuming_keeps_its_place_and_runs_no_turn(ticks):
    """The agent lives on: only this turn was cancelled."""
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    turn = await stage.try_begin(small)

    stage.finish(big)
    for _ in range(ticks):
        await asyncio.sleep(0)
    turn.cancel()
    await settle()

    assert stage.states(small) == ["active"]
    assert small.running == (not turn.cancelled())
    if not turn.cancelled():
        stage.end(small)
    stage.finish(small)
    stage.admission.check_empty()


@pytest.mark.parametrize("ticks", range(4))
async def test_who_is_cancelled_while_its_held_turn_goes_on_runs_no_turn_more(ticks):
    stage = Stage(agents=2)
    small = await stage.turning("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    held = await stage.try_begin(small)

    stage.finish(big)
    for _ in range(ticks):
        await asyncio.sleep(0)
    held.cancel()
    await settle()

    assert small.running == 1 + (not held.cancelled())


async def test_a_cancelled_waiter_that_has_not_noticed_yet_does_not_count_as_running():
    stage = Stage(agents=2)
    small = await stage.enter("small", tokens=1)
    big = await stage.turning("big", tokens=2)
    stage.resize(agents=1)
    turns = [await stage.try_begin(small) for _ in range(2)]

    turns[0].cancel()
    stage.finish(big)

    assert small.running == 1
    await ended(turns[1])
    stage.end(small)
    assert stage.admission.running == 0


async def test_finishing_twice_gives_one_place_back():
    stage = Stage(agents=2)
    first = await stage.enter("first")
    await stage.enter("second")
    for name in "abc":
        await stage.waits(name)

    stage.finish(first, first, first)

    assert stage.active() == ["second", "a"]


async def test_ending_a_turn_of_an_agent_that_is_over_changes_nothing():
    stage = Stage(agents=1)
    first = await stage.turning("first")
    stage.finish(first)
    await stage.turning("second")

    stage.admission.end_turn(first)
    stage.admission.resize_place(first, 500, weighed=True)

    stage.admission.check()
    assert stage.admission.running == 1
    assert stage.admission.working_set == 0
