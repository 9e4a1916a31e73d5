"""What took turns and what ended: the two sums from which a controller tells how the working set will develop."""

from __future__ import annotations

import asyncio

import pytest
from admission.lives import turn, watch, watched_gate
from admission.stage import Stage

from concur_agents.simulation.virtual_time import run


def ended(stage):
    return stage.admission.view().ended_tokens


def turned(stage):
    return stage.admission.view().turn_tokens


async def reported(stage, name, tokens, **options):
    """An agent between two turns that has told its tokens."""
    place = await stage.turning(name, tokens=tokens, **options)
    stage.end(place, tokens)
    return place


async def test_each_turn_adds_what_its_agent_weighs_after_it():
    stage = Stage(tokens=10_000)
    a = await stage.turning("a", tokens=100)
    b = await stage.turning("b", tokens=1000)

    stage.end(a, tokens=150)
    stage.end(b, tokens=1200)
    await stage.begin(a)
    stage.end(a, tokens=180)

    assert turned(stage) == 150 + 1200 + 180


async def test_a_turn_that_made_no_call_adds_nothing():
    stage = Stage(tokens=10_000)
    a = await stage.turning("a", tokens=100)

    stage.admission.end_turn(a, counts=False)

    assert turned(stage) == 0


async def test_an_active_agent_that_is_over_gives_up_all_it_had_and_once():
    stage = Stage(tokens=10_000)
    a = await reported(stage, "a", 500)
    await reported(stage, "b", 300)

    stage.finish(a, a)

    assert ended(stage) == 500


async def test_a_shorter_context_gives_up_the_difference_and_a_longer_one_nothing():
    stage = Stage(tokens=10_000)
    a = await reported(stage, "a", 500)

    for tokens in (800, 200, 300, 300):
        await stage.begin(a)
        stage.end(a, tokens)

    assert ended(stage) == 600
    assert turned(stage) == 500 + 800 + 200 + 300 + 300


async def test_a_first_report_below_the_guess_gives_up_nothing():
    stage = Stage(tokens=10_000)
    a = await stage.turning("a", tokens=5000)

    stage.end(a, tokens=500)

    assert ended(stage) == 0
    assert turned(stage) == 500


async def test_the_shared_prefix_takes_no_turns_and_never_ends():
    stage = Stage(tokens=10_000)
    stage.kind("some").given_prefix = 100
    a, b = [await reported(stage, name, 400) for name in "ab"]
    await stage.begin(a)

    stage.end(a, 50)  # all of its own, and the prefix stays with the other
    stage.finish(b)

    assert ended(stage) == 300 + 300
    assert turned(stage) == 300 + 300 + 0


async def test_who_holds_no_place_has_nothing_to_give_up():
    """A paused, a lapsed and a queued agent end: none of them was in the working set."""
    stage = Stage(tokens=2000, tool_lease_s=0)
    lapsed = await reported(stage, "lapsed", 900)
    big = await stage.turning("big", tokens=1500)
    assert stage.states(lapsed, big) == ["lapsed", "active"]
    queued = await stage.waits("queued", tokens=900)
    await stage.try_begin(lapsed)
    assert stage.states(lapsed) == ["paused"]

    stage.finish(lapsed, queued)
    assert ended(stage) == 0

    stage.finish(big)
    assert ended(stage) == 1500


async def test_a_pause_is_no_end():
    stage = Stage(agents=2)
    small = await reported(stage, "small", 100)
    await stage.turning("big", tokens=200)
    stage.resize(agents=1)

    await stage.try_begin(small)

    assert stage.states(small) == ["paused"]
    assert ended(stage) == 0


async def test_a_loan_is_no_end_and_the_child_ends_for_itself():
    stage = Stage(agents=1)
    parent = await reported(stage, "parent", 500)
    child = await reported(stage, "child", 100, inside=parent)
    assert ended(stage) == 0

    stage.finish(child)
    assert ended(stage) == 100
    stage.finish(parent)

    assert ended(stage) == 100 + 500


@pytest.mark.parametrize("first", ["parent", "child"])
async def test_a_turn_that_outlives_its_agent_adds_nothing(first):
    stage = Stage(agents=2)
    parent = await reported(stage, "parent", 500)
    child = await stage.turning("child", tokens=100, inside=parent)
    before = turned(stage)
    stage.finish(*((parent, child) if first == "parent" else (child, parent)))

    stage.admission.end_turn(child)

    assert turned(stage) == before


def test_an_heir_gives_up_its_own_context_and_its_turns_weigh_all_that_their_place_holds():
    gate = watched_gate()

    async def main():
        async with gate.agent("parent") as parent:
            await turn(parent, 1000)
            async with gate.agent("heir") as heir:
                await turn(heir, 100)
                assert gate.totals.turn_tokens == 1010 + (1010 + 110)
            assert gate.totals.ended_tokens == 110
            await turn(parent, 2000)
            assert gate.totals.turn_tokens == 1010 + (1010 + 110) + 2010
        assert gate.totals.ended_tokens == 110 + 2010
        watch(gate).check_empty()

    run(main())


def test_contexts_beside_each_other_end_when_a_lone_turn_goes_on_from_them():
    gate = watched_gate()

    async def main():
        async with gate.agent() as agent:
            await turn(agent, 1000)
            await asyncio.gather(*(turn(agent, 1000) for _ in range(3)))
            assert gate.totals.ended_tokens == 0
            await turn(agent, 1490)
            assert gate.totals.ended_tokens == 3 * 1010 - 1500
        assert gate.totals.ended_tokens == 3 * 1010

    run(main())
